"""Which answers may have a link where their picture should be?  They are passed on and never kept."""

import asyncio
import json
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.caching import PRIVATE
from tests.support.gateway import GENERATE, STREAM, TEXT, running
from tests.support.valkey import Valkey
from tests.support.wire import answer, chunked, wire
from tests.unit.dialects.test_gemini_meter import metered, said

SHOWN = [
    "![image](https://files.example.com/a)",
    "Here: ![a cat](http://169.254.169.254/x) as wished",
    "![a [b] c](https://a/1)",
    f"![{'p' * 300}](https://a/1)",
    "![a cat][1] \n\n[1]: https://a/1",
    "<img src='https://a/1'>",
    "text <IMG\nsrc=x>",
    " https://files.example.com/a?sig=1\n",
    "HTTPS://a/1",
    "<https://a/1>",
    "https://a/1\nhttps://a/2",
    "1. https://a/1\n2. https://a/2",
    "Here is your image: https://cdn.example/x.png",
    "[image](https://cdn.example/x.JPEG?sig=1)",
]
CITED = ["See https://example.com for more.", "[a](https://example.com)", "As https://a.example/x.py says: no"]
PLAIN = [
    "vec![1, 2]; f(x)",
    "#![allow(x)]",
    "",
    "vec![1];\n\n[a](b)",
    "save it as x.png",
    "1 < 2, imgs > 0",
    "http is a protocol",
]
PICTURE = {"inlineData": {"mimeType": "image/png", "data": "aGVs"}}


def pieces(text: str, cuts: list[int]) -> list[Any]:
    """A stream that says this text, cut there."""
    ends = sorted({0, len(text), *(cut % (len(text) + 1) for cut in cuts)})
    parts = [{"text": text[begin:end]} for begin, end in pairwise(ends)]
    return [*(said(part, finishReason=None) for part in parts), said()]


@pytest.mark.parametrize("text", SHOWN)
@settings(deadline=None)  # a busy machine fails no test
@given(cuts=st.lists(st.integers(0, 3000), max_size=6))
def test_a_picture_by_reference_is_not_kept(text: str, cuts: list[int]) -> None:
    """U20: whatever was asked for, and wherever the text is cut across events."""
    assert not metered(*pieces(text, cuts)).storable
    assert not metered(*pieces(text, list(range(len(text))))).storable


@pytest.mark.parametrize("text", CITED)
@settings(deadline=None)  # a busy machine fails no test
@given(cuts=st.lists(st.integers(0, 3000), max_size=6))
def test_where_a_picture_is_due_any_link_may_be_it(text: str, cuts: list[int]) -> None:
    """U20: an answer that should bring a picture and brings a link is not kept; one that brings both is."""
    assert not metered(*pieces(text, cuts), pictures=True).storable
    assert metered(*pieces(text, cuts), said(PICTURE), pictures=True).storable
    assert not metered(*pieces(text, cuts), said(PICTURE), said(index=1), pictures=True).storable


@pytest.mark.parametrize("text", [*CITED, *PLAIN])
def test_ordinary_text_is_kept(text: str) -> None:
    """Links and code in a text are not pictures, whole or letter by letter."""
    assert metered(said({"text": text})).storable
    assert metered(*pieces(text, list(range(len(text))))).storable


@pytest.mark.parametrize("text", PLAIN)
def test_an_image_models_text_is_kept(text: str) -> None:
    """An image model that only talks is kept like any other."""
    assert metered(said({"text": text}), pictures=True).storable


def test_other_places() -> None:
    """A file's address is a link; candidates and thoughts are texts of their own."""
    assert not metered(said({"fileData": {"fileUri": "https://files.example.com/a"}})).storable
    two = [{"index": index, "content": {"parts": [{"text": text}]}} for index, text in enumerate(("see ![", "x](y)"))]
    assert metered({"candidates": two}, said(index=0), said(index=1)).storable
    assert not metered(said({"text": "Let me draw.", "thought": True}, {"text": "https://a/1"})).storable


@pytest.mark.parametrize("text", ["![" * 10**6, "https://" * 10**6, "<img" * 10**6, "![\n\n" * 10**6, " " * 10**7])
def test_a_hostile_text_costs_no_more_than_its_length(text: str) -> None:
    """No text makes the search go over itself again and again."""
    data = json.dumps(said({"text": text})).encode()
    began = time.process_time()
    assert metered(data).storable in {True, False}
    assert time.process_time() - began < 3


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (GENERATE.replace("2.5-flash", "9-Image-preview"), TEXT),
        (STREAM.replace("2.5-flash", "nano-banana"), TEXT),
        (GENERATE, {**TEXT, "generationConfig": {"responseModalities": ["TEXT", "IMAGE"]}}),
    ],
    ids=["an image model", "another, as a stream", "a picture is asked for"],
)
async def test_when_a_picture_is_due(path: str, body: Any, tmp_path: Path, state: Valkey) -> None:
    """U20: through a whole gateway, the model's name or the body says that a picture is due; a link is not kept."""
    told = json.dumps(said({"text": "Here it is, see https://cdn.example/x"})).encode()

    async def respond(head: bytes, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        stream = b"streamGenerateContent" in head
        writer.writelines(chunked(b"data: " + told + b"\n\n") if stream else [answer(told)])
        await writer.drain()

    async with (
        wire(respond) as heard,
        running(tmp_path, heard.url, clients={"design": PRIVATE}, redis_url=state.url) as gateway,
    ):
        for asked, result in ((path, "refused"), (GENERATE, "stored")):
            assert 200 == (await gateway.http.post(asked, json=body if result == "refused" else TEXT)).status_code
            await gateway.at_rest()
            assert 1 == gateway.metric("gateway_cache_requests_total", result=result)
