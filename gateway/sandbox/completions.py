"""How does new-api write completions?  `POST /v1/completions`."""

import msgspec

from gateway.sandbox.asked import Asked, Media
from gateway.sandbox.body import decoded
from gateway.sandbox.chat import STOPS, ended
from gateway.sandbox.openai_usage import chat_usage
from gateway.sandbox.replies import pieces
from gateway.sandbox.turn import Turn
from gateway.sandbox.wire import Event, Frame

_BOUND = 16  # tokens, where the request has no max_tokens
_PER_TOKEN = 4  # characters


class _Request(msgspec.Struct):
    """What is read of a request; every other field is skipped."""

    model: str = ""
    prompt: str | list[str | int | list[int]] | None = None
    stream: bool | None = None
    stream_options: dict[str, bool] | None = None
    n: int | None = None
    max_tokens: int | None = None
    stop: str | list[str] | None = None


def read(body: bytes) -> Asked:
    """Understand a request body.  `ValueError` when it is not JSON of this shape."""
    request = decoded(body, _Request)
    if not request.prompt:
        raise ValueError("field prompt is required")
    texts, tokens = parts_of(request.prompt)
    return Asked(
        model=request.model,
        prompt=" ".join(texts),
        media=Media(characters=sum(map(len, texts)) + _PER_TOKEN * tokens),
        stream=bool(request.stream),
        usage_wanted=(request.stream_options or {}).get("include_usage") is not False,
        candidates=1 if request.n is None else request.n,
        bound=_BOUND if request.max_tokens is None else request.max_tokens,
        stops=[request.stop] if isinstance(request.stop, str) else request.stop or (),
    )


def whole(turn: Turn) -> Event:
    """The answer in one piece."""
    choices = [_choice(number, reply.text, STOPS[reply.stop]) for number, reply in enumerate(turn.replies)]
    answer = {**_head(turn), "choices": choices}
    return answer if turn.tokens is None else {**answer, "usage": chat_usage(turn.tokens)}


def frames(turn: Turn) -> list[Frame]:
    """The answer as a stream; its chunks have `text` where those of chat have `delta`."""
    chunks = []
    for number, reply in enumerate(turn.replies):
        stop = STOPS[reply.stop]
        choices = [_choice(number, piece, None) for piece in pieces(reply.text)]
        choices += [_choice(number, "", stop)] if stop else []
        chunks += [{**_head(turn), "choices": [choice]} for choice in choices]
    return ended(turn, chunks)


def parts_of(prompt: str | list[str | int | list[int]]) -> tuple[list[str], int]:
    """The texts in a prompt, and how many tokens it gives as numbers."""
    if isinstance(prompt, str):
        return [prompt], 0
    numbers = sum(len(part) if isinstance(part, list) else 1 for part in prompt if not isinstance(part, str))
    return [part for part in prompt if isinstance(part, str)], numbers


def _head(turn: Turn) -> Event:
    return {"id": f"cmpl-{turn.nonce}", "object": "text_completion", "created": turn.created, "model": turn.model}


def _choice(number: int, text: str, stop: str | None) -> Event:
    return {"text": text, "index": number, "logprobs": None, "finish_reason": stop}
