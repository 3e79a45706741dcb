"""What the dialect tests ask with: a request's head and a caller."""

from collections.abc import Callable
from typing import TypeAlias

import pytest

from gateway.asgi.headers import Headers
from gateway.asgi.request import Request
from gateway.config.clients import Client

Ask: TypeAlias = Callable[..., Request]


@pytest.fixture(scope="session")
def ask() -> Ask:
    """Make the head of a request."""

    def make(path: bytes, http_method: str = "POST", query: bytes = b"", **headers: str) -> Request:
        raw = [(name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in headers.items()]
        return Request(http_method=http_method, raw_path=path, query=query, headers=Headers(raw), request_id="r-1")

    return make


@pytest.fixture(scope="session")
def client() -> Client:
    """A caller who may use every Gemini model."""
    return Client(name="design", key_sha256=("0" * 64,), models=("gemini-*",))
