"""How is Anthropic's Messages API spoken?

The model stands in the body, and an answer is JSON or server-sent events with names, by which its SDKs read them: both
pass as they come.
"""

from typing import Final

from msgspec import structs

from gateway.asgi import Request
from gateway.call import Call, Framing, Meter, Plan, Route
from gateway.dialects.anthropic.body import read_body
from gateway.dialects.anthropic.meter import CountMeter, MessageMeter
from gateway.dialects.anthropic.operations import COUNT_TOKENS, TAILS
from gateway.dialects.askers import is_anthropics
from gateway.dialects.json_body import is_true, members_of, model_of
from gateway.dialects.model_lists import ANTHROPIC_MODELS, list_plan, list_route
from gateway.dialects.paths import pattern_of
from gateway.errors import ANTHROPIC as SHAPE
from gateway.framing import AsItCame

__all__ = ["ANTHROPIC"]

BETA: Final = "beta=true"
_PATH: Final = pattern_of(TAILS)


class Anthropic:
    """The dialect, as the pipeline uses it."""

    name: Final = "anthropic"
    errors: Final = SHAPE
    models: Final = ANTHROPIC_MODELS

    def route(self, request: Request) -> Route | None:
        """Say what the path asks for; None when it is none of ours."""
        if (found := _PATH.fullmatch(request.raw_path)) is None:
            return list_route(self, request) if is_anthropics(request) else None
        tail = found["tail"].decode()
        return Route(dialect=self, operation=TAILS[tail], target=f"/v1/{tail}")

    def plan(self, route: Route, request: Request, body: bytes) -> Plan:
        """Say what the body adds.  Raises `BadRequest` and `ModelMissing`."""
        if route.operation.lists:
            return list_plan(route, request)
        members = members_of(body)
        model = model_of(members)
        asked = read_body(body, members)
        generates = route.operation is not COUNT_TOKENS
        return Plan(
            model=model,
            stream=generates and is_true(members, "stream"),
            query=BETA if BETA.encode() in request.query.split(b"&") else "",
            demand=structs.replace(asked.demand, generates=generates),
            cacheable=asked.repeatable,
        )

    def framing(self, call: Call, content_type: str) -> Framing:  # noqa: ARG002  the answer itself says what it is
        """JSON or events, as they come: a relay may answer with either, whatever was asked."""
        return AsItCame(content_type, done=False)

    def meter(self, call: Call) -> Meter:
        """Make the reader of this call's answer."""
        keeps = call.plan.cacheable and call.client.cache != "off"
        return CountMeter(keeps=keeps) if call.operation is COUNT_TOKENS else MessageMeter(keeps=keeps)


ANTHROPIC: Final = Anthropic()
