"""Where events begin and end, wherever the chunks are cut."""

import json
import time
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.framing.sse import Events, Policy, SentEvent

MIB = 2**20


def events_of(*chunks: bytes) -> list[tuple[bytes, bytes]]:
    """Frames and payloads of a whole stream."""
    events = Events()
    found: list[SentEvent] = []
    for chunk in chunks:
        found += events.feed(chunk)
    found += events.end()
    assert 0 == events.pending
    return [(event.frame, event.data) for event in found]


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        (b"data: {}\n\n", [(b"data: {}\n\n", b"{}")]),
        (b"data: {}\r\n\r\n", [(b"data: {}\r\n\r\n", b"{}")]),
        (b"data: {}\r\rdata: 1\r\r", [(b"data: {}\r\r", b"{}"), (b"data: 1\r\r", b"1")]),
        (b"data:{}\n\n\n\n", [(b"data:{}\n\n", b"{}")]),
        (b"data:  x \n\n", [(b"data:  x \n\n", b" x ")]),
        (b"data: a\ndata\ndata: b\n\n", [(b"data: a\ndata\ndata: b\n\n", b"a\n\nb")]),
        (b"data: a\r\ndata: b\n\r\n", [(b"data: a\r\ndata: b\n\n", b"a\nb")]),
        (b"\xef\xbb\xbfdata: x\n\n", [(b"data: x\n\n", b"x")]),
        (b"data: x\n\n\xef\xbb\xbfdata: y\n\n", [(b"data: x\n\n", b"x")]),
        (b": PING\n\ndata: x\n\n: PING\n\n", [(b"data: x\n\n", b"x")]),
        (b"event: e\nid: 1\nretry: 5\n: c\ndata: x\nevent: f\n\n", [(b"data: x\n\n", b"x")]),
        (b"data: x\n\ndata: [DONE]\n\n", [(b"data: x\n\n", b"x")]),
        (b"data: [DONE]", []),
        (b"data:\n\ndata: \n\nevent: e\n\n", []),
        (b"dataset: x\n\ndata : x\n\n Data: x\n\n data: x\n\n data\n\n", []),
        (
            "data: a\u2028b\u0085c\x0b\x0cd\n\n".encode(),
            [("data: a\u2028b\u0085c\x0b\x0cd\n\n".encode(), "a\u2028b\u0085c\x0b\x0cd".encode())],
        ),
        (b"data: x", [(b"data: x\n\n", b"x")]),
        (b"data: x\n", [(b"data: x\n\n", b"x")]),
        (b"data: x\r", [(b"data: x\r\r", b"x")]),
        (b"data: x\r\n", [(b"data: x\r\n\r\n", b"x")]),
        (b"data: x\r\ndata: y", [(b"data: x\r\ndata: y\r\n\r\n", b"x\ny")]),
        (b"data: x\r\n\r", [(b"data: x\r\n\r\n", b"x")]),
        (b"", []),
        (b"\n\n\r\n\r", []),
    ],
)
def test_streams(stream: bytes, expected: list[tuple[bytes, bytes]]) -> None:
    """Data lines keep their bytes; everything else goes, and each event ends with one empty line, cut anywhere."""
    assert expected == events_of(stream)
    for cut in range(len(stream) + 1):
        assert expected == events_of(stream[:cut], stream[cut:])
    assert expected == events_of(*(stream[at : at + 1] for at in range(len(stream))))


pieces = st.sampled_from(
    [
        b"data: ",
        b"data:",
        b"data",
        b"x",
        b"{}",
        b"\n",
        b"\r\n",
        b"\r",
        b"\n\n",
        b"\r\n\r\n",
        b": c",
        b"id: 1",
        b"[DONE]",
        b"\xef\xbb\xbf",
        b"",
    ]
)


@given(stream=st.lists(pieces, max_size=40).map(b"".join), cuts=st.lists(st.integers(0, 200), max_size=12))
@example(stream=b"data: a\rdata: ", cuts=[8])  # a CR ends its line although the next chunk ends none
def test_any_chunking(stream: bytes, cuts: list[int]) -> None:
    """However a stream is cut, its events are the same, and what was held is counted."""
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    assert events_of(stream) == events_of(*(stream[begin:end] for begin, end in pairwise(edges)))


@given(
    payloads=st.lists(
        st.binary(min_size=1, max_size=30).filter(
            lambda one: not set(one) & set(b"\r\n") and one.strip() not in {b"", b"[DONE]"}
        )
    )
)
def test_what_is_written_is_read(payloads: list[bytes]) -> None:
    """What comes out of a stream is what was put in, and a frame read again is itself."""
    frames = [b"data: " + payload + b"\n\n" for payload in payloads]
    assert list(zip(frames, payloads, strict=True)) == events_of(b"".join(frames))


def test_an_event_is_given_at_once() -> None:
    """An event is out with the byte that ends it, and no byte is held afterwards."""
    events = Events()
    assert [] == events.feed(b": hi\n\ndata: 1\n")
    assert 8 == events.pending
    assert [b"1"] == [event.data for event in events.feed(b"\n")]
    assert 0 == events.pending
    assert [b"2"] == [event.data for event in events.feed(b"data: 2\n\ndata: 3")]
    assert 7 == events.pending


@pytest.mark.parametrize("line", [2**14, 10], ids=["one line", "many lines"])
def test_long_events_are_linear(line: int) -> None:
    """An event of several MiB in thousands of chunks takes time by its length, not by its square (printed)."""
    took = []
    for size in (2 * MIB, 8 * MIB):
        chunk = b"a" * 512 if line > 512 else b"data:aaaa\n" * 51
        events, begin = Events(), time.perf_counter()
        for found in [events.feed(b"data: "), *(events.feed(chunk) for _ in range(size // len(chunk)))]:
            assert [] == found
        assert size * 0.99 < events.pending < size * 1.01
        assert 1 == len(events.feed(b"\n\n"))
        took.append(1e3 * (time.perf_counter() - begin))
    print(f"2 MiB {took[0]:.1f} ms, 8 MiB {took[1]:.1f} ms")  # noqa: T201  for the reader: a busy machine fails no test


def test_json_that_goes_on_over_lines() -> None:
    """Only the first line has its `data:`: it becomes one line, so that every SDK reads it."""
    for cut in range(20):
        stream = b'data: {\n  "a": [\n1\n ]\n}\n\n: PING\n\n'.replace(b"1\n", b"")
        events = Events()
        found = [*events.feed(stream[:cut]), *events.feed(stream[cut:]), *events.end()]
        assert [b'data: {   "a": [  ] }\n\n'] == [event.frame for event in found]
        assert {"a": []} == json.loads(found[0].data)


def test_json_that_nobody_announced_may_have_a_field_behind_it() -> None:
    """U17: a relay that writes an error without an end of line goes on behind it; within a text it is text."""
    events = Events(Policy(done=True)).feed(b'{"a":"}data: x"}data: [DONE]\n\n')
    assert [b'{"a":"}data: x"}', b"[DONE]"] == [event.data for event in events]
    assert [b'{"a":1}'] == [event.data for event in Events().feed(b'{"a":1}data:x}data:y}\n')]
    many = b'{"a":"' + b"}data:" * 50_000 + b'"}'
    assert [many] == [event.data for event in Events().feed(many + b"\n\n")]
