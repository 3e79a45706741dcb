"""How are the upstream's errors passed on?

Google's shape, so that Google's own SDKs raise their own exceptions and wait as told.  The vendor speaks OpenAI's
shape on these routes too; its message and code are kept and put into Google's.
"""

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from gateway.dialects.gemini.scrub import scrubbed
from gateway.dialects.gemini.wire import decoded
from gateway.google_shape import DOMAIN, TYPES

MAX_MESSAGE_CHARS = 16_000
MAX_CODE_CHARS = 128
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
QUOTA_SPENT = "insufficient_user_quota"

_JSON = msgspec.json.Decoder[Any]()
_WORD = re.compile(r"[A-Z_]{2,40}")
_REQUEST_ID = re.compile(r"\(request id: [^()]*\)\s*$")
_SECONDS = re.compile(r"(\d{1,6}(?:\.\d{1,9})?)s")


def mend(status: int, content_type: str, body: bytes, secret: str) -> bytes:
    """Write an error of the upstream's: untouched where it has Google's shape and does not hold the secret."""
    plain = msgspec.json.encode(_parsed(body))  # without escapes, which could hide the secret
    clean = scrubbed(plain, secret)
    parsed = _parsed(clean)
    if _is_googles(parsed, status) and clean is plain and scrubbed(body, secret) is body:
        return body
    told = _told(parsed)
    message = told.get("message")
    if not message and content_type.startswith("text/plain"):
        message = scrubbed(body[:MAX_READ_BYTES], secret).decode(errors="replace")
    if not isinstance(message, str) or not (message := _without_id(message)):
        message = f"The upstream answered {status} and gave no readable reason."
    details = told.get("details")
    if not isinstance(details, list) or not details:
        code = _code(told)
        details = [_error_info("UPSTREAM_ERROR", {"upstream_code": code} if code else {})]
    return _written(status, _status_word(status, told), message[:MAX_MESSAGE_CHARS], details)


def key_refused(status: int, body: bytes) -> bool:
    """Whether the upstream refused our own key or balance."""
    return status == 401 or (status == 403 and QUOTA_SPENT in upstream_code(body))


def upstream_code(body: bytes) -> str:
    """The vendor's own code of an error body; "" when there is none."""
    return _code(_told(_parsed(body)))


def retry_delay(body: bytes) -> float | None:
    """Seconds to wait, where Google's RetryInfo says so."""
    details = _told(_parsed(body)).get("details")
    for detail in details if isinstance(details, list) else []:
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


def _told(parsed: Any) -> dict[str, Any]:
    """The object that holds message and code, wherever it stands; Google wraps those of array streams in a list."""
    if isinstance(parsed, list) and len(parsed) == 1:
        parsed = parsed[0]
    if not isinstance(parsed, dict):
        return {}
    inner = parsed.get("error")
    if isinstance(inner, str):
        return {"message": inner}
    return inner if isinstance(inner, dict) else parsed


def _is_googles(parsed: Any, status: int) -> bool:
    match parsed:
        case {"error": {"code": int() as code, "message": str(), "status": str() as word}}:
            return code == status and word != ""
        case _:
            return False


def _code(told: Mapping[str, Any]) -> str:
    code = told.get("code")
    return str(code)[:MAX_CODE_CHARS] if isinstance(code, str | int | float) and not isinstance(code, bool) else ""


def _status_word(status: int, told: Mapping[str, Any]) -> str:
    word = told.get("status")
    if isinstance(word, str) and _WORD.fullmatch(word) and told.get("code") in (None, status):
        return word
    return STATUS_WORDS.get(status, "INVALID_ARGUMENT" if status < 500 else "INTERNAL")
