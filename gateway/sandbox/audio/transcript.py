"""What was heard?  A plain value that a fault may change; the text depends on the sound, so that mix-ups show."""

from dataclasses import dataclass
from typing import Literal, NamedTuple
from zlib import crc32

from gateway.sandbox import usage
from gateway.sandbox.audio.sounds import Sound
from gateway.sandbox.tokens import Tokens

Kind = Literal["tokens", "duration"]

_WORDS = (
    "amber birch cedar daisy ember fern grove heron iris jade kestrel lilac maple nettle olive pine "
    "quartz reed sage thistle umber violet willow yarrow zinnia acorn brook cliff dune elm finch gale"
)


class Segment(NamedTuple):
    """One sentence, and when it was said."""

    text: str
    start: float  # seconds
    end: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Transcript:
    """One answer, before it is written."""

    segments: tuple[Segment, ...]
    sound: Sound
    tokens: Tokens
    usage_kind: Kind | None  # None: no usage
    language: str

    @property
    def text(self) -> str:
        return " ".join(segment.text for segment in self.segments)


def heard(data: bytes, sound: Sound, prompt: str, *, translated: bool) -> tuple[Segment, ...]:
    """What is "said" in a sound: its length, its rate, and words that its bytes decide."""
    rate = f" at {sound.rate} Hz" if sound.rate else ""
    told = f"I heard {sound.seconds:.2f} seconds of sound{rate}."
    sentences = [f"In English: {told}" if translated else told, f"Its {len(data)} bytes say {_phrase(data)}."]
    if prompt:
        sentences.append(f"I was told “{prompt[:100]}”.")
    step = sound.seconds / len(sentences)
    return tuple(Segment(text, step * number, step * (number + 1)) for number, text in enumerate(sentences))


def cost(segments: tuple[Segment, ...], sound: Sound, prompt: str) -> Tokens:
    """What it costs where it is sold by tokens: 25 a second of sound."""
    spoken = usage.tokens("AUDIO", round(sound.seconds * 24_000))
    written = usage.tokens("TEXT", sum(len(segment.text) for segment in segments))
    return Tokens(prompt=spoken + usage.tokens("TEXT", len(prompt)), sounds=spoken, completion=written)


def _phrase(data: bytes) -> str:
    number, words = crc32(data), _WORDS.split()
    return " ".join(words[number >> shift & 31] for shift in (0, 5, 10, 15))
