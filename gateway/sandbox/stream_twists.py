"""What does each fault do to a stream?  Pure functions by the fault's name (`faults.py` lists what they are for).

`STREAMS` change the bytes of server-sent events on any route, `FRAMES` the events of the text routes before they are
framed.  Both leave alone what they do not know.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import msgspec

from gateway.sandbox.log import Record
from gateway.sandbox.refusals import anthropic_error, is_anthropic, openai_error, refusal
from gateway.sandbox.wire import SSE, Answer, Frame

_PING = b": PING\n\n"
_EARLY = 3  # comments before the first event
_GOOD = 2  # events before an error
_GOOGLE_ERROR = {"error": {"code": 503, "message": "The model is overloaded.", "status": "UNAVAILABLE"}}
_MESSAGE = "The model is overloaded."


def _crlf(answer: Answer, _argument: str, _record: Record) -> Answer:
    return replace(answer, chunks=[chunk.replace(b"\n", b"\r\n") for chunk in answer.chunks])


def _ping(answer: Answer, _argument: str, record: Record) -> Answer:
    if _is_gemini(record):
        more = [b"%bevent: message\nid: %d\n%b" % (_PING, number, chunk) for number, chunk in enumerate(answer.chunks)]
        return replace(answer, chunks=[*more[:-1], more[-1] + b"data: [DONE]\n\n"])
    return replace(answer, chunks=[_PING + chunk for chunk in answer.chunks])


def _earlyping(answer: Answer, _argument: str, _record: Record) -> Answer:
    return _preceded(answer, [_PING] * _EARLY)


def _earlyerror(answer: Answer, _argument: str, record: Record) -> Answer:
    return _ended([_PING] * _EARLY, (), _bare(record), answer)


def _nonewline(answer: Answer, _argument: str, _record: Record) -> Answer:
    return replace(answer, chunks=[*answer.chunks[:-1], answer.chunks[-1].removesuffix(b"\n")])


def _streamerror(answer: Answer, _argument: str, record: Record) -> Answer:
    return _ended(answer.chunks[:_GOOD], answer.usages, _error_event(record), answer)


def _bareerror(answer: Answer, _argument: str, record: Record) -> Answer:
    return _ended(answer.chunks[:_GOOD], answer.usages, _bare(record), answer)


def _cutend(answer: Answer, _argument: str, _record: Record) -> Answer:
    return replace(answer, chunks=answer.chunks[: answer.whole_at], cut=True)


def _cutdone(answer: Answer, _argument: str, _record: Record) -> Answer:
    """Half of the events, and all the same a clean end: with `[DONE]` where the stream had one."""
    last = [chunk for chunk in answer.chunks[-1:] if b"[DONE]" in chunk]
    half = answer.chunks[: max(1, len(answer.chunks) // 2)]
    return replace(answer, chunks=[*half, *last], usages=answer.usages[: len(half)], whole_at=None)


def _nolast(answer: Answer, _argument: str, _record: Record) -> Answer:
    return replace(answer, chunks=answer.chunks[:-1])


def _noevents(answer: Answer, _argument: str, _record: Record) -> Answer:
    chunks = [chunk[chunk.index(b"data:") :] if chunk.startswith(b"event:") else chunk for chunk in answer.chunks]
    return replace(answer, chunks=chunks)


def _oddfields(answer: Answer, _argument: str, _record: Record) -> Answer:
    """Before each event its id, a retry time, and events without data."""
    odd = b"id: %d\nretry: 3000\n\nevent: keepalive\n\n"
    return replace(answer, chunks=[odd % number + chunk for number, chunk in enumerate(answer.chunks)])


def _late(answer: Answer, argument: str, _record: Record) -> Answer:
    return replace(answer, silence=float(argument) if argument else None, silence_at=0)


def _silence(answer: Answer, argument: str, _record: Record) -> Answer:
    return replace(answer, silence=float(argument) if argument else None, silence_at=len(answer.chunks) // 2)


def _usageall(frames: list[Frame]) -> list[Frame]:
    """Usage on each chunk, growing with what has been written; the last chunk has it as ever."""
    final = next((frame.usage for frame in frames if frame.usage and "completion_tokens" in frame.usage), None)
    if final is None:
        return frames
    return [
        frame if frame.raw or frame.usage else _with_usage(frame, _partly(final, number, len(frames)))
        for number, frame in enumerate(frames)
    ]


def _holes(frames: list[Frame]) -> list[Frame]:
    """The blocks of a message are numbered 1, 3, 5 in place of 0, 1, 2."""
    return [
        frame._replace(data={**frame.data, "index": 2 * frame.data["index"] + 1}) if "index" in frame.data else frame
        for frame in frames
    ]


def _unclosed(frames: list[Frame]) -> list[Frame]:
    return [frame for frame in frames if frame.name != "content_block_stop"]


def _failed(frames: list[Frame]) -> list[Frame]:
    """A response that fails: that too is an end, and its usage counts."""
    last = frames[-1].data
    if "response" not in last:
        return frames
    error = {"code": "server_error", "message": _MESSAGE}
    response = {**last["response"], "status": "failed", "error": error, "output": []}
    begun = frames[: _GOOD + 1]
    data = {"type": "response.failed", "sequence_number": len(begun), "response": response}
    return [*begun, Frame(data, name="response.failed", usage=response["usage"], ends=True)]


STREAMS: Mapping[str, Callable[[Answer, str, Record], Answer]] = {
    "crlf": _crlf,
    "ping": _ping,
    "earlyping": _earlyping,
    "earlyerror": _earlyerror,
    "nonewline": _nonewline,
    "streamerror": _streamerror,
    "bareerror": _bareerror,
    "cutend": _cutend,
    "cutdone": _cutdone,
    "nolast": _nolast,
    "noevents": _noevents,
    "oddfields": _oddfields,
    "late": _late,
    "silence": _silence,
}
FRAMES: Mapping[str, Callable[[list[Frame]], list[Frame]]] = {
    "usageall": _usageall,
    "holes": _holes,
    "unclosed": _unclosed,
    "failed": _failed,
}


def changed(name: str, answer: Answer, argument: str, record: Record) -> Answer:
    """An answer with one of `STREAMS` in it; what is no stream of events stays as it is."""
    return STREAMS[name](answer, argument, record) if answer.content_type == SSE else answer


def _is_gemini(record: Record) -> bool:
    return record.path.startswith("/v1beta")


def _preceded(answer: Answer, chunks: list[bytes]) -> Answer:
    whole_at = None if answer.whole_at is None else answer.whole_at + len(chunks)
    usages = [*[None] * len(chunks), *answer.usages]
    return replace(answer, chunks=[*chunks, *answer.chunks], usages=usages, whole_at=whole_at)


def _ended(chunks: Sequence[bytes], usages: Sequence[Any], last: bytes, answer: Answer) -> Answer:
    """A stream that breaks off in an error, and is never whole."""
    return replace(answer, chunks=[*chunks, last], usages=usages[: len(chunks)], whole_at=None)


def _bare(record: Record) -> bytes:
    """An error as new-api appends it to an answer that has begun: JSON, in no event."""
    return b"".join(refusal(503, _MESSAGE, record, code="overloaded").chunks)


def _error_event(record: Record) -> bytes:
    if _is_gemini(record):
        return b"data: %b\n\n" % msgspec.json.encode(_GOOGLE_ERROR)
    if is_anthropic(record):
        return b"event: error\ndata: %b\n\n\n" % msgspec.json.encode(anthropic_error(529, _MESSAGE, record))
    if record.path.startswith("/v1/responses"):
        numbered = {"type": "error", "sequence_number": _GOOD, "code": "server_error", "message": _MESSAGE}
        return b"event: error\ndata: %b\n\n" % msgspec.json.encode({**numbered, "param": None})
    return b"data: %b\n\n" % msgspec.json.encode(openai_error(_MESSAGE, record, code="overloaded"))


def _with_usage(frame: Frame, usage: Mapping[str, Any]) -> Frame:
    return frame._replace(data={**frame.data, "usage": usage}, usage=usage)


def _partly(final: Mapping[str, Any], number: int, count: int) -> Mapping[str, Any]:
    completion = final["completion_tokens"] * number // count
    return {**final, "completion_tokens": completion, "total_tokens": final["prompt_tokens"] + completion}
