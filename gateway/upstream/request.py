"""What crosses towards the upstream?  Only what stands here; and here alone the key is added.

URLs are built from the configured origin and the call's own path, which is made of constants and a checked model.
"""

from collections.abc import Callable

import httpx

from gateway import __version__
from gateway.call import Call
from gateway.errors import UpstreamError

MAX_URLS = 4096
ROOT = "/v1beta/models"


class Requests:
    """Makes requests to one origin."""

    def __init__(self, origin: str, key: Callable[[], str]) -> None:
        self._origin, self._key = origin, key
        self._urls: dict[str, httpx.URL] = {}
        self._constant = [
            (b"host", httpx.URL(origin).netloc),
            (b"accept-encoding", b"identity"),
            (b"user-agent", f"tokenhot-gateway/{__version__}".encode()),
        ]

    def of(self, call: Call) -> httpx.Request:
        """The request for a call.  The header list is complete: httpx adds nothing to a request with a stream."""
        headers = [
            *self._constant,
            (b"authorization", f"Bearer {self._key()}".encode()),
            (b"accept", call.accept.encode("latin-1")),
            (b"x-request-id", call.request_id.encode()),
        ]
        if call.http_method == "POST":
            headers += ((b"content-type", b"application/json"), (b"content-length", b"%d" % len(call.body)))
        return httpx.Request(
            call.http_method,
            self._url(call),
            headers=headers,
            stream=httpx.ByteStream(call.body),
        )

    def _url(self, call: Call) -> httpx.URL:
        target = f"{call.path}?{call.query}" if call.query else call.path
        url = self._urls.get(target)
        if url is None:
            url = httpx.URL(self._origin + target)
            if not str(url).startswith(f"{self._origin}{ROOT}"):  # what carries the key goes nowhere else
                raise UpstreamError("The call would leave the upstream.")
            if len(self._urls) >= MAX_URLS:
                self._urls.clear()
            self._urls[target] = url
        return url
