"""How is Google's own API spoken, as the vendor serves it under /v1beta?

Paths say what is asked for, `plan` reads the body, a meter reads the answer; lists have a module of their own.
"""

import re
from typing import Final
from urllib.parse import parse_qs, quote

from msgspec import structs

from gateway.asgi import Request
from gateway.call import Call, Framing, Meter, Plan, Route
from gateway.dialects.gemini import lists
from gateway.dialects.gemini.body import read_body
from gateway.dialects.gemini.meter import GeminiMeter
from gateway.dialects.gemini.operations import LIST_FOR_OPENAI, LIST_MODELS, STREAM
from gateway.dialects.gemini.paths import ROOT, place_of
from gateway.dialects.links import IMAGE_MODEL
from gateway.errors import GOOGLE
from gateway.framing import Undecided, Whole

__all__ = ["GEMINI", "LIST_FOR_OPENAI", "LIST_MODELS", "ROOT", "lists"]

EVENTS = "alt=sse"

_PAGING: Final = {"pageSize": re.compile(r"\d{1,6}", re.ASCII), "pageToken": re.compile(r"[!\"$%'-~]{1,2048}")}


class Gemini:
    """The dialect, as the pipeline uses it."""

    name: Final = "gemini"
    errors: Final = GOOGLE

    def route(self, request: Request) -> Route | None:
        """Say what the path asks for; None when it is none of ours."""
        place = place_of(request)
        if place is None:
            return None
        operation, target, model, refusal = place
        return Route(dialect=self, operation=operation, target=target, model=model, refusal=refusal)

    def plan(self, route: Route, request: Request, body: bytes) -> Plan:
        """Say what the body adds.  One that is not JSON is the upstream's to refuse."""
        operation = route.operation
        query = parse_qs(request.query.decode("latin-1")) if request.query else {}
        demand = read_body(body)
        return Plan(
            model=route.model or "",
            stream=operation is STREAM,
            query=_query(route, query),
            demand=demand if operation.expects_usage else structs.replace(demand, generates=False),
        )

    def framing(self, call: Call, content_type: str) -> Framing:
        """What the answer is, whatever its content type says, and what it becomes by the caller's `alt`."""
        return Undecided(content_type, sse=call.plan.query == EVENTS) if call.stream else Whole(content_type)

    def meter(self, call: Call) -> Meter:
        """Make the reader of this call's answer."""
        pictures = call.plan.demand.image_output or IMAGE_MODEL.search(call.model) is not None
        generates = call.operation.expects_usage
        return GeminiMeter(generates=generates, pictures=pictures, keeps=call.client.cache != "off")


def _query(route: Route, query: dict[str, list[str]]) -> str:
    # The vendor's own sample says `alt=sse%2Fgemini-3-1-pro-preview`.
    if route.operation is STREAM and query.get("alt", [""])[0].startswith("sse"):
        return EVENTS
    if route.operation is not LIST_MODELS:
        return ""
    pairs = [(name, query[name][0]) for name in _PAGING if name in query]
    return "&".join(f"{name}={quote(value, safe='')}" for name, value in pairs if _PAGING[name].fullmatch(value))


GEMINI: Final = Gemini()
