"""How is a JSON body read?  By the fields that a type names; all others are skipped."""

from typing import TypeVar

import msgspec

T = TypeVar("T")


def decoded(body: bytes, kind: type[T]) -> T:
    """A body as a value of that type.  `ValueError` when it is not JSON of this shape."""
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise ValueError(str(error)) from None
