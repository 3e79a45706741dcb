"""What must every dialect keep, whatever it speaks?"""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.asgi.request import Request
from gateway.call import Call, Dialect, Event, State, Usage
from gateway.config.clients import Client
from gateway.dialects import ALL
from gateway.errors.tree import BadRequest, KeyInvalid, MethodNotAllowed, ModelMissing, RouteUnknown
from gateway.upstream.fault import fault_of
from tests.support.calls import understood

HERE = Path(__file__).parent
STREAMED = {  # by dialect: a path, a query and a body that stream
    "gemini": (b"/v1beta/models/gemini-2.5-flash:streamGenerateContent", b"alt=sse", b"{}"),
    "openai": (b"/v1/chat/completions", b"", b'{"model":"gpt-5-mini","stream":true}'),
    "anthropic": (b"/v1/messages", b"beta=true", b'{"model":"claude-sonnet-4-5","stream":true}'),
    "responses": (b"/v1/responses", b"", b'{"model":"gpt-5-codex","stream":true}'),
    "images": (b"/v1/images/generations", b"", b'{"model":"gpt-image-1.5","stream":true}'),
    "audio": (b"/v1/audio/speech", b"", b'{"model":"gpt-4o-mini-tts","input":"Hi","stream_format":"sse"}'),
}
UNARY = {  # the same of those in which nothing streams
    "video_tasks": (b"/v1/video/generations", b"", b'{"model":"doubao-seedance-2.0","prompt":"A boat"}'),
    "videos": (b"/v1/videos", b"", b'{"model":"sora-2","prompt":"A boat"}'),
}
PATHS = [
    b"/v1beta/models/m:generateContent",
    b"/v1/models",
    b"/v1/models/m",
    b"/models/m:countTokens",
    b"/v1/chat/completions",
    b"/completions",
    b"/openai/v1/embeddings/",
    b"/v1beta/openai/responses",
    b"/v1/responses/compact",
    b"/anthropic/v1/messages",
    b"/v1/messages/count_tokens",
    b"/v1/images/generations",
    b"/images/edits/",
    b"/openai/audio/transcriptions",
    b"/v1/audio/translations",
    b"//v1/audio/speech",
    b"/v1/video/generations",
    b"/api/v1/video/generations/task_1/",
    b"/v1/videos",
    b"/videos/task_1",
    b"/v1/videos/task_1/content",
    b"/v1/v1/videos/task_1/remix",
]

CONTENT_TYPES = {"sse": "text/event-stream", "array": "application/json"}

dialects = pytest.mark.parametrize("dialect", ALL, ids=lambda dialect: dialect.name)
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


def call_of(dialect: Dialect, ask: Callable[..., Request], client: Client) -> Call:
    """A call whose answer is streamed, in a dialect that has any."""
    path, query, body = (STREAMED | UNARY)[dialect.name]
    call = understood(dialect, ask(path, query=query), body, client)
    assert call.stream == (dialect.name in STREAMED)
    return call


def read(dialect: Dialect, call: Call, kind: str, chunks: list[bytes]) -> Reading:
    """Read an answer as it comes: through the dialect's own framing, into its meter."""
    framing, meter, out = dialect.framing(call, CONTENT_TYPES[kind]), dialect.meter(call), b""
    assert framing is not None
    for frames in [*map(framing.feed, chunks), framing.end()]:
        for piece, event in frames:
            if event is not None:
                meter.see(event)
            out += piece
    assert 0 == framing.pending
    return Reading(out, meter.usage, meter.state, meter.storable)


@pytest.mark.parametrize("kind", CONTENT_TYPES)
def test_cut_at_every_byte(kind: str, ask: Callable[..., Request], client: Client) -> None:
    """A recorded answer gives the same bytes and the same usage wherever it is cut in two, and byte by byte."""
    for dialect, file in recorded(kind):
        whole, call = file.read_bytes(), call_of(dialect, ask, client)
        expected = read(dialect, call, kind, [whole])
        assert "open" != expected.state
        assert "none" != expected.usage.source
        for cut in range(len(whole) + 1):
            assert expected == read(dialect, call, kind, [whole[:cut], whole[cut:]]), (file.name, cut)
        assert expected == read(dialect, call, kind, [whole[at : at + 1] for at in range(len(whole))])


@dialects
@settings(deadline=None)  # a matter of the machine
@given(cuts=st.lists(st.integers(0, 10**9), max_size=40), times=st.integers(1, 20))
def test_any_chunking(
    dialect: Dialect, ask: Callable[..., Request], client: Client, cuts: list[int], times: int
) -> None:
    """Long streams too give the same bytes and usage in any chunks."""
    call = call_of(dialect, ask, client)
    for file in sorted((HERE / dialect.name).glob("*.sse")):
        whole = (file.read_bytes().rstrip(b"\r\n") + b"\r\n\r\n") * times
        assert read(dialect, call, "sse", [whole]) == read(dialect, call, "sse", split(whole, cuts))


def test_every_dialect_has_recorded_streams() -> None:
    """Each dialect's answers are recorded, and the call that streams is known."""
    assert {dialect.name for dialect in ALL} == STREAMED.keys() | UNARY.keys()
    assert STREAMED.keys() == {dialect.name for dialect, _ in recorded("sse")}


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
    meter = dialect.meter(call_of(dialect, ask, client))
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
