"""How is a video downloaded?  Whole or in part, with what RFC 9110 has for that: ranges, an ETag, 304 and 416."""

import re
from dataclasses import replace
from email.utils import formatdate

from gateway.sandbox.log import Record
from gateway.sandbox.videos import clip
from gateway.sandbox.videos.tasks import Task
from gateway.sandbox.wire import Answer

_RANGE = re.compile(rb"bytes=(\d*)-(\d*)")
_TYPE = b"video/mp4"


def served(record: Record, task: Task, *, size: int | None, gap: float, ranges: bool = True) -> Answer:
    """The video, or what of it was asked for; without `ranges` always all of it.  `ValueError` as `clip.parts`."""
    pieces = clip.parts(task, size)
    length = sum(map(len, pieces))
    headers = _headers(task, length)
    tag, span = headers[0][1], _span(record, headers[0][1], length) if ranges and record.method == "GET" else None
    if tag in _tags(record.header(b"if-none-match")):
        return Answer(status=304, content_type=_TYPE, headers=headers, whole_at=0)
    if span is None:
        return _sent(record, pieces, (0, length), Answer(content_type=_TYPE, headers=headers, gap=gap))
    start, stop = span
    if start >= stop:
        unsatisfied = (*headers, (b"content-range", b"bytes */%d" % length))
        return Answer(status=416, content_type=_TYPE, headers=unsatisfied, length=0, whole_at=0)
    partial = (*headers, (b"content-range", b"bytes %d-%d/%d" % (start, stop - 1, length)))
    return _sent(record, pieces, span, Answer(status=206, content_type=_TYPE, headers=partial, gap=gap))


def _sent(record: Record, pieces: list[bytes], span: tuple[int, int], head: Answer) -> Answer:
    chunks = [b""] if record.method == "HEAD" else list(clip.window(pieces, *span))
    return replace(head, chunks=chunks, whole_at=len(chunks) - 1, length=span[1] - span[0])


def _headers(task: Task, length: int) -> tuple[tuple[bytes, bytes], ...]:
    return (
        (b"etag", f'"{task.id}-{length}"'.encode()),
        (b"last-modified", formatdate(task.ended, usegmt=True).encode()),
        (b"accept-ranges", b"bytes"),
        (b"cache-control", b"public, max-age=86400"),
    )


def _tags(header: bytes) -> set[bytes]:
    return {tag.strip().removeprefix(b"W/") for tag in header.split(b",")}


def _span(record: Record, tag: bytes, length: int) -> tuple[int, int] | None:
    """The range that was asked for; an empty one if it cannot be met, None where there is none that counts."""
    match = _RANGE.fullmatch(record.header(b"range"))
    condition = record.header(b"if-range")
    if not match or not (match[1] or match[2]) or (condition and condition != tag):
        return None
    if not match[1]:
        return max(0, length - int(match[2])), length
    stop = min(length, int(match[2]) + 1) if match[2] else length
    if match[2] and int(match[2]) < int(match[1]):
        return None  # no valid range, so that there is none
    return int(match[1]), stop
