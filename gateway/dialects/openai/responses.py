"""How is the Responses API asked and answered?"""

from collections.abc import Mapping
from typing import Final

from msgspec import Raw

from gateway.asgi import Request
from gateway.call import Call, Framing, Meter, Plan, Route
from gateway.dialects.json_body import is_true, members_of, model_of
from gateway.dialects.links import IMAGE_MODEL
from gateway.dialects.model_lists import OPENAI_MODELS
from gateway.dialects.openai import operations
from gateway.dialects.openai.body import demand_of, serves_tools
from gateway.dialects.openai.operations import RESPONSES_TAILS, check_headers
from gateway.dialects.openai.responses_meter import ResponsesMeter
from gateway.dialects.paths import pattern_of
from gateway.dialects.values import ABSENT
from gateway.errors import RESPONSES as ERRORS
from gateway.errors import BadRequest
from gateway.framing import AsItCame

NEVER_FETCHED = "A response in the background cannot be fetched here later. Leave `background` out, or add `stream`."
_PATH: Final = pattern_of(RESPONSES_TAILS)


class Responses:
    """The dialect, as the pipeline uses it."""

    name: Final = "responses"
    errors: Final = ERRORS
    models: Final = OPENAI_MODELS

    def route(self, request: Request) -> Route | None:
        """Say what the path asks for; None when it is none of ours."""
        if (found := _PATH.fullmatch(request.raw_path)) is None:
            return None
        tail = found["tail"].decode()
        return Route(dialect=self, operation=RESPONSES_TAILS[tail], target=f"/v1/{tail}")

    def plan(self, route: Route, request: Request, body: bytes) -> Plan:
        """Say what the body adds.  Raises `BadRequest` and `ModelMissing`."""
        check_headers(route.operation, request)
        members = members_of(body)
        model = model_of(members)
        stream = route.operation is operations.RESPONSES and is_true(members, "stream")
        if is_true(members, "background") and not stream:
            raise BadRequest(NEVER_FETCHED)
        return Plan(
            model=model,
            stream=stream,
            demand=demand_of(route.operation, members, body),
            cacheable=_stands_alone(members),
        )

    def framing(self, call: Call, content_type: str) -> Framing:  # noqa: ARG002  what comes passes as it is
        """What the answer is: JSON or events, whichever the upstream chose."""
        return AsItCame(content_type, done=False)

    def meter(self, call: Call) -> Meter:
        """Make the reader of this call's answer."""
        return ResponsesMeter(pictures=IMAGE_MODEL.search(call.model) is not None, keeps=call.client.cache != "off")


def _stands_alone(members: Mapping[str, Raw]) -> bool:
    """Whether the answer follows from the body alone, and nobody is to find it at the upstream later."""
    stored = bytes(members.get("store", ABSENT)) != b"false"  # which is what happens when nothing is said
    refers = any(bytes(members.get(name, b"null")) != b"null" for name in ("previous_response_id", "conversation"))
    return not (stored or refers or is_true(members, "background") or serves_tools(members))


RESPONSES: Final = Responses()
