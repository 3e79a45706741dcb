"""How are chat completions, completions and embeddings asked for and answered?"""

from typing import Final

from gateway.asgi import Request
from gateway.call import Call, Framing, Meter, Plan, Route
from gateway.dialects.json_body import is_true, members_of, model_of
from gateway.dialects.links import IMAGE_MODEL
from gateway.dialects.model_lists import OPENAI_MODELS
from gateway.dialects.openai.body import demand_of
from gateway.dialects.openai.chat_meter import ChatMeter
from gateway.dialects.openai.embeddings_meter import EmbeddingsMeter
from gateway.dialects.openai.operations import CHAT_TAILS, EMBEDDINGS, check_headers
from gateway.dialects.paths import pattern_of
from gateway.errors import OPENAI
from gateway.framing import AsItCame

_PATH: Final = pattern_of(CHAT_TAILS)


class Chat:
    """The dialect, as the pipeline uses it."""

    name: Final = "openai"
    errors: Final = OPENAI
    models: Final = OPENAI_MODELS

    def route(self, request: Request) -> Route | None:
        """Say what the path asks for; None when it is none of ours."""
        if (found := _PATH.fullmatch(request.raw_path)) is None:
            return None
        tail = found["tail"].decode()
        return Route(dialect=self, operation=CHAT_TAILS[tail], target=f"/v1/{tail}")

    def plan(self, route: Route, request: Request, body: bytes) -> Plan:
        """Say what the body adds.  Raises `BadRequest` and `ModelMissing`."""
        check_headers(route.operation, request)
        members = members_of(body)
        return Plan(
            model=model_of(members),
            stream=route.operation is not EMBEDDINGS and is_true(members, "stream"),
            demand=demand_of(route.operation, members, body),
            cacheable=not is_true(members, "store"),
        )

    def framing(self, call: Call, content_type: str) -> Framing:  # noqa: ARG002  what comes passes as it is
        """What the answer is: JSON or events, whichever the upstream chose."""
        return AsItCame(content_type, done=True)

    def meter(self, call: Call) -> Meter:
        """Make the reader of this call's answer."""
        if call.operation is EMBEDDINGS:
            return EmbeddingsMeter()
        demand = call.plan.demand
        return ChatMeter(
            choices=demand.candidates,
            pictures=demand.image_output or IMAGE_MODEL.search(call.model) is not None,
            keeps=call.client.cache != "off",
        )


CHAT: Final = Chat()
