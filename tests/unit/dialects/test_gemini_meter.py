"""What an answer cost, whether it is complete, and whether it may be kept."""

import json
import time
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.call import Event, Kind, Modality, Usage
from gateway.dialects.gemini.meter import GeminiMeter
from gateway.framing.sse import Events

RECORDED = Path(__file__).parent / "gemini"
MIB = 2**20
Tokens = dict[tuple[Kind, Modality], int]


def metered(*events: Any, generates: bool = True, pictures: bool = False) -> GeminiMeter:
    """Show a meter whole answers: JSON, or bytes as they are."""
    meter = GeminiMeter(generates=generates, pictures=pictures)
    for event in events:
        meter.see(Event(b"", event if isinstance(event, bytes) else json.dumps(event).encode()))
    return meter


def used(**metadata: Any) -> Usage:
    """Read one `usageMetadata`."""
    return metered({"usageMetadata": metadata}).usage


def said(*parts: Any, **candidate: Any) -> dict[str, Any]:
    """Make an answer of one candidate."""
    return {"candidates": [{"content": {"parts": list(parts)}, "finishReason": "STOP", **candidate}]}


@pytest.mark.parametrize(
    ("name", "tokens", "total", "images"),
    [
        (
            "image_edit",
            {("input", "text"): 8, ("input", "image"): 1290, ("output", "image"): 1290, ("output", "unknown"): 3},
            2591,
            1,
        ),
        ("skeleton", {("input", "unknown"): 4, ("output", "unknown"): 2}, 6, 0),
        ("blocked", {("input", "unknown"): 12}, 12, 0),
        ("speech", {("input", "unknown"): 5, ("output", "audio"): 25}, 30, 0),
    ],
)
def test_recorded_answers(name: str, tokens: Tokens, total: int, images: int) -> None:
    """A4: the usage of a recorded answer is exact, by kind and modality."""
    meter = metered((RECORDED / f"{name}.json").read_bytes())
    assert Usage(tokens=tokens, total=total, images_out=images, source="reported") == meter.usage
    assert "open" != meter.state
    assert (name != "blocked") == meter.storable


@pytest.mark.parametrize(
    ("name", "tokens", "total", "errored", "storable"),
    [
        (
            "text",
            {("input", "unknown"): 5, ("cached", "unknown"): 4, ("output", "unknown"): 7, ("thoughts", "unknown"): 20},
            36,
            False,
            True,
        ),
        ("image_crlf", {("input", "unknown"): 3, ("output", "unknown"): 1290}, 1293, False, True),
        ("error_midway", {("input", "unknown"): 3}, 3, True, False),
    ],
)
def test_recorded_streams(*, name: str, tokens: Tokens, total: int, errored: bool, storable: bool) -> None:
    """A4, U17: the last counts of a stream are its usage, also where an error ends it."""
    events = Events()
    found = [*events.feed((RECORDED / f"{name}.sse").read_bytes()), *events.end()]
    meter = metered(*(event.data for event in found))
    assert (tokens, total) == (meter.usage.tokens, meter.usage.total)
    assert (errored, storable, True) == (meter.state == "failed", meter.storable, meter.state != "open")


def test_kinds_do_not_overlap() -> None:
    """Cached tokens are taken out of the prompt's, by modality; thoughts and tools stand apart."""
    usage = used(
        promptTokenCount=1300,
        cachedContentTokenCount=1000,
        candidatesTokenCount=10,
        thoughtsTokenCount=30,
        toolUsePromptTokenCount=20,
        totalTokenCount=1360,
        promptTokensDetails=[{"modality": "TEXT", "tokenCount": 10}, {"modality": "image", "token_count": 1290}],
        cacheTokensDetails=[{"modality": 2, "tokenCount": 1000}],
        toolUsePromptTokensDetails=[{"modality": "VIDEO", "tokenCount": 5}, {"modality": 9, "tokenCount": 5}],
    )
    expected: Tokens = {
        ("input", "text"): 10,
        ("input", "image"): 290,
        ("cached", "image"): 1000,
        ("output", "unknown"): 10,
        ("thoughts", "unknown"): 30,
        ("tool", "video"): 5,
        ("tool", "unknown"): 15,
    }
    assert expected == usage.tokens
    assert (1360, 1320, 40) == (usage.total, usage.tokens_in, usage.tokens_out)


def test_cached_tokens_keep_their_modality() -> None:
    """What is cached of a modality is not counted as its fresh input."""
    usage = used(
        promptTokenCount=300,
        cachedContentTokenCount=8,
        promptTokensDetails=[{"modality": "TEXT", "tokenCount": 10}, {"modality": "IMAGE", "tokenCount": 290}],
        cacheTokensDetails=[{"modality": "TEXT", "tokenCount": 8}],
    )
    assert {("input", "text"): 2, ("input", "image"): 290, ("cached", "text"): 8} == usage.tokens


def test_details_never_exceed_the_count() -> None:
    """Details that contradict the count lose; details without a count stand for it."""
    detail = [{"modality": "TEXT", "tokenCount": 10}]
    assert {("input", "text"): 6, ("cached", "unknown"): 4} == used(
        promptTokenCount=10, cachedContentTokenCount=4, promptTokensDetails=detail
    ).tokens
    assert {("cached", "unknown"): 9} == used(promptTokenCount=5, cachedContentTokenCount=9).tokens
    assert {("output", "text"): 10} == used(candidatesTokensDetails=detail).tokens
    assert 10 == used(candidatesTokensDetails=detail).total


def test_other_casing() -> None:
    """Snake case is read as well, mixed with camel case."""
    meter = metered(
        {
            "usage_metadata": {"prompt_token_count": 3, "candidatesTokenCount": 1, "totalTokenCount": None},
            "candidates": [{"finish_reason": 1, "content": {"parts": [{"inline_data": {"mime_type": "image/webp"}}]}}],
        }
    )
    assert ({("input", "unknown"): 3, ("output", "unknown"): 1}, 4) == (meter.usage.tokens, meter.usage.total)
    assert (True, True, 1) == (meter.state != "open", meter.storable, meter.usage.images_out)


ODD = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
    | st.lists(st.integers(), max_size=2)
)


@given(
    counts=st.dictionaries(
        st.sampled_from(
            [
                "promptTokenCount",
                "cachedContentTokenCount",
                "candidatesTokenCount",
                "thoughtsTokenCount",
                "totalTokenCount",
            ]
        ),
        ODD | st.integers(0, 99),
    ),
    details=st.dictionaries(
        st.sampled_from(["promptTokensDetails", "cacheTokensDetails", "candidatesTokensDetails"]),
        ODD
        | st.lists(st.fixed_dictionaries({"modality": ODD | st.just("TEXT"), "tokenCount": ODD | st.integers(0, 99)})),
    ),
    odd=ODD,
)
def test_odd_numbers_count_as_absent(counts: dict[str, Any], details: dict[str, Any], odd: Any) -> None:
    """U18: the answer passes whatever its usage looks like, and no count is negative or out of range."""
    usage = metered({"usageMetadata": {**counts, **details, "x": odd}, "candidates": odd, "promptFeedback": odd}).usage
    assert all(0 < size < 2**40 for size in usage.tokens.values())
    assert 0 <= usage.total < 2**40


@pytest.mark.parametrize(
    "answer", [{}, {"usageMetadata": {}}, {"usageMetadata": None}, {"usageMetadata": {"promptTokenCount": -1}}]
)
def test_usage_that_is_missing(answer: Any) -> None:
    """U18: an answer without usage says so."""
    assert Usage(source="none") == metered(answer).usage
    assert "reported" == used(totalTokenCount=0).source


def test_counts_are_int32() -> None:
    """A count beyond Google's own type is nonsense, and nonsense counts as absent."""
    assert 2**31 - 1 == used(totalTokenCount=2**31 - 1).total
    assert "none" == used(totalTokenCount=2**31).source


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b" ",
        b"null",
        b"[]",
        b"[{}]",
        b'"x"',
        b"5",
        b"{",
        b'{"candidates":[',
        b"{}{}",
        b"{} x",
        b"<html>",
        b'{"a":nan}',
        b'{"a":"\\ud800}',
        b'{"a":"\\ud80',
        b'\xef\xbb\xbf{"a":1',
        b'{"a":NaN',
        b'{"a":1,}',
        b"{'a':1}",
        b'{"x":"%b"' % (b"A" * 200_000),
        b'{"x":[%b{}]' % (b"{}," * 30_000),
        b"data: {}",
        b'{"x":' * 10**5,
    ],
)
def test_what_is_no_object(data: bytes) -> None:
    """U4, U11: a cut answer, HTML or nothing is a `ValueError`; also where the shape was wrong before it broke."""
    for broken in (data, b'{"candidates":5,' + data):
        with pytest.raises(ValueError, match=r"."):
            metered(broken)


def test_every_candidate_must_end() -> None:
    """U4: a stream is complete when each candidate seen has ended, wherever its end came."""
    first, second = {"index": 0, "content": {"parts": []}}, {"index": 1}
    assert "open" == metered({"candidates": [first, second]}).state
    assert "open" == metered({"candidates": [{**first, "finishReason": "STOP"}, second]}).state
    meter = metered(
        {"candidates": [first, second]}, said(index=1), said(index=0, finishReason="MAX_TOKENS"), {"usageMetadata": {}}
    )
    assert (True, True) == (meter.state != "open", meter.storable)
    assert "open" == metered(said(finishReason="FINISH_REASON_UNSPECIFIED")).state
    assert "open" == metered({}).state


@pytest.mark.parametrize(
    "reason", ["SAFETY", "IMAGE_SAFETY", "RECITATION", "OTHER", "MALFORMED_FUNCTION_CALL", 3, "NEW"]
)
def test_other_ends_are_complete_and_not_kept(reason: Any) -> None:
    """C5: an answer that ended otherwise is complete and is not kept."""
    meter = metered(said({"text": "x"}, finishReason=reason))
    assert (True, False) == (meter.state != "open", meter.storable)


def test_blocked_and_failed() -> None:
    """U17: a blocked prompt and an error end a stream; neither is kept."""
    for event in (
        {"promptFeedback": {"blockReason": "SAFETY"}},
        {"prompt_feedback": {"block_reason": 1}},
        {"error": {"code": 503}},
    ):
        meter = metered(said({"text": "x"}), event)
        assert (True, False, "error" in event) == (meter.state != "open", meter.storable, meter.state == "failed")


@pytest.mark.parametrize("generates", [True, False])
def test_answers_without_candidates(generates: bool) -> None:
    """Counting and embedding answers are complete by themselves; a generated one without an end is not."""
    assert "open" == metered(generates=generates).state
    assert ("open" if generates else "complete") == metered({"totalTokens": 7}, generates=generates).state
    assert not metered({"totalTokens": 7}, generates=generates).storable


def test_ten_mebibytes() -> None:
    """An answer with a picture of 10 MiB is read without being copied, in some 10 ms (printed)."""
    picture = {"inlineData": {"mimeType": "image/png", "data": "aGVs" * (10 * MIB // 4)}}
    data, took = json.dumps(said(picture)).encode(), []
    for _ in range(3):
        begin = time.perf_counter()
        assert metered(data).storable
        took.append(time.perf_counter() - begin)
    tracemalloc.start()
    assert 1 == metered(data).usage.images_out
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    print(f"{1e3 * min(took):.1f} ms, peak {peak} bytes")  # noqa: T201  for the reader: a busy machine fails no test
    assert peak < MIB


LENIENT = [
    rb'"functionCall":{"name":"f","args":{"id":"\ud800"}}',
    rb'"text":"half \ud83d"',
    rb'"text":"\ude00 rest"',
    rb'"text":"\uD83D\uD83D \\ud83d"',
    b'"text":"\xff\xed\xa0\x80"',
    b'"x":NaN',
    b'"x":[Infinity,-Infinity, NaN]',
    b'"functionCall":{"args":' + b'{"a":[' * 245 + b"]}" * 245 + b"}",
    b'"functionCall":{"args":' + b'{"a":[' * 4_000 + b'"]"' + b"]}" * 4_000 + b"}",
    b'"x":' + b"9" * 5_000,
    b'"text":1,"text":"last"',
    b'"inlineData":"no object"',
    b'"text":"' + b"A" * 300_000 + rb'\ud83d"',
]


@pytest.mark.parametrize("part", LENIENT, ids=range(len(LENIENT)))
@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
def test_what_a_callers_reader_takes_is_read(part: bytes, bom: bytes) -> None:
    """Whatever Python's or JavaScript's JSON takes passes, and its usage and its end are known."""
    data = bom + b'{"candidates":[{"content":{"parts":[{%b}]},"finishReason":"STOP"}],"usageMetadata":' % part
    meter = metered(data + b'{"promptTokenCount":7,"candidatesTokenCount":11,"totalTokenCount":18}}')
    assert (18, 7, 11, "reported") == (
        meter.usage.total,
        meter.usage.tokens_in,
        meter.usage.tokens_out,
        meter.usage.source,
    )
    assert (True, False) == (meter.state != "open", meter.state == "failed")


@pytest.mark.parametrize("seven", ["7", '"7"', "7.0", "7e0", "70e-1", '"7.0"'])
def test_counts_in_any_spelling(seven: str) -> None:
    """A count that SDKs take for a whole number is one."""
    assert 7 == metered(b'{"usageMetadata":{"totalTokenCount":%b}}' % seven.encode()).usage.total


@pytest.mark.parametrize(
    ("said_error", "expected"),
    [
        (False, False), (None, False), ({}, False), ("", False), ([], False), (0, False),
        ({"code": 0, "message": "", "status": "", "details": []}, False), ({"message": "x"}, True), ("x", True), (True, True),
        ({"code": 429}, True), ([{"message": "x"}], True),
    ],
)  # fmt: skip
def test_an_error_that_says_nothing_is_none(said_error: Any, expected: bool) -> None:
    """Relays write the member also where there was no error."""
    assert expected == (metered({**said({"text": "x"}), "error": said_error}).state == "failed")


@pytest.mark.parametrize("name", ["detail", "msg", "message", "errors", "Error"])
def test_errors_of_others(name: str) -> None:
    """U17: where nothing of an answer stands, what other servers call an error is one."""
    assert "failed" == metered({name: ["Slow down"]}).state
    assert "failed" != metered({name: []}).state
    assert "failed" != metered({**said(), name: "x"}).state
    assert "failed" != metered({"usageMetadata": {"totalTokenCount": 1}, name: "x"}).state
    assert "failed" != metered({"embedding": {}, name: "x"}, generates=False).state


def test_a_crowded_answer_passes_unread() -> None:
    """D9: of an answer of too many values nothing is known: no usage, no end; it is not kept, and a cut one is none."""
    crowded = b'{"candidates":[%b{}],"usageMetadata":{"totalTokenCount":5}}' % (b'{"finishReason":"STOP"},' * 30_000)
    meter = metered(crowded)
    assert ("none", False, False) == (meter.usage.source, meter.state != "open", meter.storable)
    assert "open" != metered(crowded, generates=False).state
    assert not metered(said(), crowded).storable
    with pytest.raises(ValueError, match="too many"):
        metered(crowded[:-1])


PICTURE = {"inlineData": {"mimeType": "image/png", "data": "aGVs"}}


def test_pictures_of_thoughts_are_not_made() -> None:
    """Interim pictures are not billed: only those outside of thoughts count, and those decide whether one is due."""
    drafts = [{**PICTURE, "thought": True}, {**PICTURE, "thought": 1}, {**PICTURE, "thought": "true"}]
    assert 1 == metered(said(*drafts, {**PICTURE, "thought": False})).usage.images_out
    assert 0 == metered(said(*drafts)).usage.images_out
    link = {"text": "Here it is, see https://cdn.example/x"}
    assert not metered(said(*drafts, link), pictures=True).storable
    assert metered(said(*drafts, link, PICTURE), pictures=True).storable


URI = "data:image/png;base64," + "iVBORw0KGgo" * 300


@pytest.mark.parametrize(
    ("text", "made"),
    [
        (f"![image]({URI})", 1),
        (
            f"Here: ![a]({URI}) and ![b]({URI.replace('image/png;base64', 'IMAGE/JPEG;Base64').replace('data', 'DATA')})",
            2,
        ),
        (f'<img src="{URI}">', 1),
        (f"<IMG alt='a' src={URI}/>", 1),
        (f"![i](<{URI}>)", 1),
        (URI, 1),
        ("![x](data:image/svg+xml,%3Csvg%20xmlns='http://www.w3.org'%3E)", 1),
        ("![x](data:image/svg+xml;utf8,<svg/>)", 1),
        (f"![i]({URI.replace(';', ';charset=utf-8;')})\n\nsee [a](https://x)", 1),
        ("a data: URI begins with data:image/png;base64, and goes on", 0),
        ("data:text/plain,abc", 0),
        ("data:image/png", 0),
    ],
)
def test_pictures_in_text(text: str, made: int) -> None:
    """A data URI is a picture made, whatever it stands in and wherever events cut it, and no link."""
    everywhere = [0, *range(1, len(text))] if len(text) < 500 else [0, 1, 5, 9, 12, 20, 30, 31, 40, 1000, len(text) - 2]
    pieces = [text[at:to] for at, to in zip(everywhere, [*everywhere[1:], len(text)], strict=True)]
    for events in ([said({"text": text})], [*(said({"text": piece}, finishReason=None) for piece in pieces), said()]):
        meter = metered(*events, pictures=made > 0)
        assert (made, True) == (meter.usage.images_out, meter.storable)
    assert 0 == metered(said({"text": text, "thought": True})).usage.images_out


def test_a_large_picture_in_text() -> None:
    """One of megabytes is found without being read."""
    data = json.dumps(said({"text": f"A cat:\n![cat]({URI}{'A' * 3_000_000})\nand that is it"})).encode()
    meter = metered(data, pictures=True)
    assert (1, True) == (meter.usage.images_out, meter.storable)


def counts(prompt: int, output: int, total: int, **more: Any) -> dict[str, Any]:
    """One `usageMetadata`, in an event."""
    told = {"promptTokenCount": prompt, "candidatesTokenCount": output, "totalTokenCount": total}
    return {"usageMetadata": {**told, **more}}


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ([counts(7, 11, 18), counts(0, 0, 0, thoughtsTokenCount=0, promptTokensDetails=None)], (7, 11, 0, 18)),
        ([counts(7, 11, 18), {"usageMetadata": {"promptTokenCount": 0}}, {"usageMetadata": None}], (7, 11, 0, 18)),
        ([counts(7, 11, 18), counts(7, 0, 7)], (7, 11, 0, 18)),
        ([counts(7, 3, 10), counts(7, 11, 18)], (7, 11, 0, 18)),
        ([counts(7, 20, 27), counts(7, 11, 18)], (7, 11, 0, 18)),
        ([counts(7, 11, 18), {"usageMetadata": {"totalTokenCount": 30}}], (7, 11, 0, 18)),
        ([counts(7, 11, 18), {"usageMetadata": {"thoughtsTokenCount": 5}}], (7, 11, 0, 18)),
        ([{"usageMetadata": {"promptTokenCount": 7}}, {"usageMetadata": {"candidatesTokenCount": 11}}], (7, 11, 0, 18)),
        ([counts(10, 100, 110, thoughtsTokenCount=60)], (10, 40, 60, 110)),
        ([counts(10, 100, 170, thoughtsTokenCount=60)], (10, 100, 60, 170)),
        ([counts(10, 60, 70, thoughtsTokenCount=60)], (10, 0, 60, 70)),
        ([counts(10, 40, 50, thoughtsTokenCount=60)], (10, 40, 60, 110)),
        ([counts(10, 100, 0, thoughtsTokenCount=60)], (10, 100, 60, 170)),
        ([counts(10, 100, 110, toolUsePromptTokenCount=4)], (10, 100, 0, 110)),
        ([counts(10, 100, 110, cachedContentTokenCount=8, thoughtsTokenCount=30)], (10, 70, 30, 110)),
        ([counts(10, 100, 150)], (10, 140, 0, 150)),
        ([counts(0, 100, 110)], (10, 100, 0, 110)),
        ([counts(10, 100, 5)], (10, 100, 0, 110)),
    ],
)
def test_counts_of_one_event(events: list[Any], expected: tuple[int, int, int, int]) -> None:
    """A4: counts of different events are not mixed, kinds do not overlap, and they come to the total."""
    usage = metered(*events).usage
    thoughts = sum(size for (kind, _), size in usage.tokens.items() if kind == "thoughts")
    assert expected == (usage.tokens_in, usage.tokens_out - thoughts, thoughts, usage.total)
    assert usage.total == sum(usage.tokens.values())
    assert "reported" == usage.source


def test_text_that_came_of_nothing() -> None:
    """A4: text beside a count of no output is an estimate, by its characters; a thought, a word or a picture is none."""
    for none in (
        {"promptTokenCount": 7, "totalTokenCount": 7},
        {"promptTokenCount": 7, "candidatesTokenCount": 0},
        {"totalTokenCount": 0},
    ):
        usage = metered({**said({"text": "x" * 3000}), "usageMetadata": none}).usage
        assert ("estimated", 750) == (usage.source, usage.tokens_out)
        assert usage.total == 750 + none.get("promptTokenCount", 0)
        for part in ({"text": "x" * 3000, "thought": True}, {"text": "Yes."}, PICTURE):
            assert "reported" == metered({**said(part), "usageMetadata": none}).usage.source
    assert "reported" == metered({**said({"text": "x" * 3000}), **counts(7, 1, 8)}).usage.source
    assert "none" == metered(said({"text": "x" * 3000})).usage.source
