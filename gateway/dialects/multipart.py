"""What does a form say, if all its readers must read the same?

A multipart body is read in place and forwarded as it came: here are only the places of its parts.  Readers of forms
differ in what they forgive (bare line feeds, text around the parts, folded headers, repeated and escaped names), and in
which of two fields counts.  So a form passes only where there is nothing to forgive: each part stands between two exact
delimiters, has one name, and the form has one `model`.  Any doubt is a `BadRequest`.

The rules are those of RFC 2046, section 5.1.1, and RFC 7578, without their allowances.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, Self

from gateway.dialects.json_body import is_model_name, wrong_name
from gateway.errors import BadRequest, ModelMissing
from gateway.framing import FORM

MAX_PARTS = 200
MAX_HEAD_BYTES = 16 * 1024  # of one part
MAX_FIELD_BYTES = 64 * 1024  # of one part that is no file
MAX_TEXT_BYTES = 1024 * 1024  # of all those together
BLOCK_BYTES = 64 * 1024  # one search holds the interpreter until it is done, a hostile one for a millisecond

YES = frozenset({"true", "True", "1"})
CRLF = b"\r\n"
TRANSFER_ENCODINGS = frozenset({b"", b"binary", b"7bit", b"8bit"})  # which change nothing
CHARSETS = frozenset({b"utf-8", b"utf8", b"us-ascii"})

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]++"
# No quote may be escaped: some readers end the string there all the same.
_PARAMETER = re.compile(
    rb'[ \t]*+;[ \t]*+(%b)=(?:(%b)|"((?:[^"\\\x00-\x1f\x7f]|\\(?!["\x00-\x1f\x7f]))*+)")' % (_TOKEN, _TOKEN)
)
_LINE = re.compile(rb"(%b):[ \t]*+([^\x00-\x08\x0a-\x1f\x7f]*+)" % _TOKEN)
_BOUNDARY = re.compile(rb"[0-9A-Za-z'()+_,./:=? -]{0,69}[0-9A-Za-z'()+_,./:=?-]")
_NEEDS_QUOTES = re.compile(rb"[(),/:=? ]")
_OTHER_NAME = re.compile(rb"name\s*+\*?\s*+=", re.IGNORECASE)  # within a file's name: some readers split there
_LIKE_MODEL = re.compile(r"\W*+model(?!\w)", re.IGNORECASE)

NO_BOUNDARY = "The content type has no good boundary. Let the HTTP library write it: multipart/form-data; boundary=..."
NO_PARTS = "No part of a form is found in the body. Send multipart/form-data, as the content type says."
CUT = "The form has no closing delimiter. It was cut, or its boundary is not the one of the content type."
STRAY = "The boundary stands in the form where no part begins or ends, so that two readers could read two things."
NO_HEAD = "A part of the form has no good head: one Content-Disposition: form-data with one name, and plain lines."
TWICE = "A field stands twice in the form, so that two readers could read two things. Send it once."


class Part(NamedTuple):
    """One part: the bytes from `begin` to `end` of the body are its content."""

    name: str
    is_file: bool
    content_type: str  # as it says; "" where it does not
    begin: int
    end: int

    @property
    def size(self) -> int:
        return self.end - self.begin


class Form:
    """The parts of a body, in their order."""

    def __init__(self, body: bytes, boundary: bytes, parts: Sequence[Part]) -> None:
        self.parts = parts
        self._body, self._boundary = body, boundary

    @classmethod
    def read(cls, content_type: str, body: bytes) -> Self:
        """Read a body by its header's value.  Raises `BadRequest` and nothing else."""
        boundary = boundary_of(content_type)
        parts = [_part(body, begin, end) for begin, end in _spans(body, boundary)]
        form = cls(body, boundary, parts)
        if form.text_bytes > MAX_TEXT_BYTES:
            raise BadRequest(f"The fields of the form are larger than {MAX_TEXT_BYTES} bytes together.")
        return form

    @property
    def content_type(self) -> str:
        """What goes upstream as such: nothing but what was understood."""
        boundary = self._boundary.decode("ascii")
        return f"{FORM}; boundary=" + (f'"{boundary}"' if _NEEDS_QUOTES.search(self._boundary) else boundary)

    @property
    def model(self) -> str:
        """The one model that the form names.  Raises `ModelMissing` or `BadRequest`."""
        named = [part for part in self.parts if _LIKE_MODEL.match(part.name)]
        if len(named) > 1:
            raise BadRequest("The form names a model twice. Send one field `model`.")
        if not named or not named[0].size:
            raise ModelMissing("The form names no model. Add a field `model`; GET /v1/models lists the names.")
        if named[0].name != "model" or named[0].is_file:
            raise BadRequest("Write the field `model` in small letters, and not as a file.")
        model = self._body[named[0].begin : named[0].end].decode("latin-1")
        if not is_model_name(model):
            raise wrong_name()
        return model

    def text(self, name: str) -> str:
        """A field; "" where there is none.  Raises `BadRequest` for two of the name, and for what is no text."""
        found = [part for part in self.parts if part.name == name and not part.is_file]
        if len(found) > 1:
            raise BadRequest(TWICE)
        try:
            return self._body[found[0].begin : found[0].end].decode() if found else ""
        except UnicodeDecodeError:
            raise BadRequest(f"The field `{name}` is not UTF-8.") from None

    def is_true(self, name: str) -> bool:
        """Whether a field says yes.  Raises as `text` does."""
        return self.text(name) in YES

    @property
    def text_bytes(self) -> int:
        """Of all fields together."""
        return sum(part.size for part in self.parts if not part.is_file)

    def files(self, name: str) -> list[Part]:
        """The files of a name, alone or in a list: `image`, `image[]`, `image[3]`."""
        return [part for part in self.parts if part.is_file and part.name.partition("[")[0] == name]


def boundary_of(content_type: str) -> bytes:
    """The boundary that a header's value names.  Raises `BadRequest`."""
    kind, semicolon, rest = content_type.partition(";")
    parameters = _parameters((semicolon + rest).encode("latin-1", "replace"))
    boundary = (parameters or {}).get(b"boundary", b"")
    is_split = any(name.startswith(b"boundary*") for name in parameters or ())  # RFC 2231's ways to write it
    if kind.strip().lower() != FORM or is_split or not _BOUNDARY.fullmatch(boundary):
        raise BadRequest(NO_BOUNDARY)
    return boundary


def _spans(body: bytes, boundary: bytes) -> list[tuple[int, int]]:
    """Where each part begins, with its head, and ends.  Raises `BadRequest`."""
    mark, spans, begin = b"--" + boundary, list[tuple[int, int]](), -1
    if _NEEDS_QUOTES.search(boundary) and next(_places(body, b'--"' + boundary), None) is not None:
        raise BadRequest(STRAY)  # a reader that takes the quotes for a part of it would begin here
    for at in _places(body, mark):
        behind = at + len(mark)
        if begin < 0:
            if at and not (at == len(CRLF) and body.startswith(CRLF)):
                raise BadRequest(NO_PARTS)
        elif not body.endswith(CRLF, 0, at):
            raise BadRequest(STRAY)
        else:
            spans.append((begin, at - len(CRLF)))
        if body.startswith(b"--", behind):
            if not spans or body[behind + 2 : behind + 5] not in {b"", CRLF}:
                raise BadRequest(STRAY if spans else NO_PARTS)
            return spans
        if not body.startswith(CRLF, behind):
            raise BadRequest(STRAY)
        if len(spans) >= MAX_PARTS:
            raise BadRequest(f"The form has more than {MAX_PARTS} parts. No API has as many.")
        begin = behind + len(CRLF)
    raise BadRequest(NO_PARTS if begin < 0 else CUT)


def _places(body: bytes, mark: bytes) -> Iterator[int]:
    """Where something stands in a body."""
    at = 0
    while at < len(body):
        found = body.find(mark, at, at + BLOCK_BYTES + len(mark) - 1)
        if found < 0:
            at += BLOCK_BYTES
        else:
            yield found
            at = found + len(mark)


def _part(body: bytes, begin: int, end: int) -> Part:
    """Read the head of a part.  Raises `BadRequest`."""
    head_end = body.find(CRLF + CRLF, begin, min(end, begin + MAX_HEAD_BYTES + 4))
    content = head_end + 4
    if head_end < 0:
        raise BadRequest(NO_HEAD)
    lines = _lines(body[begin:head_end])
    kind, semicolon, rest = lines.get(b"content-disposition", b"").partition(b";")
    parameters = _parameters(semicolon + rest)
    if kind.strip().lower() != b"form-data" or parameters is None:
        raise BadRequest(NO_HEAD)
    name = _name_of(parameters)
    is_file = any(one.partition(b"*")[0] == b"filename" for one in parameters)
    _check_content(lines, end - content, is_file=is_file)
    return Part(name, is_file, lines.get(b"content-type", b"").decode("latin-1"), content, end)


def _lines(head: bytes) -> Mapping[bytes, bytes]:
    """The header lines of a part, by name in lower case; each may stand once.  Raises `BadRequest`."""
    found = [_LINE.fullmatch(line) for line in head.split(CRLF)]
    lines = {line[1].lower(): line[2].strip() for line in found if line}
    if len(lines) < len(found):
        raise BadRequest(NO_HEAD)
    return lines


def _parameters(text: bytes) -> Mapping[bytes, bytes] | None:
    """The parameters of a header's value, by name in lower case; None where they are not written as they should."""
    at, parameters = 0, dict[bytes, bytes]()
    text = text.rstrip(b" \t")
    while at < len(text):
        found = _PARAMETER.match(text, at)
        if found is None or found[1].lower() in parameters:
            return None
        parameters[found[1].lower()] = found[2] if found[3] is None else found[3]
        at = found.end()
    return parameters


def _name_of(parameters: Mapping[bytes, bytes]) -> str:
    """The name of a part, which nothing escapes and nothing else repeats.  Raises `BadRequest`."""
    name = parameters.get(b"name", b"")
    doubtful = any(one.startswith(b"name*") or _OTHER_NAME.search(value) for one, value in parameters.items())
    if not name or doubtful or b"\\" in name or b"%" in name:
        raise BadRequest(NO_HEAD)
    try:
        decoded = name.decode()
    except UnicodeDecodeError:
        raise BadRequest(NO_HEAD) from None
    if decoded == "_charset_" or not decoded.isprintable():  # RFC 7578, section 4.6: it would change all other fields
        raise BadRequest(NO_HEAD)
    return decoded


def _check_content(lines: Mapping[bytes, bytes], size: int, *, is_file: bool) -> None:
    """Look at how the content of a part is written.  Raises `BadRequest`."""
    length, encoding = lines.get(b"content-length", b"%d" % size), lines.get(b"content-transfer-encoding", b"")
    if size < 0 or length != b"%d" % size or encoding.lower() not in TRANSFER_ENCODINGS:
        raise BadRequest(NO_HEAD)
    kind, semicolon, rest = lines.get(b"content-type", b"").lower().partition(b";")
    if kind.startswith((b"multipart/", b"message/")):
        raise BadRequest("A part of the form is a form or a message itself.")
    if is_file:
        return
    parameters = _parameters(semicolon + rest)
    if parameters is None or parameters.get(b"charset", b"utf-8") not in CHARSETS:
        raise BadRequest("A field of the form is not said to be UTF-8.")
    if size > MAX_FIELD_BYTES:
        raise BadRequest(f"A field of the form is larger than {MAX_FIELD_BYTES} bytes. Send files with a file name.")
