"""In which formats does a transcript leave?  As JSON of three kinds, as text, as subtitles, or as events."""

import math

from gateway.sandbox import wire
from gateway.sandbox.audio.transcript import Transcript
from gateway.sandbox.replies import pieces
from gateway.sandbox.wire import Answer, Event, Frame

_TEXT = b"text/plain; charset=utf-8"


def whole(heard: Transcript, kind: str, *, words: bool, translated: bool) -> Answer:
    """The answer in one piece; `words` asks for the time of each of them.  `ValueError`: there is no such format."""
    task = "translate" if translated else "transcribe"
    match kind:
        case "json":
            return _json({"text": heard.text}, heard)
        case "text":
            return _plain(f"{heard.text}\n")
        case "srt":
            return _plain(_subtitles(heard, ","))
        case "vtt":
            return _plain(f"WEBVTT\n\n{_subtitles(heard, '.')}")
        case "verbose_json":
            return _json({"task": task, **_verbose(heard), **({"words": _words(heard)} if words else {})}, heard)
        case "diarized_json":
            return _json({"task": task, **_diarized(heard)}, heard)
    raise ValueError(f"response_format {kind!r} is not supported")


def frames(heard: Transcript) -> list[Frame]:
    """The answer as a stream: pieces of the text, then all of it with the usage."""
    deltas = [{"type": "transcript.text.delta", "delta": piece} for piece in pieces(heard.text)]
    done: Event = {"type": "transcript.text.done", "text": heard.text, **_with_usage(heard)}
    framed = [Frame(event, name=str(event["type"])) for event in deltas]
    return [*framed, Frame(done, name=done["type"], usage=done.get("usage"), ends=True)]


def _json(event: Event, heard: Transcript) -> Answer:
    event = {**event, **_with_usage(heard)}
    return wire.unary(event, usage=event.get("usage"))


def _plain(text: str) -> Answer:
    return wire.whole(text.encode(), content_type=_TEXT)


def _with_usage(heard: Transcript) -> Event:
    match heard.usage_kind:
        case "tokens":
            return {"usage": _usage(heard)}
        case "duration":
            return {"usage": {"type": "duration", "seconds": math.ceil(heard.sound.seconds)}}
    return {}


def _usage(heard: Transcript) -> Event:
    tokens = heard.tokens
    return {
        "type": "tokens",
        "input_tokens": tokens.prompt,
        "input_token_details": {"text_tokens": tokens.prompt - tokens.sounds, "audio_tokens": tokens.sounds},
        "output_tokens": tokens.completion,
        "total_tokens": tokens.total,
    }


def _verbose(heard: Transcript) -> Event:
    segments = [
        {
            "id": number,
            "seek": 0,
            "start": segment.start,
            "end": segment.end,
            "text": f" {segment.text}",
            "tokens": [],
            "temperature": 0.0,
            "avg_logprob": -0.1,
            "compression_ratio": 1.0,
            "no_speech_prob": 0.0,
        }
        for number, segment in enumerate(heard.segments)
    ]
    return {"language": heard.language, "duration": heard.sound.seconds, "text": heard.text, "segments": segments}


def _words(heard: Transcript) -> list[Event]:
    return [
        {"word": word, "start": segment.start + step * number, "end": segment.start + step * (number + 1)}
        for segment in heard.segments
        for step in [(segment.end - segment.start) / len(segment.text.split())]
        for number, word in enumerate(segment.text.split())
    ]


def _diarized(heard: Transcript) -> Event:
    segments = [
        {
            "type": "transcript.text.segment",
            "id": f"seg_{number:03}",
            "speaker": "AB"[number % 2],
            "start": segment.start,
            "end": segment.end,
            "text": segment.text,
        }
        for number, segment in enumerate(heard.segments)
    ]
    return {"duration": heard.sound.seconds, "text": heard.text, "segments": segments}


def _subtitles(heard: Transcript, comma: str) -> str:
    """One numbered block a sentence; SRT has a comma before the milliseconds, WebVTT a full stop."""
    return "".join(
        f"{number}\n{_clock(segment.start, comma)} --> {_clock(segment.end, comma)}\n{segment.text}\n\n"
        for number, segment in enumerate(heard.segments, 1)
    )


def _clock(seconds: float, comma: str) -> str:
    whole_seconds, milliseconds = divmod(round(seconds * 1000), 1000)
    minutes, second = divmod(whole_seconds, 60)
    return f"{minutes // 60:02}:{minutes % 60:02}:{second:02}{comma}{milliseconds:03}"
