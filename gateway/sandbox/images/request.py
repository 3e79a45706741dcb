"""How are requests for pictures read?  JSON of OpenAI, Seedream and DashScope, and OpenAI's form."""

import base64
import binascii
from collections.abc import Sequence

import msgspec

from gateway.sandbox import form
from gateway.sandbox.body import decoded
from gateway.sandbox.images.wanted import Wanted, family, pixels

_QUALITIES = {"auto": "medium", "standard": "medium", "hd": "high"}
_FORMATS = ("png", "jpeg", "webp")


class _Block(msgspec.Struct):
    """One part of a message of DashScope's."""

    text: str | None = None
    image: str | None = None


class _Message(msgspec.Struct):
    """One message of DashScope's."""

    content: list[_Block] = []


class _Input(msgspec.Struct):
    """What DashScope's models are asked."""

    messages: list[_Message] = []


class _Parameters(msgspec.Struct):
    """How DashScope's models are asked."""

    n: int | None = None
    max_images: int | None = None
    enable_interleave: bool = False
    size: str | None = None
    stream: bool = False


class _Sequence(msgspec.Struct):
    """Of Seedream."""

    max_images: int = 15


class _Address(msgspec.Struct):
    """A picture of an edit by JSON."""

    image_url: str = ""


class _Request(msgspec.Struct):
    """What is read of a request; every other field is skipped."""

    model: str = ""
    prompt: str | None = None
    n: int | None = None
    size: str | None = None
    quality: str | None = None
    response_format: str | None = None
    output_format: str | None = None
    stream: bool | None = None
    partial_images: int | None = None
    image: str | list[str] | None = None
    images: list[_Address] | None = None
    mask: _Address | str | None = None
    sequential_image_generation: str | None = None
    sequential_image_generation_options: _Sequence | None = None
    input: _Input = msgspec.field(default_factory=_Input)
    parameters: _Parameters = msgspec.field(default_factory=_Parameters)


def read(body: bytes, content_type: bytes, *, edits: bool) -> Wanted:
    """Understand a request body.  `ValueError` when it is of no known shape or asks for too much."""
    if edits and form.is_form(content_type):
        return _form(form.read(body, content_type))
    request = decoded(body, _Request)
    if family(request.model) in {"wan", "qwen"}:
        return _dashscope(request)
    sent = [request.image] if isinstance(request.image, str) else request.image or []
    listed = [each.image_url for each in request.images or ()]
    mask = request.mask.image_url if isinstance(request.mask, _Address) else request.mask
    return _openai(request, [_picture(each) for each in (*sent, *listed)], mask and _picture(mask), edits=edits)


def _form(sent: form.Form) -> Wanted:
    request = sent.read_as(_Request)
    return _openai(request, sent.files("image"), next(iter(sent.files("mask")), None), edits=True)


def _openai(request: _Request, sources: Sequence[bytes | str], mask: bytes | str | None, *, edits: bool) -> Wanted:
    by_url = "b64_json" if family(request.model) == "gpt" else "url"
    return Wanted(
        model=request.model,
        prompt=request.prompt or "",
        count=_count(request),
        size=pixels(request.size),
        quality=_one_of(request.quality or "auto", _QUALITIES, ("low", "medium", "high")),
        as_url=(request.response_format or by_url) == "url",
        output=_one_of(request.output_format or "png", {"jpg": "jpeg"}, _FORMATS),
        stream=bool(request.stream),
        sketches=request.partial_images or 0,
        sources=sources,
        mask=mask,
        edits=edits,
    )


def _count(request: _Request) -> int:
    if request.sequential_image_generation == "auto":
        return (request.sequential_image_generation_options or _Sequence()).max_images
    return 1 if request.n is None else request.n


def _one_of(value: str, other_words: dict[str, str], known: tuple[str, ...]) -> str:
    if (word := other_words.get(value, value)) not in known:
        raise ValueError(f"Invalid value: {value!r}. Supported values are: {', '.join(known)}.")
    return word


def _dashscope(request: _Request) -> Wanted:
    blocks = [block for message in request.input.messages for block in message.content]
    parameters = request.parameters
    count = parameters.max_images if parameters.enable_interleave else parameters.n
    return Wanted(
        model=request.model,
        prompt=" ".join(block.text for block in blocks if block.text),
        count=1 if count is None else count,
        size=pixels(parameters.size),
        as_url=True,
        stream=parameters.stream,
        sources=[_picture(block.image) for block in blocks if block.image],
        with_texts=parameters.enable_interleave,
    )


def _picture(sent: str) -> bytes | str:
    """A picture as JSON has it: an address, a data URL, or base64 alone.  `ValueError` when it is none of them."""
    if sent.startswith(("http://", "https://")):
        return sent
    try:
        return base64.b64decode(sent.partition(",")[2] if sent.startswith("data:") else sent, validate=True)
    except binascii.Error:
        raise ValueError("The picture is neither an address nor base64") from None
