"""What crosses towards the upstream?  Only what stands in the call's own request; and here alone the key is added.

URLs are built from the configured origin and the call's target, which is made of constants and checked values.
"""

from collections.abc import Callable

import httpx

from gateway import __version__
from gateway.call import Call
from gateway.errors import UpstreamError
from gateway.upstream.seam import Outgoing

MAX_URLS = 4096


class Requests:
    """Makes requests to one origin."""

    def __init__(self, origin: str, key: Callable[[], str]) -> None:
        self._origin, self._key = httpx.URL(origin), key
        self._urls: dict[str, str] = {}
        self._constant = [
            ("host", self._origin.netloc.decode("ascii")),
            ("accept-encoding", "identity"),
            ("user-agent", f"tokenhot-gateway/{__version__}"),
        ]

    def of(self, call: Call) -> Outgoing:
        """The request for a call, complete."""
        asked = call.upstream
        headers = [
            *self._constant,
            ("authorization", f"Bearer {self._key()}"),
            *asked.headers,
            ("x-request-id", call.request_id),
        ]
        if asked.method != "GET":
            headers.append(("content-length", str(len(asked.body))))
        return Outgoing(asked.method, self._url(asked.target), headers, asked.body)

    def _url(self, target: str) -> str:
        url = self._urls.get(target)
        if url is None:
            whole = httpx.URL(f"{self._origin}".rstrip("/") + target)
            if not target.startswith("/") or _place(whole) != _place(self._origin):
                raise UpstreamError("The call would leave the upstream.")  # what carries the key goes nowhere else
            if len(self._urls) >= MAX_URLS:
                self._urls.clear()
            url = self._urls[target] = str(whole)
        return url


def _place(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port
