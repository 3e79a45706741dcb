"""What is an embedding?  A unit vector that is decided by the text alone."""

import base64
import math
from array import array
from random import Random
from typing import Any, Literal

import msgspec

from gateway.sandbox import families, usage
from gateway.sandbox.body import decoded
from gateway.sandbox.turn import Turn

_LONGEST = 10_000  # numbers


class Request(msgspec.Struct):
    """What is read of a request; every other field is skipped."""

    model: str = ""
    input: str | list[str | int | list[int]] | None = None
    dimensions: int | None = None
    encoding_format: Literal["float", "base64"] | None = None


def read(body: bytes) -> Request:
    """Understand a request body.  `ValueError` when it is not JSON of this shape."""
    return decoded(body, Request)


def cost(request: Request) -> int:
    """Tokens of the input.  `ValueError` when there is nothing to embed."""
    return sum(len(each) if isinstance(each, list) else usage.tokens("TEXT", len(each)) for each in _inputs(request))


def answer(request: Request, turn: Turn) -> dict[str, Any]:
    """The answer to `POST /v1/embeddings`.  `ValueError` when there is nothing to embed."""
    length = families.dimensions(request.model) if request.dimensions is None else request.dimensions
    data = [
        {"object": "embedding", "index": number, "embedding": _written(vector(str(each), length), request)}
        for number, each in enumerate(_inputs(request))
    ]
    listed = {"object": "list", "data": data, "model": turn.model}
    if turn.tokens is None:
        return listed
    spent, total = turn.tokens.prompt, turn.tokens.total
    return {**listed, "usage": {"prompt_tokens": spent, "completion_tokens": 0, "total_tokens": total}}


def vector(text: str, length: int) -> list[float]:
    """The vector of a text.  `ValueError` when nothing was sent or its length is absurd."""
    if not text or not 1 <= length <= _LONGEST:
        raise ValueError(f"There must be text, and 1 to {_LONGEST} dimensions")
    random = Random(text)
    values = [random.gauss() for _ in range(length)]
    norm = math.hypot(*values)
    return [round(value / norm, 6) for value in values]


def _inputs(request: Request) -> list[str | list[int]]:
    """What to embed one by one: a list of numbers alone is one input, as tokens."""
    if not request.input:
        raise ValueError("field input is required")
    if isinstance(request.input, str):
        return [request.input]
    numbers = [each for each in request.input if isinstance(each, int)]
    return [numbers] if numbers else [each for each in request.input if not isinstance(each, int)]


def _written(values: list[float], request: Request) -> list[float] | str:
    if request.encoding_format != "base64":
        return values
    return base64.b64encode(array("f", values).tobytes()).decode()
