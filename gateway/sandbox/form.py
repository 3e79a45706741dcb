"""How is a multipart body read?  It is split at its boundary; its megabytes are not looked at one by one."""

import re
from collections.abc import Sequence
from typing import NamedTuple, TypeVar

import msgspec

T = TypeVar("T")

_BOUNDARY = re.compile(rb'multipart/form-data\s*;.*boundary="?([^";,\s]+)"?', re.IGNORECASE | re.DOTALL)
_DISPOSITION = re.compile(rb"content-disposition:\s*form-data((?:;[^\r\n]*)?)", re.IGNORECASE)
_PARAMETER = re.compile(rb';\s*(name|filename)="((?:[^"\\]|\\.)*)"')
_INDEX = re.compile(r"\[\d*\]$")  # image[] and image[3] are lists named image


class Part(NamedTuple):
    """One part of a form."""

    name: str
    filename: str | None  # None: a text
    data: bytes


class Form:
    """The fields of a form.  Of two texts of one name the first counts."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self._parts = parts

    @property
    def texts(self) -> dict[str, str]:
        """Every text by its name."""
        texts = [part for part in self._parts if part.filename is None]
        return {part.name: part.data.decode(errors="replace") for part in reversed(texts)}

    def listed(self, name: str) -> list[str]:
        """All texts of a list: `name[]`, or `name` again and again."""
        return [part.data.decode(errors="replace") for part in self._of(name) if part.filename is None]

    def files(self, name: str) -> list[bytes]:
        """All files of that name, `name[]` and `name[N]` included, in order."""
        return [part.data for part in self._of(name) if part.filename is not None]

    def read_as(self, kind: type[T]) -> T:
        """The texts as a value of that type.  `ValueError` when they do not fit."""
        try:
            return msgspec.convert(self.texts, kind, strict=False)
        except msgspec.MsgspecError as error:
            raise ValueError(str(error)) from None

    def _of(self, name: str) -> list[Part]:
        return [part for part in self._parts if _INDEX.sub("", part.name) == name]


def is_form(content_type: bytes) -> bool:
    """Whether a body is a form, by its content type."""
    return content_type.lower().startswith(b"multipart/")


def read(body: bytes, content_type: bytes) -> Form:
    """A multipart body.  `ValueError` when it is none."""
    match = _BOUNDARY.match(content_type)
    if not match:
        raise ValueError("no multipart boundary param in Content-Type")
    _preamble, *pieces = (b"\r\n" + body).split(b"\r\n--" + match[1])
    if not pieces or not pieces[-1].startswith(b"--"):
        raise ValueError("multipart: NextPart: EOF")
    return Form([_part(piece) for piece in pieces[:-1]])


def _part(piece: bytes) -> Part:
    head, found, data = piece.partition(b"\r\n\r\n")
    disposition = _DISPOSITION.search(head)
    named = dict(_PARAMETER.findall(disposition[1])) if found and disposition else {}
    if b"name" not in named:
        raise ValueError("multipart: a part has no name")
    filename = named.get(b"filename")
    return Part(named[b"name"].decode(errors="replace"), filename and filename.decode(errors="replace"), data)
