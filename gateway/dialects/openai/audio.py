"""How is speech made, and how is it written down?"""

from typing import Final

from gateway.asgi import Request
from gateway.call import Call, Demand, Framing, Meter, Plan, Route
from gateway.dialects.json_body import members_of, model_of
from gateway.dialects.model_lists import OPENAI_MODELS
from gateway.dialects.multipart import Form
from gateway.dialects.openai.audio_meter import AudioMeter
from gateway.dialects.openai.made import AUDIO_TOKENS_PER_SECOND
from gateway.dialects.openai.operations import AUDIO_TAILS, SPEECH, TRANSCRIPTIONS, check_headers
from gateway.dialects.paths import pattern_of
from gateway.errors import OPENAI
from gateway.framing import AsItCame, Opaque, is_json, is_page, is_sse

BYTES_PER_SECOND = 16_000  # of a recording whose length nobody tells

_PATH: Final = pattern_of(AUDIO_TAILS)


class Audio:
    """The dialect, as the pipeline uses it."""

    name: Final = "audio"
    errors: Final = OPENAI
    models: Final = OPENAI_MODELS

    def route(self, request: Request) -> Route | None:
        """Say what the path asks for; None when it is none of ours."""
        if (found := _PATH.fullmatch(request.raw_path)) is None:
            return None
        tail = found["tail"].decode()
        return Route(dialect=self, operation=AUDIO_TAILS[tail], target=f"/v1/{tail}")

    def plan(self, route: Route, request: Request, body: bytes) -> Plan:
        """Say what the body adds.  Raises `BadRequest` and `ModelMissing`."""
        check_headers(route.operation, request)
        if route.operation is SPEECH:
            return _speech(body)
        form = Form.read(request.headers.get(b"content-type"), body)
        recorded = sum(part.size for part in form.files("file"))
        return Plan(
            model=form.model,
            stream=route.operation is TRANSCRIPTIONS and form.is_true("stream"),
            content_type=form.content_type,
            demand=Demand(
                text_chars=form.text_bytes,
                tokens=-(-recorded // BYTES_PER_SECOND) * AUDIO_TOKENS_PER_SECOND,
            ),
        )

    def framing(self, call: Call, content_type: str) -> Framing | None:  # noqa: ARG002  what comes passes as it is
        """What the answer is: JSON, events, or bytes of whatever type the upstream says; no page."""
        if is_json(content_type) or is_sse(content_type):
            return AsItCame(content_type, done=True)
        return None if is_page(content_type) else Opaque(content_type)

    def meter(self, call: Call) -> Meter:
        """Make the reader of this call's answer."""
        return AudioMeter("audio" if call.operation is SPEECH else "text")


def _speech(body: bytes) -> Plan:
    """A speech is passed on as it is made, whether as bytes or as events."""
    return Plan(model=model_of(members_of(body)), stream=True, demand=Demand(text_chars=len(body)))


AUDIO: Final = Audio()
