"""How are pictures made and edited?"""

from typing import Final

from gateway.asgi import Request
from gateway.call import Call, Framing, Meter, Plan, Route
from gateway.dialects.json_body import members_of, model_of
from gateway.dialects.model_lists import OPENAI_MODELS
from gateway.dialects.multipart import Form
from gateway.dialects.openai.images_body import demand_of, demand_of_form, streams
from gateway.dialects.openai.images_meter import ImagesMeter
from gateway.dialects.openai.operations import IMAGES_TAILS, check_headers
from gateway.dialects.paths import pattern_of
from gateway.errors import OPENAI
from gateway.framing import AsItCame, is_form

_PATH: Final = pattern_of(IMAGES_TAILS)


class Images:
    """The dialect, as the pipeline uses it."""

    name: Final = "images"
    errors: Final = OPENAI
    models: Final = OPENAI_MODELS

    def route(self, request: Request) -> Route | None:
        """Say what the path asks for; None when it is none of ours."""
        if (found := _PATH.fullmatch(request.raw_path)) is None:
            return None
        tail = found["tail"].decode()
        return Route(dialect=self, operation=IMAGES_TAILS[tail], target=f"/v1/{tail}")

    def plan(self, route: Route, request: Request, body: bytes) -> Plan:
        """Say what the body adds.  Raises `BadRequest` and `ModelMissing`."""
        check_headers(route.operation, request)
        said = request.headers.get(b"content-type")
        return _form_plan(Form.read(said, body)) if is_form(said) else _json_plan(body)

    def framing(self, call: Call, content_type: str) -> Framing:  # noqa: ARG002  what comes passes as it is
        """What the answer is: JSON or events, whichever the upstream chose."""
        return AsItCame(content_type, done=True)

    def meter(self, call: Call) -> Meter:
        """Make the reader of this call's answer."""
        demand = call.plan.demand
        return ImagesMeter(due=1 if demand.up_to else demand.candidates, size=demand.size, quality=demand.quality)


def _json_plan(body: bytes) -> Plan:
    members = members_of(body)
    return Plan(model=model_of(members), stream=streams(members), demand=demand_of(members, body))


def _form_plan(form: Form) -> Plan:
    """A form is not kept: its boundary is another one each time."""
    return Plan(
        model=form.model,
        stream=form.is_true("stream"),
        content_type=form.content_type,
        demand=demand_of_form(form),
        cacheable=False,
    )


IMAGES: Final = Images()
