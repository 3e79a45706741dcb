"""What must every dialect keep, whatever it speaks?"""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.asgi.request import Request
from gateway.call import Dialect, Event, Meter, State, Usage
from gateway.config.clients import Client
from gateway.dialects import ALL
from gateway.errors.tree import BadRequest, KeyInvalid, MethodNotAllowed, ModelMissing, RouteUnknown
from gateway.framing.json_array import Objects, Writer
from gateway.framing.sse import Events
from gateway.upstream.fault import fault_of
from tests.support.calls import understood

HERE = Path(__file__).parent
STREAMED = {"gemini": b"/v1beta/models/gemini-2.5-flash:streamGenerateContent"}  # by dialect: a path that streams
PATHS = [
    b"/v1beta/models/m:generateContent",
    b"/v1/models",
    b"/v1/models/m",
    b"/models/m:countTokens",
    b"/v1/chat/completions",
]

SPOKEN = [dialect for dialect in ALL if dialect.name in STREAMED]
dialects = pytest.mark.parametrize("dialect", SPOKEN, ids=lambda dialect: dialect.name)
Split = Callable[[bytes, list[int]], list[bytes]]


class Reading(NamedTuple):
    """What a recorded answer came to."""

    out: bytes
    usage: Usage
    state: State
    storable: bool


def recorded(kind: str) -> list[tuple[Dialect, Path]]:
    """Every recorded answer of a kind, with its dialect."""
    return [(dialect, file) for dialect in ALL for file in sorted((HERE / dialect.name).glob(f"*.{kind}"))]


def split(data: bytes, cuts: list[int]) -> list[bytes]:
    """Cut the data anywhere."""
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[begin:end] for begin, end in pairwise(edges)]


def takes(dialect: Dialect, request: Request) -> bool:
    """Whether a path is the dialect's, with whatever method."""
    return dialect.route(request) is not None


def meter_of(dialect: Dialect, ask: Callable[..., Request], client: Client) -> Meter:
    """Make the meter of a streamed answer."""
    return dialect.meter(understood(dialect, ask(STREAMED[dialect.name]), b"{}", client))


def read_events(meter: Meter, chunks: list[bytes]) -> Reading:
    """Read server-sent events as they come."""
    events, out = Events(), b""
    for found in [*map(events.feed, chunks), events.end()]:
        for event in found:
            meter.see(Event(b"", event.data))
            out += event.frame
    assert 0 == events.pending
    return Reading(out, meter.usage, meter.state, meter.storable)


def read_array(meter: Meter, chunks: list[bytes]) -> Reading:
    """Read a JSON array as it comes."""
    objects, writer, out = Objects(), Writer(), b""
    for chunk in chunks:
        for _, obj in objects.feed(chunk):
            meter.see(Event(b"", obj))
            out += writer.add(obj)
    assert objects.closed
    assert (b"]", 0) == (objects.rest().strip(), objects.pending)
    return Reading(out + writer.end(), meter.usage, meter.state, meter.storable)


@pytest.mark.parametrize(
    ("kind", "read"), [("sse", read_events), ("array", read_array)], ids=["server-sent events", "array"]
)
def test_cut_at_every_byte(
    kind: str, read: Callable[[Meter, list[bytes]], Reading], ask: Callable[..., Request], client: Client
) -> None:
    """A recorded stream gives the same bytes and the same usage wherever it is cut in two, and byte by byte."""
    for dialect, file in recorded(kind):
        whole = file.read_bytes()
        expected = read(meter_of(dialect, ask, client), [whole])
        assert "open" != expected.state
        assert "reported" == expected.usage.source
        for cut in range(len(whole) + 1):
            assert expected == read(meter_of(dialect, ask, client), [whole[:cut], whole[cut:]]), (file.name, cut)
        assert expected == read(meter_of(dialect, ask, client), [whole[at : at + 1] for at in range(len(whole))])


@given(cuts=st.lists(st.integers(0, 10**9), max_size=40), times=st.integers(1, 20))
def test_any_chunking(ask: Callable[..., Request], client: Client, cuts: list[int], times: int) -> None:
    """Long streams too give the same bytes and usage in any chunks."""
    for dialect, file in recorded("sse"):
        whole = file.read_bytes().rstrip(b"\r\n") + b"\r\n\r\n"
        expected = read_events(meter_of(dialect, ask, client), [whole * times])
        assert expected == read_events(meter_of(dialect, ask, client), split(whole * times, cuts))


@dialects
@given(
    path=st.binary(max_size=80) | st.sampled_from(PATHS),
    http_method=st.sampled_from(["GET", "HEAD", "POST", "PUT", "TRACE", ""]),
    query=st.binary(max_size=60),
    body=st.binary(max_size=200) | st.text(alphabet='{}[]",:parts1', max_size=60).map(str.encode),
)
def test_garbage(
    *,
    dialect: Dialect,
    ask: Callable[..., Request],
    client: Client,
    path: bytes,
    http_method: str,
    query: bytes,
    body: bytes,
) -> None:
    """D9, P1: garbage is not ours, is refused as a bad request, or is understood; nothing else is raised."""
    try:
        call = understood(dialect, ask(path, http_method, query), body, client)
    except (BadRequest, ModelMissing, MethodNotAllowed, RouteUnknown):
        return
    assert body == call.upstream.body
    assert 0 <= call.plan.demand.text_chars <= len(body)


@dialects
@given(data=st.binary(max_size=200) | st.text(alphabet='{}[]",:0ner', max_size=40).map(str.encode))
def test_garbage_answers(dialect: Dialect, ask: Callable[..., Request], client: Client, data: bytes) -> None:
    """U11: what is not a JSON object raises `ValueError` and nothing else."""
    meter = meter_of(dialect, ask, client)
    try:
        meter.see(Event(b"", data))
    except ValueError:
        return
    assert data.lstrip().startswith(b"{")
    assert "none" == meter.usage.source
    assert not meter.storable


@dialects
@given(
    status=st.integers(400, 599),
    body=st.binary(max_size=200),
    content_type=st.sampled_from(["", "text/plain", "text/html"]),
)
def test_garbage_errors(dialect: Dialect, status: int, body: bytes, content_type: str) -> None:
    """U12: any error body becomes one that can be read, and never raises."""
    fault = fault_of(status, content_type, body, "sk-secret")
    assert b"error" in dialect.errors.pass_on(fault, "r-1")
    assert ("key", "other") == (fault_of(401, "", body, "").kind, fault_of(500, "", body, "").kind)
    assert fault.retry_after is None


@dialects
def test_errors_of_ours_are_written(dialect: Dialect) -> None:
    """Each dialect can write any error of ours, for a known and for an unknown caller."""
    assert b"API key not valid" in dialect.errors.write(KeyInvalid(), "r-1")
    assert b"API key not valid" in dialect.errors.write(KeyInvalid(), "r-1", "design")


def test_paths_do_not_collide(ask: Callable[..., Request]) -> None:
    """No path is taken by two dialects, and their names differ."""
    assert len(ALL) == len({dialect.name for dialect in ALL})
    for path in PATHS:
        takers = {
            dialect.name for dialect in ALL for http_method in ("GET", "POST") if takes(dialect, ask(path, http_method))
        }
        assert len(takers) <= 1
