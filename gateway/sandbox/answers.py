"""What does the sandbox answer on Gemini's routes?  The JSON of a successful answer, for every kind of model."""

import base64
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, NamedTuple

from gateway.sandbox import pictures, speech, usage
from gateway.sandbox.embeddings import vector
from gateway.sandbox.question import Content, Question
from gateway.sandbox.replies import filler, greeting, pieces, quoted
from gateway.sandbox.wire import Event, base64_of

_MOST_CANDIDATES = 8
_SLICE = speech.RATE  # bytes in one event of a stream: half a second


class Part(NamedTuple):
    """One part of an answer and its usage."""

    content: dict[str, Any]
    modality: str
    amount: int  # as `usage.tokens` counts it


def events(
    question: Question, model: str, kind: str, nonce: str, *, stream: bool = False, size: int | None = None
) -> list[Event]:
    """A whole answer, as one event, or as the events of a stream.

    `size` asks for a text or a picture of that many bytes.  `ValueError` when a picture cannot be read or made.
    """
    wanted = question.generation_config.candidate_count
    if not 1 <= wanted <= _MOST_CANDIDATES:
        raise ValueError(f"candidateCount must be 1 to {_MOST_CANDIDATES}")
    candidates = [_steps(_parts(question, model, kind, size, number), stream=stream) for number in range(wanted)]
    asked = question.tokens()
    spent: dict[str, int] = {}
    answered = []
    for number in range(max(map(len, candidates))):
        unfinished = [(index, steps) for index, steps in enumerate(candidates) if number < len(steps)]
        for _, steps in unfinished:
            for part in steps[number]:
                spent[part.modality] = spent.get(part.modality, 0) + part.amount
        answered.append(
            {
                "candidates": [_candidate(index, steps, number) for index, steps in unfinished],
                "usageMetadata": usage.metadata(
                    asked, {each: usage.tokens(each, amount) for each, amount in spent.items()}
                ),
                "modelVersion": model,
                "responseId": nonce,
            }
        )
    return answered


def counted(question: Question) -> dict[str, Any]:
    """The answer to countTokens."""
    tokens = (question.generate_content_request or question).tokens()
    return {"totalTokens": sum(tokens.values()), "promptTokensDetails": usage.details(tokens)}


def embedding(question: Question) -> dict[str, Any]:
    """One unit vector.  `ValueError` when nothing was sent or its length is absurd."""
    return {"values": vector((question.content or Content()).text, question.output_dimensionality)}


def _candidate(index: int, steps: list[list[Part]], number: int) -> dict[str, Any]:
    content = {"parts": [part.content for part in steps[number]], "role": "model"}
    if number < len(steps) - 1:
        return {"content": content, "index": index}
    return {"content": content, "finishReason": "STOP", "index": index}


def _parts(question: Question, model: str, kind: str, size: int | None, candidate: int) -> list[Part]:
    if kind == "image":
        picture = _noise(size) if size is not None else _picture(question, model, candidate)
        return (
            [_text(f"Here is your picture: “{quoted(question.prompt)}”."), picture]
            if question.wants_text
            else [picture]
        )
    if kind == "speech":
        voice = question.generation_config.speech_config.voice_config.prebuilt_voice_config.voice_name
        return [_sound(speech.pcm(question.prompt, voice))]
    if size is not None:
        return [_text(filler(size))]
    return [_text(greeting(model, question.prompt, len(question.pictures), candidate))]


def _steps(parts: list[Part], *, stream: bool) -> list[list[Part]]:
    """What goes into each event: everything, or a piece a step and a last one that is text, as Google streams."""
    if not stream:
        return [parts]
    pieces = [[piece] for part in parts for piece in _pieces(part)]
    return pieces if pieces[-1][0].modality == "TEXT" else [*pieces, [_text("")]]


def _pieces(part: Part) -> Iterator[Part]:
    if part.modality == "TEXT":
        yield from map(_text, pieces(part.content["text"]))
    elif part.modality == "AUDIO":
        samples = base64.b64decode(bytes(part.content["inlineData"]["data"])[1:-1])
        yield from (_sound(samples[at : at + _SLICE]) for at in range(0, len(samples), _SLICE))
    else:
        yield part


def _picture(question: Question, model: str, candidate: int) -> Part:
    prompt, seed = question.prompt, f"{question.prompt}#{candidate}"
    if sent := question.pictures:
        picture = pictures.opened(pictures.decoded(sent[-1]))
        return _image(pictures.written(pictures.edited([picture], prompt, model, seed=seed)))
    wanted = question.generation_config.image_config
    size = pictures.dimensions(wanted.aspect_ratio, wanted.image_size)
    return _image(pictures.written(pictures.generated(prompt, model, size=size, seed=seed)))


@lru_cache(maxsize=4)  # benchmarks ask for the same one again and again
def _noise(size: int) -> Part:
    return _image(pictures.noise(size))


def _text(text: str) -> Part:
    return Part({"text": text}, "TEXT", len(text))


def _image(png: bytes) -> Part:
    return Part(_inline("image/png", png), "IMAGE", usage.PICTURE)


def _sound(samples: bytes) -> Part:
    return Part(_inline(speech.MIME_TYPE, samples), "AUDIO", len(samples) // 2)


def _inline(mime_type: str, data: bytes) -> dict[str, Any]:
    return {"inlineData": {"mimeType": mime_type, "data": base64_of(data)}}
