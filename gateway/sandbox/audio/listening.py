"""How is sound written down?  `POST /v1/audio/transcriptions` and `/v1/audio/translations`."""

import msgspec

from gateway.sandbox import channel, form, wire
from gateway.sandbox.audio import transcript, written
from gateway.sandbox.audio.sounds import measured
from gateway.sandbox.audio.transcript import Transcript
from gateway.sandbox.call import Call
from gateway.sandbox.refusals import refusal
from gateway.sandbox.wire import Answer

TRANSLATIONS = "/v1/audio/translations"
PATHS = frozenset({"/v1/audio/transcriptions", TRANSLATIONS})
_MOST_BYTES = 25 * 1024 * 1024


class _Request(msgspec.Struct):
    """What is read of the texts of a form; every other field is skipped."""

    model: str = ""
    prompt: str = ""
    language: str = "english"
    response_format: str = "json"
    stream: bool = False


def answer(call: Call) -> Answer:
    """The answer to a request on one of `PATHS`.  `ValueError` when it cannot be understood."""
    sent = form.read(call.body, call.content_type)
    request = sent.read_as(_Request)
    if refused := channel.refused(call, request.model, "transcription"):
        return refused
    if not (files := sent.files("file")):
        raise ValueError("file is required")
    if len(files[0]) > _MOST_BYTES:
        return refusal(413, f"Maximum content size limit ({_MOST_BYTES}) exceeded", call.record)
    words = "word" in sent.listed("timestamp_granularities")
    return _answered(call, request, _heard(call, request, files[0]), words=words)


def _heard(call: Call, request: _Request, data: bytes) -> Transcript:
    """What was heard, and what it costs; the log has the truth, whatever a fault makes of it."""
    sound = measured(data)
    segments = transcript.heard(data, sound, request.prompt, translated=call.record.path == TRANSLATIONS)
    heard = Transcript(
        segments=segments,
        sound=sound,
        tokens=transcript.cost(segments, sound, request.prompt),
        usage_kind=_usage_kind(request),
        language=request.language,
    )
    call.record.seconds = sound.seconds
    call.record.tokens = heard.tokens.kinds() if heard.usage_kind == "tokens" else None
    return call.fault.change_transcript(heard) if call.fault else heard


def _usage_kind(request: _Request) -> transcript.Kind | None:
    """Whisper is sold by the second, and says so in one format only."""
    if not request.model.startswith("whisper"):
        return "tokens"
    return "duration" if request.response_format == "verbose_json" else None


def _answered(call: Call, request: _Request, heard: Transcript, *, words: bool) -> Answer:
    can_stream = call.record.path != TRANSLATIONS and not request.model.startswith("whisper")
    asked = call.record.stream = can_stream and request.stream
    if call.fault.streams(asked=asked) if call.fault else asked:
        return wire.framed(written.frames(heard), call.gap)
    return written.whole(heard, request.response_format, words=words, translated=call.record.path == TRANSLATIONS)
