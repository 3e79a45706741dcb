"""What is wrong, as an error of the upstream's tells it?

One relay answers any of four shapes on any route: OpenAI's, its own for tasks, and those of Google and Anthropic that
it passes on.  All are read here, once, into a `Fault`; how the caller reads it is the business of the caller's
shape.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

import msgspec

from gateway.errors import Fault, FaultKind, ShapeName
from gateway.framing import decoded
from gateway.upstream.causes import Cause, cause_of
from gateway.upstream.redact import redacted

MAX_WORDS, MAX_CHARS = 2_000, 32_000
MAX_READ_BYTES = 256 * 1024  # a larger error body is not looked into: it is nobody's message
QUOTA_SPENT, MODEL_NOT_FOUND = "insufficient_user_quota", "model_not_found"  # the vendor's codes
OVERLOADED = frozenset({429, 503, 529})

# What Google's status words mean where no code stands beside them.
CODES: Mapping[str, str] = {
    "RESOURCE_EXHAUSTED": "429",
    "UNAVAILABLE": "503",
    "NOT_FOUND": "404",
    "INVALID_ARGUMENT": "400",
}
# The same for Anthropic's types, whose errors have no code at all: https://docs.anthropic.com/en/api/errors.
TYPES: Mapping[str, str] = {
    "invalid_request_error": "400",
    "authentication_error": "401",
    "permission_error": "403",
    "not_found_error": "404",
    "request_too_large": "413",
    "rate_limit_error": "429",
    "api_error": "500",
    "timeout_error": "504",
    "overloaded_error": "529",
}

_JSON = msgspec.json.Decoder[Any]()
_SAID = msgspec.json.Decoder(tuple[str, str, str, list[Any]])
_SECONDS = re.compile(r"(\d{1,6}(?:\.\d{1,9})?)s")
_RETRY_AFTER = re.compile(r"\d{1,9}|\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT", re.ASCII)  # RFC 9110, section 10.2.3


def fault_of(
    status: int, content_type: str, body: bytes, secret: str, *, retry_after: str = "", should_retry: str = ""
) -> Fault:
    """Read an error; the last two are values of headers.  The secret stands nowhere in what is returned."""
    is_large = len(body) > MAX_READ_BYTES  # nobody's message: at most its beginning is passed on
    body = redacted(body[:MAX_READ_BYTES] if is_large else _first_of(body), secret)
    parsed = None if is_large else _parsed(body)
    plain = msgspec.json.encode(parsed)  # without escapes, which could hide the secret
    clean = redacted(plain, secret)
    if clean is not plain:
        parsed = _parsed(clean)
    cause = cause_of(parsed)
    message, word, named, details = _without(
        secret,
        (cause.message or _plain_text(content_type, body, parsed))[:MAX_CHARS],
        cause.status,
        cause.code,
        cause.details,
    )
    return Fault(
        status=status,
        kind=_kind(status, _code_of(cause)),
        code=named,
        message=message,
        details=details,
        word=word,
        number=cause.number,
        quoted=cause.quoted,
        retry_after=_seconds(retry_after, cause),
        should_retry=should_retry if should_retry in {"true", "false"} else "",
        retry_header=retry_after if _RETRY_AFTER.fullmatch(retry_after) else "",
        shape=_shape(parsed, status, quoted=cause.quoted) if clean is plain else "",
        body=body,
    )


def code_within(body: bytes) -> str:
    """The vendor's own code of an error body, or its cause's number; "" when there is none."""
    return _code_of(cause_of(_parsed(body) if len(body) <= MAX_READ_BYTES else None))


def _code_of(cause: Cause) -> str:
    if cause.quoted and cause.number is not None:
        return str(cause.number)
    return cause.code or CODES.get(cause.status, "") or TYPES.get(cause.kind, "")


def _kind(status: int, code: str) -> FaultKind:
    if status == 401:
        return "key"
    if status == 403 and QUOTA_SPENT in code:
        return "balance"
    if code == MODEL_NOT_FOUND:
        return "model"
    return "overloaded" if status in OVERLOADED else "other"


def _without(
    secret: str, message: str, word: str, code: str, details: list[Any] | None
) -> tuple[str, str, str, list[Any]]:
    """The same without the secret, which decoding may have brought to light."""
    said = msgspec.json.encode((message, word, code, details or []))
    clean = redacted(said, secret)
    if clean is said:
        return message, word, code, details or []
    try:
        return _SAID.decode(clean)
    except ValueError:  # it was a number
        return redacted(message.encode(), secret).decode(errors="replace"), "", "", []


def _seconds(header: str, cause: Cause) -> float | None:
    """How long the upstream asks to wait."""
    if header.isascii() and header.isdigit():
        return float(header)
    for detail in cause.details or ():
        delay = detail.get("retryDelay") if isinstance(detail, dict) else None
        if isinstance(delay, str) and (match := _SECONDS.fullmatch(delay)):
            return float(match[1])
    return None


def _first_of(body: bytes) -> bytes:
    """The first of several objects in one body: a limiter of the relay writes its refusal, and lets the call go on."""
    if _parsed(body) is not None or not body.lstrip().startswith(b"{"):
        return body
    text = body.decode("latin-1").lstrip()  # a character a byte
    try:
        _, end = json.JSONDecoder(strict=False).raw_decode(text)
    except (ValueError, RecursionError):
        return body
    return text[:end].encode("latin-1")


def _parsed(body: bytes) -> Any:
    try:
        return decoded(_JSON, body)
    except ValueError:
        return None


def _plain_text(content_type: str, body: bytes, parsed: Any) -> str:
    """A body that is its own message: whatever is called so, or is no JSON, no HTML and can be read."""
    text = body[:MAX_READ_BYTES].decode(errors="replace").strip()
    if content_type.startswith("text/plain"):
        return text
    is_words = parsed is None and content_type != "text/html" and len(text) <= MAX_WORDS and text[:1] not in "<{["
    return text if is_words and "\ufffd" not in text and text.replace("\n", " ").isprintable() else ""


def _shape(parsed: Any, status: int, *, quoted: bool) -> ShapeName:
    """Whose the body is; `quoted`: Google's holds another error, which its callers are shown instead."""
    match parsed:
        case {"error": {"code": int() as code, "message": str(), "status": str() as word}}:
            return "google" if code == status and word and not quoted else ""
        case {"type": "error", "error": {"type": str(), "message": str()}}:
            return "anthropic"
        case {"error": {"message": str(), "type": _}}:
            return "openai"
        case {"code": str(), "message": str()}:
            return "task"
        case _:
            return ""
