"""Sound through the real gateway: recordings and their transcripts, speech, and what of them is counted."""

import hashlib
import json
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import httpx
import pytest

from tests.support.gateway import Gateway, Upstream, running
from tests.support.valkey import Valkey
from tests.support.wire import Wire, answer, chunked, saying, wire

TRANSCRIPTIONS, TRANSLATIONS, SPEECH = "/v1/audio/transcriptions", "/v1/audio/translations", "/v1/audio/speech"
SAY = {"model": "gpt-4o-mini-tts", "input": "Hello there.", "voice": "alloy"}
MP3 = b"ID3\x04\x00" + secrets.token_bytes(200_000)
SRT = "1\n00:00:00,000 --> 00:00:02,000\nGrüße an alle.\n\n".encode()
DELTA = b'data: {"type":"transcript.text.delta","delta":"Hello"}\n\n'
TEXT_DONE = (
    b'data: {"type":"transcript.text.done","text":"Hello","usage":{"type":"tokens","input_tokens":14,'
    b'"input_token_details":{"text_tokens":4,"audio_tokens":10},"output_tokens":5,"total_tokens":19}}\n\n'
)
AUDIO_DELTA = b'data: {"type":"speech.audio.delta","audio":"SUQzBAA="}\n\n'
AUDIO_DONE = b'data: {"type":"speech.audio.done","usage":{"input_tokens":7,"output_tokens":63,"total_tokens":70}}\n\n'
DONE = b"data: [DONE]\n\n"
Serve = Callable[..., AbstractAsyncContextManager[tuple[Gateway, Wire]]]


@pytest.fixture
def serve(tmp_path: Path, state: Valkey) -> Serve:
    """A gateway in front of an upstream that says these bytes to every call."""

    @asynccontextmanager
    async def started(*pieces: bytes, terms: str = "", pause: float = 0) -> AsyncIterator[tuple[Gateway, Wire]]:
        async with (
            wire(saying(*pieces, pause=pause)) as upstream,
            running(tmp_path, upstream.url, clients={"design": terms}, redis_url=state.url) as gateway,
        ):
            yield gateway, upstream
            await gateway.at_rest()

    return started


async def written(gateway: Gateway, path: str = TRANSCRIPTIONS, size: int = 64_000, **data: str) -> httpx.Response:
    """What a recording of so many bytes is answered with."""
    files = {"file": ("a.mp3", secrets.token_bytes(size), "audio/mpeg")}
    request = gateway.http.build_request("POST", path, files=files, data={"model": "whisper-1", **data})
    await request.aread()
    return await gateway.http.send(request)


async def cut(gateway: Gateway, path: str, **asked: object) -> bytes:
    """What comes of an answer until it is cut; fails where it ends cleanly."""
    received = b""
    async with gateway.http.stream("POST", path, **asked) as response:  # type: ignore[arg-type]
        assert 200 == response.status_code
        try:
            async for chunk in response.aiter_raw():
                received += chunk
        except httpx.RemoteProtocolError:
            return received
    pytest.fail("it ended cleanly")


@pytest.mark.parametrize("path", [TRANSCRIPTIONS, TRANSLATIONS])
@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (SRT, "text/plain; charset=utf-8"), (SRT, "application/x-subrip"), (b"WEBVTT\n\n", "text/vtt"), (b"\n", "text/plain"),
        (b'{"text":"Hello."}\n', "application/json"),
    ],
)  # fmt: skip
async def test_a_transcript_passes_as_what_it_is(serve: Serve, path: str, body: bytes, content_type: str) -> None:
    """A10, P4: text and subtitles stay what they are, with their type, and the recording passes byte for byte."""
    async with serve(answer(body, content_type=content_type), terms="tokens_per_day = 10000") as (gateway, upstream):
        response = await written(gateway, path, response_format="srt")
        assert (200, body, content_type) == (response.status_code, response.content, response.headers["content-type"])
        assert [hashlib.sha256(response.request.content).hexdigest()] == upstream.hashes
        line = await gateway.entry()
        assert ("ok", "estimated", 0) == (line["outcome"], line["usage"], gateway.metric("gateway_usage_missing_total"))
        assert 4 * 32 <= line["tokens_in"] < 4 * 32 + 32  # by the size of the recording, and the other fields
        assert 0 == gateway.metric("gateway_images_total")


@pytest.mark.parametrize(
    ("said", "tokens", "usage"),
    [
        ({"duration": 8.5}, 272, "estimated"), ({"usage": {"type": "duration", "seconds": 9}}, 288, "estimated"),
        ({"usage": {"type": "tokens", "input_tokens": 14, "output_tokens": 5, "total_tokens": 19}}, 14, "reported"),
    ],
)  # fmt: skip
async def test_the_length_of_a_recording_is_what_it_costs(
    serve: Serve, said: dict[str, object], tokens: int, usage: str
) -> None:
    """U18: where an answer tells the seconds, they count, and tokens where it tells those."""
    async with serve(answer(json.dumps({"text": "", **said}).encode())) as (gateway, _):
        assert 200 == (await written(gateway, response_format="verbose_json")).status_code
        assert (tokens, usage) == ((line := await gateway.entry())["tokens_in"], line["usage"])


async def test_a_transcript_comes_as_it_is_written(serve: Serve) -> None:
    """A4, A10: events of a transcript pass untouched; one without its last event is cut."""
    async with serve(*chunked(DELTA, TEXT_DONE, DONE)) as (gateway, _):
        response = await written(gateway, stream="true")
        assert (200, DELTA + TEXT_DONE + DONE) == (response.status_code, response.content)
        assert ("ok", 14, 5) == ((line := await gateway.entry())["outcome"], line["tokens_in"], line["tokens_out"])
    async with serve(*chunked(DELTA, DONE)) as (gateway, _):
        files, data = {"file": ("a.mp3", b"x")}, {"model": "whisper-1", "stream": "true"}
        received = await cut(gateway, TRANSCRIPTIONS, files=files, data=data)
        assert (True, False) == (received.startswith(DELTA), DONE in received)
        assert "upstream_broke" == json.loads(received.split(b"data: ")[-1])["error"]["code"]


@pytest.mark.parametrize("stream", ["true", "false"])
async def test_a_stream_that_is_answered_in_one_piece(serve: Serve, stream: str) -> None:
    """A10: models that stream nothing answer a call for it with what they have."""
    async with serve(answer(SRT, content_type="text/plain")) as (gateway, _):
        response = await written(gateway, stream=stream)
        assert (200, SRT, "text/plain") == (response.status_code, response.content, response.headers["content-type"])
        assert "ok" == (await gateway.entry())["outcome"]


@pytest.mark.parametrize("content_type", ["audio/mpeg", "audio/wav", "audio/L16;codec=pcm;rate=24000", "audio/pcm"])
@pytest.mark.parametrize("length", [True, False], ids=["with its length", "in chunks"])
async def test_speech_passes_as_bytes(serve: Serve, content_type: str, length: bool) -> None:
    """A10, A4: speech is the upstream's, by SHA-256, whatever its format."""
    pieces = [MP3[at : at + 30_001] for at in range(0, len(MP3), 30_001)]
    said = (answer(MP3, content_type=content_type),) if length else chunked(*pieces, content_type=content_type)
    async with serve(*said) as (gateway, _):
        response = await gateway.http.post(SPEECH, json=SAY)
        assert (200, content_type) == (response.status_code, response.headers["content-type"])
        assert hashlib.sha256(MP3).digest() == hashlib.sha256(response.content).digest()
        line = await gateway.entry()
        assert ("audioSpeech", "ok", len(MP3), "estimated") == (
            line["method"],
            line["outcome"],
            line["bytes_out"],
            line["usage"],
        )
        assert (0, 0) == (gateway.metric("gateway_usage_missing_total"), gateway.metric("gateway_images_total"))


async def test_speech_is_heard_while_it_is_made(serve: Serve) -> None:
    """A1: the first bytes are passed on before the last are made."""
    async with serve(*chunked(MP3[:1000], MP3[1000:], content_type="audio/mpeg"), pause=0.2) as (gateway, _):
        async with gateway.http.stream("POST", SPEECH, json=SAY) as response:
            sizes = [len(chunk) async for chunk in response.aiter_raw()]
        assert (1000, len(MP3)) == (sizes[0], sum(sizes))


@pytest.mark.parametrize(
    "said",
    [(answer(MP3, content_type="audio/mpeg")[:-7],), chunked(MP3, content_type="audio/mpeg", end=False)],
    ids=["shorter than declared", "no last chunk"],
)
async def test_speech_that_broke_off_never_ends_cleanly(serve: Serve, said: tuple[bytes, ...]) -> None:
    """U4: who hears it to where it is cut learns that it was cut; nothing is added to its bytes."""
    async with serve(*said) as (gateway, upstream):
        received = await cut(gateway, SPEECH, json=SAY)
        assert MP3.startswith(received)
        assert ("upstream_broke", "estimated") == ((line := await gateway.entry())["outcome"], line["usage"])
    assert 1 == len(upstream.heads)


async def test_speech_passes_as_events(serve: Serve) -> None:
    """A4: speech as events ends with what it cost; without that it is cut."""
    async with serve(*chunked(AUDIO_DELTA, AUDIO_DONE)) as (gateway, _):
        response = await gateway.http.post(SPEECH, json=SAY | {"stream_format": "sse"})
        assert (200, AUDIO_DELTA + AUDIO_DONE) == (response.status_code, response.content)
        assert ("ok", 7, 63) == ((line := await gateway.entry())["outcome"], line["tokens_in"], line["tokens_out"])
        assert 63 == gateway.metric("gateway_tokens_total", kind="output", modality="audio")
    async with serve(*chunked(AUDIO_DELTA)) as (gateway, _):
        received = await cut(gateway, SPEECH, json=SAY | {"stream_format": "sse"})
        assert received.startswith(AUDIO_DELTA)
        assert "upstream_broke" == json.loads(received.split(b"data: ")[-1])["error"]["code"]


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ((answer(b"<html>Log in</html>", content_type="text/html"),), 502), ((answer(b"", content_type="audio/mpeg"),), 502),
        ((answer(b"{}", status="503 Busy"),), 503), ((), 502),
    ],
    ids=["page", "nothing", "503", "closed"],
)  # fmt: skip
@pytest.mark.parametrize("path", [SPEECH, TRANSLATIONS])
async def test_what_may_be_paid_is_sent_once(serve: Serve, path: str, said: tuple[bytes, ...], code: int) -> None:
    """U9, U11: what is no answer is an error that no SDK tries again, and nothing is sent twice."""
    async with serve(*said) as (gateway, upstream):
        failed = await (written(gateway, path) if path == TRANSLATIONS else gateway.http.post(path, json=SAY))
        assert (code, "false") == (failed.status_code, failed.headers["x-should-retry"])
        assert failed.headers["content-type"] == "application/json"
    assert 1 == len(upstream.heads)


@pytest.mark.parametrize("path", [TRANSCRIPTIONS, TRANSLATIONS])
async def test_a_recording_comes_in_a_form(serve: Serve, path: str) -> None:
    """P11: JSON, and a body that says nothing of itself, are refused, in OpenAI's shape."""
    async with serve(answer(b"{}")) as (gateway, upstream):
        for said in ({"content-type": "application/json"}, {}):
            refused = await gateway.http.post(path, content=b'{"model":"whisper-1"}', headers=said)
            assert (415, "content_type") == (refused.status_code, refused.json()["error"]["code"])
            assert "multipart/form-data" in refused.json()["error"]["message"]
    assert [] == upstream.heads


@pytest.mark.parametrize("form", ["json", "text", "srt", "vtt", "verbose_json"])
@pytest.mark.parametrize("path", [TRANSCRIPTIONS, TRANSLATIONS])
async def test_transcripts_as_the_sandbox_has_them(gateway: Gateway, upstream: Upstream, path: str, form: str) -> None:
    """A10: a recording of ours, spoken by the sandbox, comes back written down, byte for byte, in each format."""
    spoken = await gateway.http.post(SPEECH, json=SAY | {"response_format": "wav"})
    assert (200, b"RIFF") == (spoken.status_code, spoken.content[:4])
    files = {"file": ("a.wav", spoken.content, "audio/wav")}
    response = await gateway.http.post(path, files=files, data={"model": "whisper-1", "response_format": form})
    seen = (await upstream.log())[-1]
    assert (200, seen["answer_sha256"]) == (response.status_code, hashlib.sha256(response.content).hexdigest())
    assert ("json" in form) == ("json" in response.headers["content-type"])
    assert ["ok", "ok"] == [line["outcome"] for line in await gateway.entries(2)]


@pytest.mark.parametrize(
    "asked", [{}, {"stream_format": "sse"}, {"response_format": "pcm"}], ids=["mp3", "events", "pcm"]
)
async def test_speech_as_the_sandbox_has_it(gateway: Gateway, upstream: Upstream, asked: dict[str, str]) -> None:
    """A10: so does speech, as bytes and as events."""
    response = await gateway.http.post(SPEECH, json=SAY | asked)
    (seen,) = await upstream.log()
    assert (200, seen["answer_sha256"]) == (response.status_code, hashlib.sha256(response.content).hexdigest())
    assert ("ok", "reported" if "stream_format" in asked else "estimated") == (
        (line := await gateway.entry())["outcome"], line["usage"],
    )  # fmt: skip
