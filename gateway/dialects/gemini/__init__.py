"""How is Google's own API spoken, as the vendor serves it under /v1beta?

Paths say what is asked for, `read` makes a call of it, a meter reads the answer; errors and lists have a file each.
"""

import re
from typing import Final
from urllib.parse import parse_qs, quote

from gateway.asgi import Request
from gateway.call import Call, Demand, Meter
from gateway.config import Client
from gateway.dialects.dialect import Route
from gateway.dialects.gemini import errors, lists, paths
from gateway.dialects.gemini.body import read_body
from gateway.dialects.gemini.meter import GeminiMeter
from gateway.dialects.gemini.redact import redacted
from gateway.errors import google

__all__ = ["ROOT", "Gemini", "lists"]

ROOT = "/v1beta/models"
STREAM = "streamGenerateContent"
_IMAGE_MODEL = re.compile(r"image|banana", re.IGNORECASE)  # also of those that no catalogue knows yet

_PAGING: Final = {"pageSize": re.compile(r"\d{1,6}", re.ASCII), "pageToken": re.compile(r"[!\"$%'-~]{1,2048}")}


class Gemini:
    """The dialect, as the pipeline uses it."""

    name: Final = "gemini"

    route = staticmethod(paths.route)
    model = staticmethod(paths.model)
    read_body = staticmethod(read_body)
    error = staticmethod(google.written)
    redacted = staticmethod(redacted)
    normalize = staticmethod(errors.normalize)
    key_refused = staticmethod(errors.key_refused)
    retry_delay = staticmethod(errors.retry_delay)
    upstream_code = staticmethod(errors.upstream_code)

    def read(
        self,
        route: Route,
        model: str,
        request: Request,
        body: bytes,
        client: Client,
        *,
        deadline: float,
        demand: Demand | None = None,
    ) -> Call:
        """Understand one request.  Path and query are built from constants, the checked model and checked values."""
        query = parse_qs(request.query.decode("latin-1")) if request.query else {}
        stream = route.method == STREAM
        # The vendor's own sample says `alt=sse%2Fgemini-3-1-pro-preview`.
        sse = stream and query.get("alt", [""])[0].startswith("sse")
        acts = route.method in paths.ACTIONS
        return Call(
            client=client,
            method=route.method,
            model=model,
            path=f"{ROOT}/{model}:{route.method}" if acts else ROOT,
            query=_query(route, query, sse=sse),
            accept=request.headers.get(b"accept") or "*/*",
            body=body,
            stream=stream,
            sse=sse,
            demand=demand or read_body(body),
            request_id=request.request_id,
            deadline=deadline,
            cache_control=", ".join(request.headers.all(b"cache-control")).lower(),
        )

    def meter(self, call: Call) -> Meter:
        """Make the reader of this call's answer."""
        pictures = call.demand.image_output or _IMAGE_MODEL.search(call.model) is not None
        return GeminiMeter(generates=call.generates, pictures=pictures, keeps=call.client.cache != "off")


def _query(route: Route, query: dict[str, list[str]], *, sse: bool) -> str:
    if sse:
        return "alt=sse"
    if route.method != "listModels" or route.openai_list:
        return ""
    pairs = [(name, query[name][0]) for name in _PAGING if name in query]
    return "&".join(f"{name}={quote(value, safe='')}" for name, value in pairs if _PAGING[name].fullmatch(value))
