"""How does an answer without a length end for a caller that speaks HTTP/1.0?

There are no chunks in HTTP/1.0 (RFC 9112, section 6.1): such an answer ends with its connection.  uvicorn would send
chunks all the same.
"""

from typing import Any

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from gateway.asgi.request import Receive, Scope, Send


class CloseDelimited:
    """An ASGI app around the real one, for one request whose connection closes in any case."""

    def __init__(self, app: Any, cycle: RequestResponseCycle) -> None:
        self._app, self._cycle = app, cycle
        self._has_length = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002  ASGI's signature
        await self._app(scope, receive, self._send)

    async def _send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self._has_length = any(name == b"content-length" for name, _ in message["headers"])
            self._cycle.chunked_encoding = None if self._has_length else False
        elif not self._has_length:  # uvicorn counts down what was announced
            self._cycle.expected_content_length = len(message.get("body", b""))
        await self._cycle.send(message)
