"""What an answer is, it shows itself: its content type may say something else, and the caller reads it all the same."""

import json
from itertools import pairwise
from pathlib import Path

import pytest

from gateway.errors.tree import UpstreamBroke
from gateway.framing import Undecided
from gateway.pipeline.relay import _metered
from tests.support.gateway import GENERATE, STREAM, TEXT, running
from tests.support.wire import answer, chunked, saying, wire
from tests.unit.dialects.test_gemini_meter import metered

FIRST = b'{"candidates":[{"content":{"parts":[{"text":"h"}]}}]}'
LAST = b'{"candidates":[{"finishReason":"STOP"}],"usageMetadata":{"totalTokenCount":2}}'
ERROR = b'{\n  "error": {\n    "code": 429,\n    "message": "slow down"\n  }\n}'
EVENTS = b"data: %b\r\n\r\ndata: %b\n\n" % (FIRST, LAST)
ARRAY = b"[%b,\r\n%b\n]" % (FIRST, LAST)
BOM = b"\xef\xbb\xbf"
LABELS = ["text/event-stream", "application/json", "application/octet-stream", "text/plain", "text/html", ""]


async def passed(data: bytes, label: str, *, sse: bool, cuts: list[int]) -> tuple[bytes, bytes]:
    """What the caller gets of a stream that is cut there, and the error that ends it."""
    framing, meter, out = Undecided(label, sse=sse), metered(), b""
    for begin, end in pairwise([0, *cuts, len(data)]):
        written, error = await _metered(meter, framing, data[begin:end])
        out += written
        if error:
            return out, error
    written, error = await _metered(meter, framing, None)
    assert (sse, 0) == (framing.content_type == "text/event-stream", framing.pending)
    return out + written, error


def everywhere(data: bytes) -> list[list[int]]:
    """Not cut, cut at one place, and into single bytes."""
    return [[], *([at] for at in range(len(data))), list(range(len(data)))]


@pytest.mark.parametrize("label", LABELS)
@pytest.mark.parametrize("before", [b"", BOM, b" \r\n\n", b"\n" + BOM])
async def test_its_first_byte_says_what_it_is(label: str, before: bytes) -> None:
    """U11: events and arrays are told apart whatever they are called, and become what the caller asked for."""
    for said, sse, expected in (
        (EVENTS, True, EVENTS),
        (b": PING\n\nid: 1\n" + EVENTS, True, EVENTS),
        (ARRAY, True, b"data: %b\n\ndata: %b\n\n" % (FIRST, LAST)),
        (EVENTS, False, b"[%b,\r\n%b]" % (FIRST, LAST)),
        (ARRAY, False, ARRAY),
    ):
        for cuts in ([], [1], [1, 2, 3], list(range(len(before + said)))):
            assert (expected, b"") == await passed(before + said, label, sse=sse, cuts=cuts)


@pytest.mark.parametrize("sse", [True, False])
@pytest.mark.parametrize(
    "stream",
    [
        b"[%b,\n%b\n]" % (FIRST, ERROR),
        b"[%b , %b" % (FIRST, ERROR),
        b"data: %b\n\n%b\n" % (FIRST, ERROR),
        b"data: %b\n%b" % (FIRST, ERROR),
        b": PING\n\ndata: %b\n\n[%b]\n\n" % (FIRST, ERROR),
        b"data: %b\n\ndata: %b\n\n" % (FIRST, ERROR.replace(b"\n", b"")),
        b"data: %b\n\nevent: error\ndata: %b\n\n" % (FIRST, ERROR.replace(b"\n", b"\ndata: ")),
    ],
)
async def test_what_stands_before_an_error_passes(stream: bytes, sse: bool) -> None:
    """U17: whole objects pass before an error among them, with or without `data:`; any chunking gives the same bytes."""
    for cuts in everywhere(stream):
        out, error = await passed(stream, "text/event-stream", sse=sse, cuts=cuts)
        assert (b"data: %b\n\n" % FIRST if sse else b"[" + FIRST) == out.replace(b"\n\n\n", b"\n\n")
        assert 429 == json.loads(error)["error"]["code"]


@pytest.mark.parametrize("label", LABELS)
@pytest.mark.parametrize("said", [b"<html>", b"", b" \n", BOM, BOM[:2], b"\x00", b"null", b"nothing", b'"x"'])
async def test_garbage_stays_a_failure(said: bytes, label: str) -> None:
    """U11: HTML, nothing and garbage are no answer, by whatever name."""
    meter, framing = metered(), Undecided(label, sse=True)
    with pytest.raises(UpstreamBroke):  # noqa: PT012  wherever it is found out
        await _metered(meter, framing, said)
        assert (b"", b"") == await _metered(meter, framing, None)
        if meter.state == "open":
            raise UpstreamBroke


@pytest.mark.parametrize("label", LABELS)
async def test_a_unary_answer_by_another_name(label: str, tmp_path: Path) -> None:
    """U11: what is one JSON object passes byte for byte, as JSON; a cut one and HTML are a 502."""
    whole = BOM + b'{"candidates":[{"content":{"parts":[{"text":"\\ud800"}]},"finishReason":"STOP"}],"x":NaN}'
    for said, status in ((whole, 200), (whole[:-1], 502), (b"<html>", 502)):
        async with (
            wire(saying(answer(said, content_type=label))) as upstream,
            running(tmp_path, upstream.url) as gateway,
        ):
            response = await gateway.http.post(GENERATE, json=TEXT)
        assert (status, "application/json") == (response.status_code, response.headers["content-type"])
        assert status != 200 or response.content == said


async def test_a_raw_error_in_place_of_a_stream(tmp_path: Path) -> None:
    """U17: a whole body that is a plain error is told with its own status and words, and nothing is billed."""
    for said in (ERROR, b"\n" + ERROR, b"[" + ERROR + b"]", BOM + ERROR):
        async with wire(saying(*chunked(said))) as upstream, running(tmp_path, upstream.url) as gateway:
            response = await gateway.http.post(STREAM, json=TEXT)
            entry = await gateway.entry()
        assert (429, "slow down") == (response.status_code, response.json()["error"]["message"])
        assert ("upstream_error", "none", 0) == (entry["outcome"], entry["usage"], entry["tokens_out"])
