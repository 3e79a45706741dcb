"""How is text spoken?  `POST /v1/audio/speech`."""

from typing import Any

import msgspec

from gateway.sandbox import channel, speech, usage, wire
from gateway.sandbox.audio.sounds import FORMATS
from gateway.sandbox.body import decoded
from gateway.sandbox.call import Call
from gateway.sandbox.tokens import Tokens
from gateway.sandbox.wire import Answer, Event, Frame, base64_of

PATH = "/v1/audio/speech"
_LONGEST = 4096  # characters
_SLICE = speech.RATE  # bytes in one piece of the answer: half a second of PCM


class _Request(msgspec.Struct):
    """What is read of a request; every other field is skipped."""

    model: str = ""
    input: str = ""
    voice: str | dict[str, Any] = ""
    response_format: str | None = None
    stream_format: str | None = None


def answer(call: Call) -> Answer:
    """The answer to a request.  `ValueError` when it cannot be understood."""
    request = decoded(call.body, _Request)
    if refused := channel.refused(call, request.model, "speech"):
        return refused
    if not 1 <= len(request.input) <= _LONGEST or not request.voice:
        raise ValueError(f"There must be a voice, and an input of 1 to {_LONGEST} characters")
    kind = request.response_format or "mp3"
    if kind not in FORMATS:
        raise ValueError(f"The sandbox has no encoder for {kind!r}: it writes {', '.join(FORMATS)}")
    return _spoken(call, request, kind)


def _spoken(call: Call, request: _Request, kind: str) -> Answer:
    pcm = _pcm(call, request)
    tokens = Tokens(prompt=usage.tokens("TEXT", len(request.input)), completion=usage.tokens("AUDIO", len(pcm) // 2))
    call.record.seconds = len(pcm) / 2 / speech.RATE
    call.record.tokens = tokens.kinds() if request.model.startswith("gpt-") else None
    data = FORMATS[kind].write(pcm, request.input)
    slices = [data[at : at + _SLICE] for at in range(0, len(data), _SLICE)]
    asked = call.record.stream = request.stream_format == "sse"
    if call.fault.streams(asked=asked) if call.fault else asked:
        return wire.framed(_frames(slices, tokens, silent=bool(call.fault and call.fault.name == "nousage")), call.gap)
    return Answer(content_type=FORMATS[kind].content_type, chunks=slices, whole_at=len(slices) - 1, gap=call.gap)


def _pcm(call: Call, request: _Request) -> bytes:
    voice = request.voice if isinstance(request.voice, str) else str(request.voice.get("id"))
    pcm = speech.pcm(request.input, voice)
    if (size := call.size) is None:
        return pcm
    size -= size % 2
    return (pcm * (size // len(pcm) + 1))[:size]


def _frames(slices: list[bytes], tokens: Tokens, *, silent: bool) -> list[Frame]:
    """The sound as a stream of events; `silent` leaves the usage out."""
    deltas = [{"type": "speech.audio.delta", "audio": base64_of(each)} for each in slices]
    done: Event = {"type": "speech.audio.done"}
    if not silent:
        counts = {"input_tokens": tokens.prompt, "output_tokens": tokens.completion, "total_tokens": tokens.total}
        done["usage"] = counts
    framed = [Frame(event, name=str(event["type"])) for event in deltas]
    return [*framed, Frame(done, name=done["type"], usage=done.get("usage"), ends=True)]
