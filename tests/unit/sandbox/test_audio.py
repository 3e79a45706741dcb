"""Is sound made from text, and written down again, in every format and with the usage of each model?"""

import base64
import io
import wave
from array import array
from typing import Any

import httpx
import pytest

from .conftest import Caller, named_events_of

SPEECH = "/v1/audio/speech"
TRANSCRIPTIONS = "/v1/audio/transcriptions"
TRANSLATIONS = "/v1/audio/translations"
TTS = "gpt-4o-mini-tts"
HEARS = "gpt-4o-mini-transcribe"


def spoken(caller: Caller, **body: Any) -> httpx.Response:
    """A request for speech; `body` is added to the request's JSON."""
    request = {"model": TTS, "input": "Hi you", "voice": "alloy", "response_format": "wav", **body}
    return caller.http.post(SPEECH, json=request)


def heard(caller: Caller, sound: bytes, path: str = TRANSCRIPTIONS, **texts: str) -> httpx.Response:
    """A form with a sound."""
    return caller.http.post(path, data={"model": HEARS, **texts}, files={"file": ("sound.wav", sound)})


@pytest.fixture
def sound() -> bytes:
    """A second and a half of a tone at 8 kHz."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(array("h", [9000, -9000] * 6000).tobytes())
    return buffer.getvalue()


def test_speech_is_a_real_wav(caller: Caller) -> None:
    """70 ms a character at 24 kHz, louder than silence; another voice sounds different; it arrives in pieces."""
    response = spoken(caller)
    with wave.open(io.BytesIO(response.content)) as file:
        assert (24_000, 1, 2, 6 * 1680) == (
            file.getframerate(),
            file.getnchannels(),
            file.getsampwidth(),
            file.getnframes(),
        )
        assert max(array("h", file.readframes(6 * 1680))) > 5000
    assert ("audio/wav", None) == (response.headers["content-type"], response.headers.get("content-length"))
    assert response.content != spoken(caller, voice={"id": "voice_1"}).content
    record = caller.log()[0]
    assert (0.42, True, {"input": 2, "output": 11}) == (
        record["seconds"],
        record["whole"],
        {kind: record["tokens"][kind] for kind in ("input", "output")},
    )


def test_speech_in_every_format(caller: Caller) -> None:
    """PCM is the WAV without its head, FLAC holds its samples, MP3 is silent; there is no encoder for others."""
    pcm = spoken(caller, response_format="pcm").content
    assert spoken(caller).content.endswith(pcm)
    flac = spoken(caller, response_format="flac").content
    assert flac.startswith(b"fLaC")
    big_endian = array("h", pcm[:8192])
    big_endian.byteswap()
    assert big_endian.tobytes() in flac
    mp3 = spoken(caller, response_format=None)
    assert ("audio/mpeg", b"ID3") == (mp3.headers["content-type"], mp3.content[:3])
    assert b"Hi you\xff\xf3" in mp3.content
    for kind in ("opus", "aac", "ogg"):
        assert 400 == spoken(caller, response_format=kind).status_code


def test_speech_as_events(caller: Caller) -> None:
    """`stream_format: sse`: base64 of the file in deltas, and usage in the last event."""
    events = named_events_of(spoken(caller, stream_format="sse", input="Hello, hello, hello").text)
    assert ["speech.audio.delta"] * (len(events) - 1) + ["speech.audio.done"] == [name for name, _ in events]
    data = b"".join(base64.b64decode(each["audio"]) for _, each in events[:-1])
    assert data == spoken(caller, input="Hello, hello, hello").content
    record = caller.log()[0]
    assert (True, True, events[-1].data["usage"]) == (record["stream"], record["whole"], record["usage"])
    silent = named_events_of(spoken(caller, stream_format="sse", input="sandbox-fault: nousage").text)
    assert "usage" not in silent[-1].data


def test_speech_of_a_size(caller: Caller) -> None:
    """`sandbox-size` asks for so many bytes of samples; tts-1 is not sold by tokens."""
    assert 300_000 == len(spoken(caller, model="tts-1", input="sandbox-size: 300000", response_format="pcm").content)
    assert (None, 6.25) == (caller.log()[0]["tokens"], caller.log()[0]["seconds"])


@pytest.mark.parametrize("body", [{"input": ""}, {"input": "x" * 4097}, {"voice": ""}, {"model": "gpt-5"}])
def test_what_cannot_be_spoken_is_refused(caller: Caller, body: dict[str, Any]) -> None:
    """A request for speech that means nothing is a 400."""
    assert 400 == spoken(caller, **body).status_code


def test_a_transcript_depends_on_the_sound(caller: Caller, sound: bytes) -> None:
    """Length, rate and bytes decide the text, for WAV and FLAC; of anything else the bytes alone."""
    said = heard(caller, sound).json()["text"]
    assert "1.50 seconds of sound at 8000 Hz" in said
    assert said == heard(caller, sound).json()["text"] != heard(caller, sound[:-2] + b"\0\0").json()["text"]
    flac = spoken(caller, response_format="flac").content
    assert "0.42 seconds of sound at 24000 Hz" in heard(caller, flac).json()["text"]
    assert "2.00 seconds of sound." in heard(caller, bytes(32_000)).json()["text"]
    assert "I was told “names”." in heard(caller, sound, prompt="names").json()["text"]
    assert heard(caller, sound, TRANSLATIONS, model="whisper-1").json()["text"].startswith("In English: ")


def test_transcripts_in_every_format(caller: Caller, sound: bytes) -> None:
    """JSON of three kinds, text and two kinds of subtitles as plain text; any other is a 400."""
    text = heard(caller, sound).json()["text"]
    first, second = text.split(". ", 1)
    for kind, start in (
        ("text", f"{text}\n"),
        ("srt", f"1\n00:00:00,000 --> 00:00:00,750\n{first}.\n\n2\n00:00:00,750 --> 00:00:01,500\n{second}\n"),
        ("vtt", f"WEBVTT\n\n1\n00:00:00.000 --> 00:00:00.750\n{first}.\n"),
    ):
        response = heard(caller, sound, response_format=kind)
        assert ("text/plain; charset=utf-8", True) == (
            response.headers["content-type"],
            response.text.startswith(start),
        )
    verbose = heard(caller, sound, response_format="verbose_json", **{"timestamp_granularities[]": "word"}).json()
    assert ("transcribe", 1.5, text, 2) == (
        verbose["task"],
        verbose["duration"],
        verbose["text"],
        len(verbose["segments"]),
    )
    assert text.split() == [word["word"] for word in verbose["words"]]
    diarized = heard(caller, sound, response_format="diarized_json").json()
    assert [("A", 0.75), ("B", 1.5)] == [(each["speaker"], each["end"]) for each in diarized["segments"]]
    assert 400 == heard(caller, sound, response_format="docx").status_code


def test_usage_of_a_transcript_is_of_two_kinds(caller: Caller, sound: bytes) -> None:
    """Tokens, or seconds rounded up; Whisper says neither except in verbose_json."""
    usage = heard(caller, sound).json()["usage"]
    assert ("tokens", {"text_tokens": 0, "audio_tokens": 38}) == (usage["type"], usage["input_token_details"])
    assert usage == caller.log()[0]["usage"]
    assert (usage["total_tokens"], 1.5) == (caller.log()[0]["tokens"]["total"], caller.log()[0]["seconds"])
    assert "usage" not in heard(caller, sound, model="whisper-1").json()
    whisper = heard(caller, sound, model="whisper-1", response_format="verbose_json").json()
    assert {"type": "duration", "seconds": 2} == whisper["usage"]
    assert None is caller.log()[2]["tokens"]


def test_a_transcript_as_events(caller: Caller, sound: bytes) -> None:
    """Deltas, then the whole text with its usage; Whisper and translations do not stream."""
    events = named_events_of(heard(caller, sound, stream="true").text)
    *deltas, done = events
    assert ["transcript.text.delta"] * len(deltas) + ["transcript.text.done"] == [name for name, _ in events]
    assert done.data["text"] == "".join(data["delta"] for _, data in deltas)
    record = caller.log()[0]
    assert (True, True, done.data["usage"]) == (record["stream"], record["whole"], record["usage"])
    assert "text" in heard(caller, sound, model="whisper-1", stream="true").json()
    assert "text" in heard(caller, sound, TRANSLATIONS, stream="true").json()


def test_sounds_that_are_none_are_refused(caller: Caller, sound: bytes) -> None:
    """No file, too much of it, or a model that hears nothing."""
    assert 400 == caller.http.post(TRANSCRIPTIONS, files={"model": (None, HEARS.encode())}).status_code
    assert 413 == heard(caller, bytes(25 * 1024 * 1024 + 1)).status_code
    assert 400 == heard(caller, sound, model="gpt-5").status_code
    assert 503 == heard(caller, sound, model="llama-9").status_code


def test_faults_of_transcripts(caller: Caller, sound: bytes) -> None:
    """The marker stands in any text of the form: no usage, seconds, too many tokens, too much text, nothing."""
    texts = [
        heard(caller, sound, prompt=f"sandbox-fault: {fault}").json()
        for fault in ("nousage", "byduration", "moretokens=7", "toolong=50000", "blocked")
    ]
    assert "usage" not in texts[0]
    assert {"type": "duration", "seconds": 2} == texts[1]["usage"]
    assert caller.log()[2]["tokens"]["total"] + 7 == texts[2]["usage"]["total_tokens"]
    assert [50_000, 0] == [len(each["text"]) for each in texts[3:]]
    assert 429 == heard(caller, sound, prompt="sandbox-fault: 429").status_code
    assert (
        "error"
        in named_events_of(heard(caller, sound, stream="true", prompt="sandbox-fault: streamerror").text)[-1].data
    )
