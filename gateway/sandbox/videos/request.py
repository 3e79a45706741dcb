"""How are requests for videos read?  Bodies of new-api, Ark, DashScope and OpenAI, as JSON or as a form."""

import re
from dataclasses import dataclass
from typing import Any

import msgspec

from gateway.sandbox import form
from gateway.sandbox.body import decoded
from gateway.sandbox.images.wanted import pixels
from gateway.sandbox.pictures import Size

_SIZES = {"480p": (864, 480), "512p": (912, 512), "720p": (1280, 720), "768p": (1366, 768), "1080p": (1920, 1080)}
_LARGEST = {"4k": (3840, 2160)}
_USUAL = {"seedance": 5, "hailuo": 6, "sora": 4}  # seconds where a request names none; of others 5
_DUR = re.compile(r"--dur(?:ation)? (\d+)")
_PER_SECOND = 24 / 1024  # tokens of Seedance a pixel
_LONGEST = 60  # seconds


class _Block(msgspec.Struct):
    """One item of Ark's content."""

    type: str = ""
    text: str = ""


class _Input(msgspec.Struct):
    """What DashScope's models are asked."""

    prompt: str = ""
    media: list[dict[str, Any]] = []


class _Options(msgspec.Struct):
    """How a model is asked: DashScope's `parameters`, new-api's `metadata`."""

    duration: float | str | None = None
    resolution: str | None = None
    size: str | None = None


class _Request(msgspec.Struct):
    """What is read of a request; every other field is skipped."""

    model: str = ""
    prompt: str = ""
    content: list[_Block] = []
    input: _Input = msgspec.field(default_factory=_Input)
    parameters: _Options = msgspec.field(default_factory=_Options)
    metadata: _Options | str = ""
    seconds: str | None = None
    duration: float | str | None = None
    size: str | None = None
    resolution: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """One request, understood."""

    model: str
    prompt: str
    seconds: float
    size: Size
    resolution: str
    clips: int  # videos that were sent

    @property
    def tokens(self) -> int | None:
        """What it costs; None where the maker counts no tokens.  A clip that is sent is taken to be as long."""
        if "seedance" not in self.model:
            return None
        return round(self.seconds * (1 + self.clips) * self.size[0] * self.size[1] * _PER_SECOND)


def read(body: bytes, content_type: bytes) -> Wanted:
    """Understand a request body.  `ValueError` when it is of no known shape or asks for too much."""
    is_form = form.is_form(content_type)
    request = form.read(body, content_type).read_as(_Request) if is_form else decoded(body, _Request)
    metadata = _metadata(request)
    prompt = request.prompt or _text(request.content) or request.input.prompt
    if not prompt and not request.content and not request.input.media:
        raise ValueError("prompt is required")
    resolution = _first(request.resolution, metadata.resolution, request.parameters.resolution, "720p")
    return Wanted(
        model=request.model,
        prompt=prompt,
        seconds=_seconds(request, metadata, prompt),
        size=_size(request, resolution.lower()),
        resolution=resolution,
        clips=sum(block.type == "video_url" for block in request.content),
    )


def _metadata(request: _Request) -> _Options:
    """An object, or its JSON as text."""
    if isinstance(request.metadata, _Options):
        return request.metadata
    return decoded(request.metadata.encode(), _Options) if request.metadata else _Options()


def _text(content: list[_Block]) -> str:
    return " ".join(block.text for block in content if block.type == "text")


def _first(*values: Any) -> str:
    return next(str(value) for value in values if value not in {None, ""})


def _seconds(request: _Request, metadata: _Options, prompt: str) -> float:
    told = _DUR.search(prompt)
    usual = next((seconds for word, seconds in _USUAL.items() if word in request.model.lower()), 5)
    seconds = float(
        _first(
            request.seconds,
            request.duration,
            metadata.duration,
            request.parameters.duration,
            told and told[1],
            usual,
        )
    )
    if not 1 <= seconds <= _LONGEST:
        raise ValueError(f"A video lasts 1 to {_LONGEST} seconds")
    return seconds


def _size(request: _Request, resolution: str) -> Size:
    if size := pixels(request.size or request.parameters.size):
        return size
    known = _SIZES | _LARGEST
    if resolution not in known:
        raise ValueError(f"resolution {resolution!r} is not supported")
    return known[resolution]
