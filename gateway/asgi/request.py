"""What is in the head of a request: method, path, query, headers, request id?"""

import random
import re
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Self

import msgspec

from gateway.asgi.headers import Headers

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


class Request(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The head of one request, as it was received."""

    http_method: str  # "GET", "POST", ...
    raw_path: bytes  # not decoded, without the query
    query: bytes  # without the question mark
    headers: Headers
    request_id: str  # the caller's where it is well-formed, else ours

    @classmethod
    def of(cls, scope: Scope) -> Self:
        headers = Headers(scope["headers"])
        return cls(
            http_method=scope["method"],
            raw_path=scope["raw_path"],
            query=scope["query_string"],
            headers=headers,
            request_id=request_id_of(headers),
        )

    @property
    def has_body(self) -> bool:
        return b"transfer-encoding" in self.headers or bool(self.content_length)

    @property
    def content_length(self) -> int | None:
        """As declared.  The parser has refused what is no number or over 64 bits, and has taken leading zeros."""
        length = self.headers.get(b"content-length").lstrip("0")
        return int(length or "0") if b"content-length" in self.headers else None


def request_id_of(headers: Headers) -> str:
    """The caller's where it is well-formed, else one of ours."""
    given = headers.get(b"x-request-id")
    return given if REQUEST_ID.fullmatch(given) else f"{random.getrandbits(96):024x}"  # unique, not secret
