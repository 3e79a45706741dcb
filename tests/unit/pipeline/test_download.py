"""A file is read ahead of whoever takes it: at the upstream's speed, in its order, and never more than the buffer."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from gateway.errors import UpstreamBroke, UpstreamTimeout
from gateway.memory import MemoryBudget
from gateway.pipeline.download import BINARY, ReadAhead, content_type_of, headers_of
from gateway.upstream import Answer
from tests.support.waiting import turns

LIMIT = 1000
NAMES = frozenset({"content-length", "content-range", "etag", "content-disposition"})


class File:
    """Chunks of 100 bytes, and how many of them were read."""

    def __init__(self, chunks: int, end: type[Exception] | None = None) -> None:
        self.read, self._chunks, self._end = 0, chunks, end

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for number in range(self._chunks):
            self.read += 1
            yield b"%d" % (number % 10) * 100
        if self._end is not None:
            raise self._end


async def take(ahead: ReadAhead, received: list[bytes]) -> None:
    """Take all that comes, as far as it comes."""
    async for chunk in ahead.play():
        received.append(chunk)  # noqa: PERF401  it is to be there when it breaks


async def test_no_more_is_read_than_the_buffer_holds() -> None:
    """D3: a caller who takes nothing stops the reading at the limit; all of it comes in order, and is counted."""
    budget, file = MemoryBudget(10**6), File(50)
    with budget.lease() as memory:
        chunks = ReadAhead(aiter(file), memory, limit=LIMIT, seconds=5).play()
        received = await anext(chunks)
        await turns(50)
        assert 10 <= file.read <= 12
        assert LIMIT - 100 <= budget.held <= LIMIT + 100
        async for chunk in chunks:
            received += chunk
            await turns(3)
            assert budget.held <= LIMIT + 100
    assert b"".join(b"%d" % (number % 10) * 100 for number in range(50)) == received
    assert 0 == budget.held


@pytest.mark.parametrize("chunks", [0, 1, 5, 50])
async def test_what_came_before_a_break_is_passed_on(chunks: int) -> None:
    """A5: an upstream that breaks off is told behind all that it had sent."""
    received = list[bytes]()
    with MemoryBudget(10**6).lease() as memory:
        ahead = ReadAhead(aiter(File(chunks, UpstreamBroke)), memory, limit=LIMIT, seconds=5)
        with pytest.raises(UpstreamBroke):
            await take(ahead, received)
    assert chunks * 100 == len(b"".join(received))


async def test_silence_has_an_end() -> None:
    """D2: an upstream that says nothing for too long is given up, also while nothing was read yet."""

    async def silent() -> AsyncIterator[bytes]:
        yield b"x"
        await asyncio.Event().wait()

    received = list[bytes]()
    with MemoryBudget(10**6).lease() as memory, pytest.raises(UpstreamTimeout):
        await take(ReadAhead(silent(), memory, seconds=0.01), received)
    assert [b"x"] == received


async def test_whoever_leaves_ends_the_reading() -> None:
    """D6: nothing goes on behind a caller who has left."""
    closed = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"x" * 100
        finally:
            closed.set()

    with MemoryBudget(10**6).lease() as memory:
        file = endless()
        chunks = ReadAhead(file, memory, limit=LIMIT, seconds=5).play()
        await anext(chunks)
        await chunks.aclose()
        await file.aclose()  # type: ignore[attr-defined]
    assert closed.is_set()


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ({"content-length": "5", "etag": '"a"', "x-new-api-version": "1"}, {"content-length", "etag"}),
        ({"etag": "a\r\nset-cookie: x", "content-range": "bytes 0-4/9"}, {"content-range"}),
        ({"content-disposition": 'attachment; filename="video_1.mp4"'}, {"content-disposition"}),
        ({"content-disposition": "inline"}, {"content-disposition"}),
        ({"content-disposition": 'attachment; filename="../../x"'}, set()),
        ({"content-disposition": "attachment; filename*=UTF-8''x"}, set()),
        ({"content-encoding": "gzip", "content-length": "5", "etag": "a"}, {"etag"}),
    ],
)
def test_which_headers_come_back(said: dict[str, str], kept: set[str]) -> None:
    """P6: of a file's headers those that are plain come back; lengths of a coded one are not those of the file."""
    assert kept == {name.decode() for name, _ in headers_of(Answer(status=200, headers=said), NAMES)}


def test_a_coded_range_is_no_answer() -> None:
    """U11: a range of something that is coded cannot be decoded."""
    with pytest.raises(UpstreamBroke):
        headers_of(Answer(status=206, headers={"content-encoding": "gzip"}), NAMES)


def test_its_type() -> None:
    """P6: the type is the upstream's where it is a plain one."""
    for said, kept in (("video/mp4", "video/mp4"), ("video/mp4; x=y", "video/mp4"), ("", BINARY), ("a b/c", BINARY)):
        assert kept == content_type_of(Answer(status=200, headers={"content-type": said}))
