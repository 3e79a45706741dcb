"""How are the upstream's errors passed on?

Google's shape, so that Google's own SDKs raise their own exceptions and wait as told.  The vendor speaks OpenAI's
shape on these routes too; its message and code are kept and put into Google's.
"""

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from gateway.dialects.gemini.causes import MAX_MESSAGE_CHARS, Cause, cause_of
from gateway.dialects.gemini.redact import redacted
from gateway.dialects.gemini.wire import decoded
from gateway.errors import DOMAIN, TYPES

MAX_WORDS = 2_000
MAX_READ_BYTES = 256 * 1024  # a larger error body is not looked into: it is nobody's message

STATUS_WORDS: Mapping[int, str] = {
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ABORTED",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    501: "UNIMPLEMENTED",
    502: "UNAVAILABLE",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
CODES: Mapping[str, str] = {
    "RESOURCE_EXHAUSTED": "429",
    "UNAVAILABLE": "503",
    "NOT_FOUND": "404",
    "INVALID_ARGUMENT": "400",
}
QUOTA_SPENT = "insufficient_user_quota"

_JSON = msgspec.json.Decoder[Any]()
_WORD = re.compile(r"[A-Z_]{2,40}")
_REQUEST_ID = re.compile(r"\(request id: [^()]*\)\s*$")
_SECONDS = re.compile(r"(\d{1,6}(?:\.\d{1,9})?)s")


def normalize(status: int, content_type: str, body: bytes, secret: str) -> bytes:
    """Write an error of the upstream's: untouched where it has Google's shape and does not hold the secret."""
    body = redacted(body, secret)
    parsed = _parsed(body)
    plain = msgspec.json.encode(parsed)  # without escapes, which could hide the secret
    clean = redacted(plain, secret)
    if clean is not plain:
        parsed = _parsed(clean)
    cause = cause_of(parsed)
    if clean is plain and not cause.quoted and _is_googles(parsed, status):
        return body
    message = _without_id(cause.message or _plain_text(content_type, body, parsed))
    details = list(cause.details or ())
    if not details or (cause.quoted and cause.code not in {"", str(cause.number)}):
        details.append(_error_info("UPSTREAM_ERROR", {"upstream_code": cause.code} if cause.code else {}))
    message = message[:MAX_MESSAGE_CHARS] or f"The upstream answered {status} and gave no readable reason."
    written = _written(status, _status_word(status, cause), message, details)
    return redacted(written, secret)


def key_refused(status: int, body: bytes) -> bool:
    """Whether the upstream refused our own key or balance."""
    return status == 401 or (status == 403 and QUOTA_SPENT in upstream_code(body))


def upstream_code(body: bytes) -> str:
    """The vendor's own code of an error body, or its cause's number; "" when there is none."""
    cause = cause_of(_parsed(body))
    if cause.quoted and cause.number is not None:
        return str(cause.number)
    return cause.code or CODES.get(cause.status, "")


def retry_delay(body: bytes) -> float | None:
    """Seconds to wait, where Google's RetryInfo says so."""
    for detail in cause_of(_parsed(body)).details or ():
        delay = detail.get("retryDelay") if isinstance(detail, dict) else None
        if isinstance(delay, str) and (match := _SECONDS.fullmatch(delay)):
            return float(match[1])
    return None


def _written(code: int, status: str, message: str, details: list[Any]) -> bytes:
    return msgspec.json.encode({"error": {"code": code, "status": status, "message": message, "details": details}})


def _without_id(message: str) -> str:
    """Leave the vendor's request id out: some clients read numbers out of the text."""
    return _REQUEST_ID.sub("", message).strip()


def _error_info(reason: str, metadata: Mapping[str, str]) -> dict[str, Any]:
    return {"@type": f"{TYPES}.ErrorInfo", "reason": reason, "domain": DOMAIN, "metadata": metadata}


def _parsed(body: bytes) -> Any:
    try:
        return decoded(_JSON, body) if len(body) <= MAX_READ_BYTES else None
    except ValueError:
        return None


def _plain_text(content_type: str, body: bytes, parsed: Any) -> str:
    """A body that is its own message: whatever is called so, or is no JSON, no HTML and can be read."""
    text = body[:MAX_READ_BYTES].decode(errors="replace").strip()
    if content_type.startswith("text/plain"):
        return text
    is_words = parsed is None and content_type != "text/html" and len(text) <= MAX_WORDS and text[:1] not in "<{["
    return text if is_words and "\ufffd" not in text and text.replace("\n", " ").isprintable() else ""


def _is_googles(parsed: Any, status: int) -> bool:
    match parsed:
        case {"error": {"code": int() as code, "message": str(), "status": str() as word}}:
            return code == status and word != ""
        case _:
            return False


def _status_word(status: int, cause: Cause) -> str:
    if (
        _WORD.fullmatch(cause.status)
        and cause.number in (None, status)
        and (cause.number or not cause.code or cause.quoted)
    ):
        return cause.status
    return STATUS_WORDS.get(status, "INVALID_ARGUMENT" if status < 500 else "INTERNAL")
