"""What did the server reply?  The parser finds it however the bytes are cut."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.exceptions import AskError, InvalidResponse, MovedError, NoScriptError, ResponseError, TryAgainError

from gateway.store import Store
from gateway.store.command import StoreUnavailable
from gateway.store.resp import LARGE, RespParser
from tests.support.waiting import turns, until

VALUES = st.recursive(
    st.none() | st.integers() | st.binary(max_size=40), lambda inner: st.lists(inner, max_size=4), max_leaves=8
)


def spoken(value: Any) -> bytes:
    """A value as a server encodes it."""
    match value:
        case None:
            return b"$-1\r\n"
        case int():
            return b":%d\r\n" % value
        case bytes():
            return b"$%d\r\n%b\r\n" % (len(value), value)
    return b"*%d\r\n" % len(value) + b"".join(map(spoken, value))


@given(st.lists(VALUES, max_size=5), st.data())
def test_any_cut_gives_the_same_replies(values: list[Any], data: st.DataObject) -> None:
    """R4: replies come whole and in order, wherever the network cuts them."""
    text, replies = b"".join(map(spoken, values)), RespParser()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    assert values == [reply for piece in pieces for reply in replies.feed(piece)]


@given(st.data())
def test_large_values_are_whole_wherever_they_are_cut(data: st.DataObject) -> None:
    """R4: a value that grows as it comes ends where it ends, and what stands before and after it stays."""
    values = [b"small", bytes(LARGE), 7, bytes(range(256)) * 1000, None, b"x" * (LARGE - 1), [b"y" * 2 * LARGE, 1], b""]
    text, replies = b"".join(map(spoken, values)), RespParser()
    near = st.integers(-3, 3).flatmap(
        lambda off: st.sampled_from([max(text.find(b"\r\n", at) + off, 0) for at in range(0, len(text), LARGE // 2)])
    )
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)) | near, max_size=9)))
    pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    assert values == [reply for piece in pieces for reply in replies.feed(piece)]


def test_a_picture_is_not_read_again_with_each_piece() -> None:
    """A value of 20 MB in pieces of 4 kB is joined once: were it every time, this would take minutes."""
    picture, replies = bytes(20_000_000), RespParser()
    text = spoken(picture)
    found = [reply for at in range(0, len(text), 4096) for reply in replies.feed(text[at : at + 4096])]
    assert [picture] == found


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        (b"-NOSCRIPT No matching script.", NoScriptError),
        (b"-MOVED 3999 127.0.0.1:6381", MovedError),
        (b"-ASK 3999 127.0.0.1:6381", AskError),
        (b"-TRYAGAIN Multiple keys request during rehashing of slot", TryAgainError),
        (b"-OOM command not allowed when used memory > 'maxmemory'.", ResponseError),
    ],
)
def test_kinds_of_errors_are_distinguished(said: bytes, kind: type[ResponseError]) -> None:
    """Of all errors those have a class of their own after which something else is asked; the text stays."""
    (error,) = RespParser().feed(said + b"\r\n")
    assert kind is type(error)
    assert isinstance(error, ResponseError)
    assert str(error).split()[-1].encode() == said.split()[-1]
    if isinstance(error, AskError):
        assert (3999, "127.0.0.1", 6381) == (error.slot_id, error.host, error.port)


@pytest.mark.parametrize("said", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b":many\r\n", b"$many\r\n"])
def test_what_is_no_reply_is_an_error(said: bytes) -> None:
    """Whatever else listens there is not taken for a store."""
    with pytest.raises((InvalidResponse, ValueError)):
        RespParser().feed(said)


@contextlib.asynccontextmanager
async def speaker(folder: Path, *answers: bytes) -> AsyncIterator[str]:
    """A server that sends these replies, one to each connection's first bytes, and the last to all others."""
    left = list(answers)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer):
            while await reader.read(10_000):
                writer.write(left.pop(0) if len(left) > 1 else left[0])

    async with await asyncio.start_unix_server(serve, folder / "s"):
        yield f"unix://{folder / 's'}"


async def test_a_reply_that_nobody_asked_for_ends_the_connection(tmp_path: Path) -> None:
    """R4: a reply too many goes to no caller, least of all to the next one."""
    async with speaker(tmp_path, b"$1\r\na\r\n$5\r\nstray\r\n", b"$1\r\nb\r\n") as url:
        store = Store(url, timeout=5)
        assert b"a" == await store.command("GET", "k")
        await turns()  # in which the stray reply is found
        assert b"b" == await store.command("GET", "k")
        assert store.up
        await store.aclose()


async def test_a_server_of_another_kind_is_unavailable(tmp_path: Path) -> None:
    """R1: a web server on the store's port raises no unexpected error, and is detected at once."""
    async with speaker(tmp_path, b"HTTP/1.1 400 Bad Request\r\n\r\n") as url:
        store = Store(url, timeout=5)
        with pytest.raises(StoreUnavailable, match="what answers there is no store"):
            await store.command("GET", "k")
        await until(lambda: not store.up)
        await store.aclose()


async def test_a_single_server_that_sends_us_elsewhere_is_unavailable(tmp_path: Path) -> None:
    """R1: a node of a cluster, where a single server was named, is no store, and nobody is sent round in circles."""
    async with speaker(tmp_path, b"-MOVED 1 127.0.0.1:1\r\n") as url:
        store = Store(url, timeout=5)
        with pytest.raises(StoreUnavailable):
            await store.command("GET", "k")
        assert not store.up
        await store.aclose()
