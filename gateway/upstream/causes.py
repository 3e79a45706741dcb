"""What went wrong, as an error body tells it, in whatever shape?

Google's own, the vendor's, those of web frameworks, of OAuth and of RFC 9457.  Relays put an error that they received
themselves into the text of theirs, as JSON or as Python prints it, and so do theirs: the innermost one is the cause.
"""

import ast
import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from gateway.framing import decoded

MAX_MESSAGE_CHARS = 16_000
MAX_CODE_CHARS = 128
MAX_DEPTH = 12  # of errors within errors

INNER = ("error", "Error", "errors", "detail", "fault")
WORDS = (
    "message", "Message", "msg", "detail", "error_description", "errorMessage", "error_message", "description", "title",
    "reason",
)  # fmt: skip
CODES = ("code", "Code", "error_code", "errorCode")


_JSON = msgspec.json.Decoder[Any]()


class Cause(NamedTuple):
    """Why a call failed."""

    message: str = ""
    code: str = ""  # the vendor's own word, or the cause's number
    number: int | None = None  # the code, where it is one
    status: str = ""
    kind: str = ""  # its `type`
    details: list[Any] | None = None
    quoted: bool = False  # read within the text of another error


def cause_of(parsed: Any, depth: int = 0) -> Cause:
    """Find what a parsed body says."""
    if isinstance(parsed, list) and depth < MAX_DEPTH:
        return next((cause for one in parsed[:8] if (cause := cause_of(one, depth + 1)).message), Cause())
    if isinstance(parsed, str):
        return _quoted(parsed, Cause(message=parsed), depth)
    if not isinstance(parsed, dict) or depth >= MAX_DEPTH:
        return Cause()
    own = Cause(
        message=_first(parsed, WORDS),
        code=_code(parsed),
        number=_number(parsed.get("code")),
        status=_word(parsed.get("status")),
        kind=_word(parsed.get("type")),
        details=parsed["details"] if isinstance(parsed.get("details"), list) else None,
    )
    for name in INNER:
        if not (inner := parsed.get(name)) or not isinstance(inner, dict | list | str):
            continue
        if isinstance(inner, str) and own.message:
            # OAuth's word beside its description, or a title beside its detail.
            return _quoted(own.message, own if own.code or name == "detail" else own._replace(code=inner), depth)
        cause = cause_of(inner, depth + 1)
        if cause.message or cause.code or cause.details:
            return cause._replace(
                message=cause.message or own.message,
                code=cause.code or own.code,
                status=cause.status or own.status,
                details=cause.details or own.details,
            )
    return _quoted(own.message, own, depth)


def _quoted(text: str, outer: Cause, depth: int) -> Cause:
    """The error that stands in a text, if there is one; the outer one's code is the vendor's own."""
    begin, end = text.find("{"), text.rfind("}") + 1
    if begin < 0 or end <= begin or depth >= MAX_DEPTH or len(text) > MAX_MESSAGE_CHARS:
        return outer
    if begin and text[begin - 1] == "[" and text[end : end + 1] == "]":
        begin, end = begin - 1, end + 1
    inner = cause_of(_read(text, begin, end), depth + 1)
    if not inner.message:
        return outer
    keep = outer.code and outer.number is None
    return inner._replace(code=outer.code if keep else inner.code, details=inner.details or outer.details, quoted=True)


def _read(text: str, begin: int, end: int) -> Any:
    """What a text holds, as JSON or as Python prints it, in characters that can be written again."""
    for reads in (_as_json, _as_python):
        try:
            return decoded(_JSON, json.dumps(reads(text, begin, end), default=str).encode())
        except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
            continue
    return None


def _as_json(text: str, begin: int, _: int) -> Any:
    return json.JSONDecoder(strict=False).raw_decode(text, begin)[0]


def _as_python(text: str, begin: int, end: int) -> Any:
    if text[begin - 2 : begin] in ("b'", 'b"'):
        return json.loads(ast.literal_eval(text[begin - 2 : end + 1]))
    return ast.literal_eval(text[begin:end])


def _first(parsed: Mapping[str, Any], names: tuple[str, ...]) -> str:
    return next((value for name in names if isinstance(value := parsed.get(name), str) and value.strip()), "")


def _code(parsed: Mapping[str, Any]) -> str:
    for name in CODES:
        code = parsed.get(name)
        if isinstance(code, str | int | float) and not isinstance(code, bool) and code != "":
            return str(code)[:MAX_CODE_CHARS]
    return ""


def _number(code: Any) -> int | None:
    if isinstance(code, str) and code.isascii() and code.isdigit() and len(code) == 3:
        return int(code)
    return int(code) if isinstance(code, int | float) and not isinstance(code, bool) and 0 <= code < 1000 else None


def _word(status: Any) -> str:
    return status if isinstance(status, str) else ""
