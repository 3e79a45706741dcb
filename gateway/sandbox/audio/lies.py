"""What may a transcript say that is not so?  From transcript to transcript, by the fault's name (`faults.py`)."""

from collections.abc import Callable, Mapping
from dataclasses import replace

from gateway.sandbox.audio.transcript import Segment, Transcript
from gateway.sandbox.replies import filler


def _blocked(transcript: Transcript, _argument: str) -> Transcript:
    return replace(transcript, segments=())


def _nousage(transcript: Transcript, _argument: str) -> Transcript:
    return replace(transcript, usage_kind=None)


def _byduration(transcript: Transcript, _argument: str) -> Transcript:
    return replace(transcript, usage_kind="duration")


def _toolong(transcript: Transcript, argument: str) -> Transcript:
    return replace(transcript, segments=(Segment(filler(int(argument)), 0.0, transcript.sound.seconds),))


def _moretokens(transcript: Transcript, argument: str) -> Transcript:
    spent = transcript.tokens
    return replace(transcript, tokens=replace(spent, completion=spent.completion + int(argument or "1000")))


TRANSCRIPTS: Mapping[str, Callable[[Transcript, str], Transcript]] = {
    "blocked": _blocked,
    "nousage": _nousage,
    "byduration": _byduration,
    "toolong": _toolong,
    "moretokens": _moretokens,
}
