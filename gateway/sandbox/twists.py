"""What does each fault do to an answer?  Pure functions by the fault's name (`faults.py` lists what they are for)."""

import zlib
from collections.abc import Callable, Mapping
from dataclasses import replace

import msgspec

from gateway.sandbox.log import Record
from gateway.sandbox.refusals import google_refusal, refusal
from gateway.sandbox.replies import filler
from gateway.sandbox.wire import SSE, Answer, Event, whole

_CODES = {429: "rate_limit", 503: "overloaded"}
_PAGE = b"<!DOCTYPE html><html><head><title>502 Bad Gateway</title></head><body><h1>502 Bad Gateway</h1></body></html>"
_BOMB_MIB = 200
_GZIP = 16 + zlib.MAX_WBITS
_ENCODED = ((b"content-encoding", b"gzip"),)
_STREAM_ERROR = {"error": {"code": 503, "message": "The model is overloaded.", "status": "UNAVAILABLE"}}


def status(code: int, seconds: str, record: Record) -> Answer:
    """An error of that status in the vendor's shape, with `Retry-After` when seconds are given."""
    answer = refusal(
        code, f"The sandbox was told to answer {code}.", record, code=_CODES.get(code, "bad_response_status_code")
    )
    return replace(answer, headers=((b"retry-after", seconds.encode()),)) if seconds else answer


def _google(_: Answer, argument: str, _record: Record) -> Answer:
    code, _slash, seconds = argument.partition("/")
    return google_refusal(int(code), seconds or "1")


def _quota(_: Answer, _argument: str, record: Record) -> Answer:
    return refusal(403, "The quota of this user is used up.", record, code="insufficient_user_quota")


def _key(_: Answer, _argument: str, record: Record) -> Answer:
    return refusal(401, "Invalid token", record)


def _echokey(_: Answer, _argument: str, record: Record) -> Answer:
    received = record.header(b"authorization").decode("latin-1")
    return refusal(400, f"Bad request. Authorization was {received}", record, code="invalid_request")


def _redirect(_: Answer, _argument: str, _record: Record) -> Answer:
    return replace(whole(b"", status=302), headers=((b"location", b"http://127.0.0.1:1/thief"),))


def _html(_: Answer, _argument: str, _record: Record) -> Answer:
    return whole(_PAGE, status=502, content_type=b"text/html")


def _html200(_: Answer, _argument: str, _record: Record) -> Answer:
    return whole(_PAGE, content_type=b"text/html")


def _empty(_: Answer, _argument: str, _record: Record) -> Answer:
    return whole(b"")


def _badjson(answer: Answer, _argument: str, _record: Record) -> Answer:
    body = b"".join(answer.chunks)
    return whole(body[: len(body) // 2], content_type=answer.content_type)


def _gzip(answer: Answer, _argument: str, _record: Record) -> Answer:
    packer = zlib.compressobj(wbits=_GZIP)
    last = len(answer.chunks) - 1
    chunks = [
        packer.compress(chunk) + packer.flush(zlib.Z_FINISH if number == last else zlib.Z_SYNC_FLUSH)
        for number, chunk in enumerate(answer.chunks)
    ]
    length = None if answer.length is None else sum(map(len, chunks))
    return replace(answer, chunks=chunks, length=length, headers=_ENCODED)


def _bomb(_: Answer, _argument: str, _record: Record) -> Answer:
    packer, zeros = zlib.compressobj(level=1, wbits=_GZIP), bytes(1024 * 1024)
    packed = b"".join([*(packer.compress(zeros) for _ in range(_BOMB_MIB)), packer.flush()])
    return replace(whole(packed), headers=_ENCODED)


def _slow(answer: Answer, argument: str, _record: Record) -> Answer:
    return replace(answer, wait=float(argument))


def _hang(answer: Answer, _argument: str, _record: Record) -> Answer:
    return replace(answer, wait=None)


def _drip(answer: Answer, argument: str, _record: Record) -> Answer:
    body = b"".join(answer.chunks)
    usages = [*[None] * (len(body) - 1), *answer.usages[-1:]]
    return replace(
        answer,
        chunks=[body[at : at + 1] for at in range(len(body))],
        usages=usages,
        whole_at=len(body) - 1,
        gap=float(argument),
    )


def _cut(answer: Answer, _argument: str, _record: Record) -> Answer:
    if len(answer.chunks) == 1:
        body = answer.chunks[0]
        return replace(answer, chunks=[body[: len(body) // 2]], usages=(), whole_at=None, cut=True)
    return replace(answer, chunks=answer.chunks[: min(2, len(answer.chunks) - 1)], cut=True)


def _cutstart(answer: Answer, _argument: str, _record: Record) -> Answer:
    return replace(answer, chunks=(), headless=True, cut=True)


ANSWERS: Mapping[str, Callable[[Answer, str, Record], Answer]] = {
    "google": _google,
    "quota": _quota,
    "key": _key,
    "echokey": _echokey,
    "redirect": _redirect,
    "html": _html,
    "html200": _html200,
    "empty": _empty,
    "badjson": _badjson,
    "gzip": _gzip,
    "bomb": _bomb,
    "slow": _slow,
    "hang": _hang,
    "drip": _drip,
    "cut": _cut,
    "cutstart": _cutstart,
}


def _blocked(events: list[Event], _argument: str) -> list[Event]:
    last = {name: value for name, value in events[-1].items() if name != "candidates"}
    prompt = {name: value for name, value in last["usageMetadata"].items() if name.startswith("prompt")}
    prompt["totalTokenCount"] = prompt["promptTokenCount"]
    return [{"promptFeedback": {"blockReason": "SAFETY"}, **last, "usageMetadata": prompt}]


def _safety(events: list[Event], _argument: str) -> list[Event]:
    for candidate in events[-1]["candidates"]:
        candidate["finishReason"] = "SAFETY"
    return events


def _nousage(events: list[Event], _argument: str) -> list[Event]:
    return [{name: value for name, value in event.items() if name != "usageMetadata"} for event in events]


def _link(events: list[Event], _argument: str) -> list[Event]:
    _say(events, "![image](http://169.254.169.254/picture.png)")
    return _nousage(events, "")


def _toolong(events: list[Event], argument: str) -> list[Event]:
    _say(events, filler(int(argument)))
    return events


def _say(events: list[Event], text: str) -> None:
    events[-1]["candidates"][0]["content"]["parts"] = [{"text": text}]


EVENTS: Mapping[str, Callable[[list[Event], str], list[Event]]] = {
    "blocked": _blocked,
    "safety": _safety,
    "nousage": _nousage,
    "link": _link,
    "toolong": _toolong,
}


def _crlf(answer: Answer) -> Answer:
    return replace(answer, chunks=[chunk.replace(b"\n", b"\r\n") for chunk in answer.chunks])


def _ping(answer: Answer) -> Answer:
    chunks = [b": PING\n\nevent: message\nid: %d\n%b" % (number, chunk) for number, chunk in enumerate(answer.chunks)]
    chunks[-1] += b"data: [DONE]\n\n"
    return replace(answer, chunks=chunks)


def _nonewline(answer: Answer) -> Answer:
    return replace(answer, chunks=[*answer.chunks[:-1], answer.chunks[-1].removesuffix(b"\n")])


def _streamerror(answer: Answer) -> Answer:
    error = b"data: %b\n\n" % msgspec.json.encode(_STREAM_ERROR)
    return replace(answer, chunks=[*answer.chunks[:2], error], usages=answer.usages[:2], whole_at=None)


def _only_streams(twist: Callable[[Answer], Answer]) -> Callable[[Answer], Answer]:
    return lambda answer: twist(answer) if answer.content_type == SSE else answer


STREAMS: Mapping[str, Callable[[Answer], Answer]] = {
    "crlf": _only_streams(_crlf),
    "ping": _only_streams(_ping),
    "nonewline": _only_streams(_nonewline),
    "streamerror": _only_streams(_streamerror),
}
