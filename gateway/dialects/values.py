"""How is one value of somebody's JSON read, whatever stands there?

Fields are `msgspec.Raw`: views into the message, so that base64 is passed over and never copied, and a value of a wrong
type harms nobody.  Each reader takes any value, and says nothing rather than raise.
"""

import re
from typing import Any, TypeVar

import msgspec
from msgspec import Raw

from gateway.framing import lenient

ABSENT = Raw()
INT32_MAX = 2**31 - 1  # the largest count that is believed
MAX_NUMBER_BYTES = 24

T = TypeVar("T")

_ANY = msgspec.json.Decoder[Any]()
_WORD = re.compile(rb'"([A-Za-z0-9][A-Za-z0-9*:._-]{0,31})"')


def many(value: list[T] | T | None) -> list[T]:
    """Give a list, whether one, several or none were sent."""
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def count_of(raw: Raw) -> int | None:
    """Read a count, also one in quotes or with a point; None when it is not a whole number that a count can be."""
    if not 0 < len(raw) <= MAX_NUMBER_BYTES:
        return None
    digits = bytes(raw)
    if not digits.isdigit():
        try:
            value = float(digits.strip(b'"'))
        except ValueError:
            return None
        return int(value) if 0 <= value <= INT32_MAX and value.is_integer() else None
    return value if (value := int(digits)) <= INT32_MAX else None


def number_of(raw: Raw) -> float:
    """Read a number, also one in quotes; 0 when it is not one that seconds can be."""
    try:
        value = float(bytes(raw).strip(b'"')) if len(raw) <= MAX_NUMBER_BYTES else 0.0
    except ValueError:
        return 0.0
    return value if 0 <= value <= INT32_MAX else 0.0


def plain_text(raw: Raw) -> str:
    """Read a short word, such as a size; "" where another value stands."""
    found = _WORD.fullmatch(raw)
    return found[1].decode() if found else ""


def enum_token(raw: Raw) -> bytes:
    """Read an enum or a MIME type in capitals; an integer enum as its digits, null as nothing."""
    value = bytes(raw).strip(b'"').upper()
    return b"" if value == b"NULL" else value


def is_empty(raw: Raw) -> bool:
    """Whether a value says nothing: relays write a whole error without a word in it where there is none."""
    left = [lenient(_ANY, raw)]
    while left:
        one = left.pop()
        if isinstance(one, dict | list):
            left += one.values() if isinstance(one, dict) else one
        elif one:
            return False
    return True
