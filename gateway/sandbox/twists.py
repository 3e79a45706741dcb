"""What does each fault do to a whole answer?  Pure functions by the fault's name (`faults.py`)."""

import zlib
from collections.abc import Callable, Mapping
from dataclasses import replace

from gateway.sandbox.log import Record
from gateway.sandbox.refusals import anthropic_error, google_refusal, middleware_refusal, refusal, task_refusal
from gateway.sandbox.wire import Answer, Usage, unary, whole

_CODES = {429: "rate_limit", 503: "overloaded", 529: "overloaded"}
_PAGE = b"<!DOCTYPE html><html><head><title>502 Bad Gateway</title></head><body><h1>502 Bad Gateway</h1></body></html>"
_BOMB_MIB = 200
_GZIP = 16 + zlib.MAX_WBITS
_ENCODED = ((b"content-encoding", b"gzip"),)


def status(code: int, seconds: str, record: Record) -> Answer:
    """An error of that status in the vendor's shape, with `Retry-After` when seconds are given."""
    answer = refusal(code, _told(code), record, code=_CODES.get(code, "bad_response_status_code"))
    return _later(answer, seconds)


def _google(_: Answer, argument: str, _record: Record) -> Answer:
    code, _slash, seconds = argument.partition("/")
    return google_refusal(int(code), seconds or "1")


def _openai(_: Answer, argument: str, record: Record) -> Answer:
    code, _slash, seconds = argument.partition("/")
    return _later(middleware_refusal(int(code), _told(code), record, code=_CODES.get(int(code), "")), seconds)


def _anthropic(_: Answer, argument: str, record: Record) -> Answer:
    code, _slash, seconds = argument.partition("/")
    return _later(unary(anthropic_error(int(code), _told(code), record), status=int(code)), seconds)


def _task(_: Answer, argument: str, record: Record) -> Answer:
    code, _slash, seconds = argument.partition("/")
    return _later(task_refusal(int(code), _told(code), record), seconds)


def _told(code: int | str) -> str:
    return f"The sandbox was told to answer {code}."


def _later(answer: Answer, seconds: str) -> Answer:
    return replace(answer, headers=((b"retry-after", seconds.encode()),)) if seconds else answer


def _quota(_: Answer, _argument: str, record: Record) -> Answer:
    return middleware_refusal(403, "The quota of this user is used up.", record, code="insufficient_user_quota")


def _key(_: Answer, _argument: str, record: Record) -> Answer:
    return middleware_refusal(401, "Invalid token", record)


def _echokey(_: Answer, _argument: str, record: Record) -> Answer:
    received = record.header(b"authorization").decode("latin-1")
    return refusal(400, f"Bad request. Authorization was {received}", record, code="invalid_request")


def _invalidurl(_: Answer, _argument: str, record: Record) -> Answer:
    message = f"Invalid URL ({record.method} {record.path})"
    return middleware_refusal(404, message, record, kind="invalid_request_error")


def _error200(_: Answer, _argument: str, record: Record) -> Answer:
    return refusal(200, "The channel has failed.", record, code="do_request_failed")


def _twice(answer: Answer, argument: str, record: Record) -> Answer:
    """A limiter that writes its refusal and lets the call go on; without a status the same answer twice."""
    first = status(int(argument), "", record) if argument else answer
    body, usage = b"".join([*first.chunks, *answer.chunks]), _last_usage(answer)
    return replace(whole(body, status=first.status, content_type=first.content_type, usage=usage), whole_at=None)


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
    last = len(body) - 1
    usages = [*[None] * last, _last_usage(answer)]
    whole_at = None if answer.whole_at is None else last
    chunks = [body[at : at + 1] for at in range(len(body))]
    return replace(answer, chunks=chunks, usages=usages, whole_at=whole_at, gap=float(argument))


def _last_usage(answer: Answer) -> Usage:
    return next((usage for usage in reversed(answer.usages) if usage), None)


def _cut(answer: Answer, _argument: str, _record: Record) -> Answer:
    if len(answer.chunks) == 1:
        body = answer.chunks[0]
        return replace(answer, chunks=[body[: len(body) // 2]], usages=(), whole_at=None, cut=True)
    return replace(answer, chunks=answer.chunks[: min(2, len(answer.chunks) - 1)], cut=True)


def _cutafter(answer: Answer, argument: str, _record: Record) -> Answer:
    return replace(answer, cut_after=float(argument))


def _cutstart(answer: Answer, _argument: str, _record: Record) -> Answer:
    return replace(answer, chunks=(), headless=True, cut=True)


ANSWERS: Mapping[str, Callable[[Answer, str, Record], Answer]] = {
    "google": _google,
    "openai": _openai,
    "anthropic": _anthropic,
    "task": _task,
    "quota": _quota,
    "key": _key,
    "echokey": _echokey,
    "invalidurl": _invalidurl,
    "error200": _error200,
    "twice": _twice,
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
    "cutafter": _cutafter,
    "cutstart": _cutstart,
}
