"""What do transcripts and speech cost, are they complete, and what does a request ask for?"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.asgi.request import Request
from gateway.call import Call, Event, Kind, Modality, Source, State
from gateway.config.clients import Client
from gateway.config.models import Catalogue
from gateway.dialects.openai import AUDIO
from gateway.dialects.openai.audio_meter import AudioMeter
from gateway.errors.tree import BadRequest, ModelMissing
from gateway.framing import ENDED, AsItCame, Opaque
from gateway.limits.estimate import Estimate, estimate
from tests.support.calls import understood

RECORDED = Path(__file__).parent / "audio"
Ask = Callable[..., Request]
Tokens = dict[tuple[Kind, Modality], int]


def metered(*events: Any, output: Modality = "text") -> AudioMeter:
    """Show a meter whole events: JSON, or bytes as they are."""
    meter = AudioMeter(output)
    for event in events:
        meter.see(Event(b"", event if isinstance(event, bytes) else json.dumps(event).encode()))
    return meter


@pytest.mark.parametrize(
    ("name", "output", "tokens", "total", "seconds", "source"),
    [
        (
            "transcript",
            "text",
            {("input", "text"): 4, ("input", "audio"): 10, ("output", "text"): 5},
            19,
            0,
            "reported",
        ),
        ("duration", "text", {("input", "audio"): 288}, 288, 9, "estimated"),
        ("speech_crlf", "audio", {("input", "text"): 7, ("output", "audio"): 63}, 70, 0, "reported"),
    ],
)
def test_recorded_streams(
    name: str, output: Modality, tokens: Tokens, total: int, seconds: float, source: Source
) -> None:
    """U18: tokens are counted where they are told, and seconds else."""
    meter, framing = AudioMeter(output), AsItCame("text/event-stream", done=True)
    for _, event in [*framing.feed((RECORDED / f"{name}.sse").read_bytes()), *framing.end()]:
        if event is not None:
            assert "open" == meter.state
            meter.see(event)
    usage = meter.usage
    assert (tokens, total, seconds, source) == (usage.tokens, usage.total, usage.seconds, usage.source)
    assert ("complete", False) == (meter.state, meter.storable)


@pytest.mark.parametrize(
    ("answer", "state", "seconds", "source"),
    [
        ({"text": "Hello."}, "complete", 0, "none"), ({"text": "", "duration": 8.5, "segments": []}, "complete", 8.5, "estimated"),
        ({"text": "", "duration": "8.5"}, "complete", 8.5, "estimated"), ({"text": "", "duration": "long"}, "complete", 0, "none"),
        ({"text": "", "duration": -1}, "complete", 0, "none"), ({"text": "", "duration": 1e99}, "complete", 0, "none"),
        ({"text": "", "duration": 8, "usage": {"type": "duration", "seconds": 9}}, "complete", 9, "estimated"),
        ({"text": "", "usage": {"type": "tokens", "input_tokens": 4, "output_tokens": 1, "total_tokens": 5}}, "complete", 0, "reported"),
        ({"error": {"message": "no"}}, "failed", 0, "none"), ({"type": "error"}, "failed", 0, "none"),
        ({"type": "transcript.text.delta", "delta": "H"}, "open", 0, "none"), ({"type": "transcript.text.segment", "duration": 4}, "open", 0, "none"),
    ],
)  # fmt: skip
def test_answers(answer: Any, state: State, seconds: float, source: Source) -> None:
    """U4, U18: JSON is whole by itself, unless it is an event; the length of a recording says what it cost."""
    meter = metered(answer)
    assert (state, seconds, source) == (meter.state, meter.usage.seconds, meter.usage.source)


def test_bytes_are_whole_by_their_end() -> None:
    """U4, A4: bytes pass in the pieces in which they come, and their clean end is all that is known of them."""
    framing, meter = Opaque("audio/mpeg"), AudioMeter("audio")
    assert [(b"ID3", None)] == framing.feed(b"ID3")
    assert "open" == meter.state
    ((last, event),) = framing.end()
    assert (b"", ENDED) == (last, event)
    meter.see(ENDED)
    assert ("complete", "none") == (meter.state, meter.usage.source)


@pytest.mark.parametrize(
    ("said", "content_type"),
    [
        ("audio/mpeg", "audio/mpeg"), ("audio/L16;codec=pcm;rate=24000", "audio/L16;codec=pcm;rate=24000"), ("", "application/octet-stream"),
        ("text/plain; charset=utf-8", "text/plain; charset=utf-8"), ("application/x-subrip", "application/x-subrip"), ("text/vtt", "text/vtt"),
        ("audio/mp4\r\nx: y", "application/octet-stream"), ('audio/mp4; a="b"', "application/octet-stream"), ("application/json", "application/json"),
        ("text/event-stream", "text/event-stream"),
    ],
)  # fmt: skip
def test_types_of_answers(ask: Ask, client: Client, said: str, content_type: str) -> None:
    """P4: an answer keeps its own type where that is a plain one."""
    framing = AUDIO.framing(understood(AUDIO, ask(b"/v1/audio/speech"), b'{"model":"m"}', client), said)
    assert framing is not None
    assert content_type == framing.content_type


@pytest.mark.parametrize("said", ["text/html", "Text/HTML; charset=utf-8", "application/xhtml+xml"])
def test_a_page_is_no_answer(ask: Ask, client: Client, said: str) -> None:
    """U11: what some proxy shows to people is not passed on as somebody's words."""
    assert AUDIO.framing(understood(AUDIO, ask(b"/v1/audio/speech"), b'{"model":"m"}', client), said) is None


def spoken(ask: Ask, client: Client, tail: str, size: int = 0, **data: str) -> Call:
    """What is understood of a recording of so many bytes."""
    request = httpx.Request(
        "POST", "http://x", files={"file": ("a.mp3", b"\x00" * size)}, data={"model": "whisper-1", **data}
    )
    head = ask(b"/v1/audio/" + tail.encode(), content_type=request.headers["content-type"])
    return understood(AUDIO, head, request.read(), client)


def test_recordings(ask: Ask, client: Client) -> None:
    """L3: a recording is reserved by its size, whatever model, and no picture with it."""
    for tail, name in (("transcriptions", "audioTranscriptions"), ("translations", "audioTranslations")):
        call = spoken(ask, client, tail, 960_000, response_format="srt", stream="true")
        assert (name, "whisper-1", "multipart") == (call.operation.name, call.model, call.operation.takes)
        assert (tail == "transcriptions", 1920) == (call.stream, call.plan.demand.tokens)
        assert Estimate(1920 + 4, 256) == estimate(call, Catalogue.load())
    assert not spoken(ask, client, "transcriptions", stream="false").stream
    assert 0 == estimate(spoken(ask, client, "translations", model="nobody-knows-it"), Catalogue.load()).images


def test_speech(ask: Ask, client: Client) -> None:
    """L3: speech passes as it is made, is reserved by its text, and no picture with it."""
    body = json.dumps({"model": "nobody-knows-it", "input": "Hello there.", "voice": "alloy"}).encode()
    call = understood(AUDIO, ask(b"/openai/v1/audio/speech/"), body, client)
    assert ("audioSpeech", "/v1/audio/speech", True) == (call.operation.name, call.upstream.target, call.stream)
    assert (len(body), 0) == (call.plan.demand.text_chars, estimate(call, Catalogue.load()).images)


@pytest.mark.parametrize(
    ("tail", "body", "error"),
    [
        ("speech", b'{"input":"x"}', ModelMissing), ("speech", b"--b--", BadRequest),
        ("transcriptions", b'{"model":"whisper-1"}', BadRequest), ("translations", b"", BadRequest),
    ],
)  # fmt: skip
def test_bodies_that_are_refused(ask: Ask, client: Client, tail: str, body: bytes, error: type[Exception]) -> None:
    """D9, K4: a recording comes in a form, and everything names its model."""
    with pytest.raises(error):
        understood(AUDIO, ask(b"/v1/audio/" + tail.encode()), body, client)
