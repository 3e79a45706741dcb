"""What crosses towards the upstream?  Only what stands here; and here alone the key is added.

URLs are built from the configured origin and the call's own path, which is made of constants and a checked model.
"""

from collections.abc import Callable

import httpx

from gateway import __version__
from gateway.call import Call
from gateway.errors import UpstreamError
from gateway.upstream.seam import Outgoing

MAX_URLS = 4096
ROOT = "/v1beta/models"


class Requests:
    """Makes requests to one origin."""

    def __init__(self, origin: str, key: Callable[[], str]) -> None:
        self._origin, self._key = origin, key
        self._urls: dict[str, str] = {}
        self._constant = [
            ("host", httpx.URL(origin).netloc.decode("ascii")),
            ("accept-encoding", "identity"),
            ("user-agent", f"tokenhot-gateway/{__version__}"),
        ]

    def of(self, call: Call) -> Outgoing:
        """The request for a call, complete."""
        headers = [
            *self._constant,
            ("authorization", f"Bearer {self._key()}"),
            ("accept", call.accept),
            ("x-request-id", call.request_id),
        ]
        if call.http_method == "POST":
            headers += (("content-type", "application/json"), ("content-length", str(len(call.body))))
        return Outgoing(call.http_method, self._url(call), headers, call.body)

    def _url(self, call: Call) -> str:
        target = f"{call.path}?{call.query}" if call.query else call.path
        url = self._urls.get(target)
        if url is None:
            url = str(httpx.URL(self._origin + target))
            if not url.startswith(f"{self._origin}{ROOT}"):  # what carries the key goes nowhere else
                raise UpstreamError("The call would leave the upstream.")
            if len(self._urls) >= MAX_URLS:
                self._urls.clear()
            self._urls[target] = url
        return url
