"""Which dialect answers on which route?  The routes of OpenAI and Anthropic that take and give text."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from gateway.sandbox import channel, chat, completions, embeddings, messages, replies, responses, tokens, wire
from gateway.sandbox.asked import Asked, Media
from gateway.sandbox.call import Call
from gateway.sandbox.replies import Reply
from gateway.sandbox.tokens import Tokens
from gateway.sandbox.turn import Turn
from gateway.sandbox.wire import Answer, Event, Frame


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """How one route reads requests and writes answers."""

    read: Callable[[bytes], Asked]
    whole: Callable[[Turn], Event]
    frames: Callable[[Turn], list[Frame]] | None = None  # None: it never streams
    blank_lines: int = 1  # between two events


_DIALECTS: Mapping[str, Dialect] = {
    "/v1/chat/completions": Dialect(read=chat.read, whole=chat.whole, frames=chat.frames),
    "/v1/completions": Dialect(read=completions.read, whole=completions.whole, frames=completions.frames),
    "/v1/responses": Dialect(read=responses.read, whole=responses.whole, frames=responses.frames),
    "/v1/responses/compact": Dialect(read=responses.read, whole=responses.compacted),
    "/v1/messages": Dialect(read=messages.read, whole=messages.whole, frames=messages.frames, blank_lines=2),
}
PATHS = frozenset({*_DIALECTS, "/v1/messages/count_tokens", "/v1/embeddings"})


def answer(call: Call) -> Answer:
    """The answer to a request on one of `PATHS`.  `ValueError` when it cannot be understood."""
    if dialect := _DIALECTS.get(call.record.path):
        return _written(call, dialect)
    return _embedded(call) if call.record.path == "/v1/embeddings" else _counted(call)


def _written(call: Call, dialect: Dialect) -> Answer:
    asked = dialect.read(call.body)
    if refused := channel.refused(call, asked.model, "text"):
        return refused
    said = replies.made(asked, call.size)
    turn = _turn(call, asked, said, tokens.of_call(asked, said, call.cached))
    call.record.stream = asked.stream
    if dialect.frames and (call.fault.streams(asked=asked.stream) if call.fault else asked.stream):
        frames = dialect.frames(turn)
        frames = call.fault.change_frames(frames) if call.fault else frames
        return wire.framed(frames, call.gap, blank_lines=dialect.blank_lines)
    event = dialect.whole(turn)
    return wire.unary(event, usage=event.get("usage"))


def _turn(call: Call, asked: Asked, said: tuple[Reply, ...], spent: Tokens) -> Turn:
    """What is said, and what it costs; the log has the true cost, whatever a fault makes of it."""
    call.record.tokens = spent.kinds()
    turn = Turn(
        asked=asked,
        model=asked.model,
        replies=said,
        tokens=spent,
        nonce=call.record.nonce,
        created=int(call.record.started),
    )
    return call.fault.change_turn(turn) if call.fault else turn


def _embedded(call: Call) -> Answer:
    request = embeddings.read(call.body)
    if refused := channel.refused(call, request.model, "embedding"):
        return refused
    asked = Asked(model=request.model, prompt="", media=Media())
    event = embeddings.answer(request, _turn(call, asked, (), Tokens(prompt=embeddings.cost(request))))
    return wire.unary(event, usage=event.get("usage"))


def _counted(call: Call) -> Answer:
    asked = messages.read(call.body)
    return channel.refused(call, asked.model, "text") or wire.unary({"input_tokens": tokens.of_prompt(asked).prompt})
