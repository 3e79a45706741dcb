"""What is read of a request, and what of it crosses?"""

import json
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest

from gateway.asgi.request import Request
from gateway.call import Demand, UpstreamRequest
from gateway.config.clients import Client
from gateway.dialects.gemini import GEMINI
from gateway.dialects.gemini.body import read_body
from tests.support.calls import understood

Ask = Callable[..., Request]
MIB = 2**20
PICTURE = "iVBORw0KGgo" * 50


def demand(body: Any) -> Demand:
    """Read a body that is JSON."""
    return read_body(json.dumps(body).encode())


@pytest.mark.parametrize("inline", ["inlineData", "inline_data"])
@pytest.mark.parametrize("mime", ["mimeType", "mime_type"])
@pytest.mark.parametrize("parts", [list, lambda parts: parts], ids=["list", "alone"])
def test_pictures_in_any_casing(inline: str, mime: str, parts: Callable[[Any], Any]) -> None:
    """Pictures are counted and not weighed, in both casings, mixed inside one object, in a list or alone."""
    body = {"contents": [{"parts": [{"text": "Edit"}, {inline: {"data": PICTURE, mime: "image/PNG"}}]}]}
    found = demand(body)
    assert (1, 0) == (found.images, found.other_media)
    assert len(json.dumps(body)) - len(PICTURE) - 2 == found.text_chars
    alone = demand({"contents": {"parts": {inline: {mime: "audio/wav", "data": PICTURE}}}})
    assert (0, 1) == (alone.images, alone.other_media)


@pytest.mark.parametrize("outer", ["generationConfig", "generation_config"])
@pytest.mark.parametrize(
    ("inner", "expected"),
    [
        ({"maxOutputTokens": 64, "candidate_count": 2}, (64, 2, False)),
        ({"max_output_tokens": 64, "candidateCount": 3, "responseModalities": ["TEXT", "image"]}, (64, 3, True)),
        ({"response_modalities": ["Image"]}, (None, 1, True)),
        ({"responseModalities": [2]}, (None, 1, True)),
        ({"responseModalities": [1, 3], "maxOutputTokens": 0, "candidateCount": 0}, (None, 1, False)),
        ({"responseModalities": ["AUDIO"], "maxOutputTokens": -5, "candidateCount": "many"}, (None, 1, False)),
        ({"responseModalities": None, "maxOutputTokens": 10**40, "candidateCount": 1.5, "topK": {}}, (None, 1, False)),
    ],
)
def test_generation_config(outer: str, inner: dict[str, Any], expected: tuple[int | None, int, bool]) -> None:
    """What decides the answer's size is read in both casings, with enums as integers; nonsense counts as absent."""
    found = demand({"contents": [], outer: inner})
    assert expected == (found.max_output_tokens, found.candidates, found.image_output)


def test_wrappers_and_batches() -> None:
    """The wrapper of countTokens, embeddings, batches, system instructions and functions' answers hold pictures too."""
    picture = {"inlineData": {"mimeType": "image/png", "data": PICTURE}}
    content = {"parts": [picture]}
    for body in (
        {"generateContentRequest": {"contents": [content], "generationConfig": {"maxOutputTokens": 7}}},
        {"generate_content_request": {"contents": content, "generation_config": {"max_output_tokens": 7}}},
        {"requests": [{"content": content}], "generationConfig": {"maxOutputTokens": 7}},
        {"content": content, "generationConfig": {"maxOutputTokens": 7}},
        {"system_instruction": content, "generationConfig": {"maxOutputTokens": 7}},
        {"contents": [{"parts": [{"functionResponse": content}]}], "generationConfig": {"maxOutputTokens": 7}},
    ):
        found = demand(body)
        assert (1, 7) == (found.images, found.max_output_tokens)
        assert found.text_chars < len(PICTURE)


def test_thought_signatures_are_no_text() -> None:
    """A signature that comes back in the next turn may be megabytes and costs nothing like it."""
    assert 100 > demand({"contents": [{"parts": [{"text": "", "thoughtSignature": PICTURE}]}]}).text_chars


@pytest.mark.parametrize(
    "body",
    [
        b"", b"x", b"{", b"[" * 10**6, b'{"x":' * 10**5, b'{"contents":[{"parts":[{"text":"\xff"}]}',
        b'{"contents":' + b'[{"parts":[{"functionResponse":{"parts":' * 3_000, b'{"x":' + b"9" * 5_000 + b",}",
        b'{"contents":[]} /* that is all */', b'{"contents":[' + b"{}," * 30_000 + b"{}]}", "{}".encode("utf-16"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_may_ask_for_anything(body: bytes) -> None:
    """D9: broken, endless or crowded bodies are all text and never an error, since the upstream answers them."""
    assert Demand(text_chars=len(body), unread=True) == read_body(body)


@pytest.mark.parametrize(
    "body",
    [
        b"null", b"[]", b"\xef\xbb\xbf{}", b'{"a":NaN}', b'{"a":-Infinity}', b'{"contents":"x"}', b'{"contents":[[]]}',
        b'{"contents":[{"parts":[null]}]}', b'{"generationConfig":[]}', b'{"requests":5}',
        b'{"contents":[{"parts":[{"inlineData":"x"}]}]} ', b'{"x":"\\ud83d"}', b'{"x":"\xff"}',
        b'{"x":' + b'{"a":[' * 4_000 + b"]}" * 4_000 + b"}", b'{"contents":[{"parts":[{"text":"%b"}]}]}' % (b"{" * 30_000),
    ],
)  # fmt: skip
def test_what_is_of_another_shape_is_text(body: bytes) -> None:
    """D9: whatever a lenient reader takes is read to its end, and so asks for nothing that it does not name."""
    assert Demand(text_chars=len(body)) == read_body(body)


WITH_PICTURE = b'{"contents":[{"parts":[{"text":"%b"},{"inlineData":{"mimeType":"image/png","data":"%b"}}]}]%b}'


@pytest.mark.parametrize("size", [600, 100_000, 3_000_000])
@pytest.mark.parametrize(
    ("text", "tail"),
    [
        (b"hi", b""),
        (rb"hi \ud83d", b""),
        (rb"\ude00 hi", b""),
        (b"hi \xff", b""),
        (b"hi", b',"x":NaN'),
        (b"hi", b',"systemInstruction":"x"'),
        (b"hi", b',"x":[' + b"{}," * 20_001 + b"{}]"),
        (b"hi", b",}"),
    ],
)
def test_a_picture_is_never_text(text: bytes, tail: bytes, size: int) -> None:
    """A picture counts as one, whatever keeps the rest of its body from being read as expected."""
    body = WITH_PICTURE % (text, b"A" * size, tail)
    demand = read_body(body)
    assert (1, 0, len(body) - size) == (demand.images, demand.other_media, min(demand.text_chars + 2, len(body) - size))
    spelt = (
        body.replace(b"inlineData", b"inline_data").replace(b'"data"', b'"DATA" ').replace(b"image/png", b"audio/wav")
    )
    if tail == b",}":
        assert (0, 1) == (read_body(spelt).images, read_body(spelt).other_media)


def modalities(written: str) -> bytes:
    """A body that says this in its configuration."""
    return b'{"contents":[],"generationConfig":{%b}}' % written.encode()


@pytest.mark.parametrize(
    "body",
    [
        modalities(r'"responseModalities":["IM\u0041GE"]'),
        modalities(r'"responseModalities":["\u0049mage"]'),
        modalities('"responseModalities":["TEXT",' + " " * 260 + '"IMAGE"]'),
        modalities('"responseModalities" : \n[ "text" ,\t"iMaGe"]'),
        modalities('"response_modalities":["TEXT"],"responseModalities":["IMAGE"]'),
        modalities('"responseModalities":["IMAGE"],"response_modalities":["TEXT"]'),
        modalities('"responseModalities":["IMAGE"],"responseModalities":["TEXT"]'),
        modalities(r'"respons\u0065Modalities":["IMAGE"]'),
        modalities(r'"response\u005FModalities":["IMAGE"]'),
        modalities('"ResponseModalities":["IMAGE"]'),
        modalities('"RE\u017fPONSE_MODALITIES":["IMAGE"]'),
        modalities('"responseModalities":[2]'),
        modalities('"responseModalities":["2"]'),
        modalities('"responseModalities":[1,2.0]'),
        modalities('"responseModalities":"IMAGE"'),
        modalities('"responseModalities":2'),
        modalities('"responseModalities":["TEXT","SOMETHING_NEW"]'),
        modalities('"topK":{},"maxOutputTokens":"x","responseModalities":["IMAGE"]'),
        b'{"generation_config":{"temperature":1},"generationConfig":{"responseModalities":["IMAGE"]}}',
        b'{"generationConfig":{"responseModalities":["IMAGE"]},"generationConfig":{}}',
        b'{"generateContentRequest":{"generationConfig":{"responseModalities":["IMAGE"]}}}',
        b'{"contents":[],"systemInstruction":"x","generationConfig":{"responseModalities":["IMAGE"]}}',
        b'{"contents":5,"generationConfig":{"responseModalities":["IMAGE"]}}',
        b'\xef\xbb\xbf{"generationConfig":{"responseModalities":["IMAGE"]}}',
        b'{"x":NaN,"generationConfig":{"responseModalities":["IMAGE"]}}',
        b'{"x":"\\ud800","generationConfig":{"responseModalities":["IMAGE"]}}',
        b'{"contents":[{"parts":[{"text":"%b"}]}],"generationConfig":{"responseModalities":["IMAGE"]}}'
        % (b"{" * 20_001),
        b'{"contents":[{"parts":[{"text":"%b"}]}],"generationConfig":{"responseModalities":["IMAGE"]}}'
        % (b"x" * 10**6),
    ],
)
def test_a_picture_is_asked_for_in_any_spelling(body: bytes) -> None:
    """L1: whatever some reader may take for a wish for pictures is one."""
    demand = read_body(body)
    assert demand.image_output
    assert not demand.unread


@pytest.mark.parametrize(
    "text",
    [
        "responseModalities IMAGE",
        'Set "responseModalities": ["IMAGE"] there.',
        r'"{\"generationConfig\": {\"responseModalities\": [\"IMAGE\"]}}"',
        r"\u0022responseModalities\u0022: [2]",
        "{" * 20_001 + '"responseModalities":["IMAGE"]',
    ],
)
def test_a_text_that_speaks_of_pictures_asks_for_none(text: str) -> None:
    """A prompt is no configuration, whatever it says."""
    body = {"contents": [{"parts": [{"text": text}]}], "generationConfig": {"responseModalities": ["TEXT", "AUDIO"]}}
    assert (False, False) == (demand(body).image_output, demand(body).unread)


def test_the_dearer_reading_counts() -> None:
    """Where two spellings say different things, what costs more is assumed."""
    both = {
        "generation_config": {"candidateCount": "3", "maxOutputTokens": 9},
        "generationConfig": {"candidate_count": 2.0},
    }
    assert (3, 9) == (demand(both).candidates, demand(both).max_output_tokens)


HOSTILE = {
    "picture": b'{"contents":[{"parts":[{"inlineData":{"mimeType":"image/png","data":"%b"}}]}]}'
    % (b"aGVs" * (10 * MIB // 4)),
    "brackets in contents": b'{"contents":[' + b"[]," * (10 * MIB // 3) + b"[]]}",
    "brackets elsewhere": b'{"x":[' + b"[]," * (10 * MIB // 3) + b"[]]}",
    "objects": b'{"contents":[' + b"{}," * (10 * MIB // 3) + b"{}]}",
    "as many objects as are read": b'{"contents":[{"parts":[' + b"{}," * 19_000 + b"{}]}]}",
    "strings": b'{"x":[' + b'"",' * (10 * MIB // 3) + b"1]}",
    "backslashes": b'{"x":"' + b"\\" * (10 * MIB) + b'"}',
    "names of media": b"{" + b'"data":"",' * (10 * MIB // 10) + b'"x":1}',
    "modalities": b'{"generationConfig":{"responseModalities":[' + b'"imag",' * (10 * MIB // 7) + b"1]}}",
    "keys": b"{" + b",".join(b'"%d":1' % key for key in range(10**6)) + b"}",
}


@pytest.mark.parametrize("case", HOSTILE)
def test_ten_mebibytes(case: str) -> None:
    """D9: a body of 10 MiB is read without being copied, in 10 ms for a picture and 100 ms at worst (printed)."""
    body = HOSTILE[case]
    took = []
    for _ in range(3):
        begin = time.perf_counter()
        read_body(body)
        took.append(time.perf_counter() - begin)
    tracemalloc.start()
    found = read_body(body)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    figures = f"{case}: {len(body) / MIB:.1f} MiB, {1e3 * min(took):.1f} ms, peak {peak / MIB:.2f} MiB"
    print(figures)  # noqa: T201  for the reader: a busy machine fails no test
    assert peak < 8 * MIB
    assert (case == "picture") == (found.images == 1)


@pytest.mark.parametrize(
    ("action", "query", "expected"),
    [
        ("streamGenerateContent", b"alt=sse", ("alt=sse", True)),
        ("streamGenerateContent", b"alt=sse%2Fgemini-3-1-pro-preview", ("alt=sse", True)),
        ("streamGenerateContent", b"", ("", True)),
        ("streamGenerateContent", b"alt=json", ("", True)),
        ("streamGenerateContent", b"$alt=json%3Benum-encoding%3Dint&%24alt=sse", ("", True)),
        ("generateContent", b"alt=sse", ("", False)),
        ("generateContent", b"key=K&fields=x&callback=f&access_token=t&$ct=x&alt=media&pageSize=5", ("", False)),
    ],
)
def test_what_crosses_of_an_action(
    ask: Ask, client: Client, action: str, query: bytes, expected: tuple[str, bool]
) -> None:
    """P7: of an action's query only `alt=sse` crosses, and the path says whether it streams."""
    request = ask(
        f"/v1/models/m:{action}".encode(), "POST", query, accept="text/event-stream", cache_control="No-Store"
    )
    call, (crossing, streams) = understood(GEMINI, request, b'{"a":1}', client, deadline=7.0), expected
    target = f"/v1beta/models/m:{action}" + f"?{crossing}" * bool(crossing)
    headers = (("accept", "text/event-stream"), ("content-type", "application/json"))
    assert UpstreamRequest(method="POST", target=target, headers=headers, body=b'{"a":1}') == call.upstream
    assert (streams, "no-store", 7.0, "r-1") == (call.stream, call.cache_control, call.deadline, call.request_id)


@pytest.mark.parametrize(
    ("path", "query", "expected"),
    [
        (
            b"/v1beta/models",
            b"pageSize=50&pageToken=Ab%2B%2F%3D%3D&key=K&alt=sse",
            "pageSize=50&pageToken=Ab%2B%2F%3D%3D",
        ),
        (b"/v1beta/models", b"pageSize=x&pageToken=a%0d%0ab", ""),
        (b"/v1beta/models", b"pageSize=%d9%a3&pageToken=a%26key%3Dx", ""),
        (b"/v1/models", b"pageSize=50&key=K", "pageSize=50"),
        (b"/v1beta/models/m", b"pageSize=50", ""),
    ],
)
def test_what_crosses_of_a_list(ask: Ask, client: Client, path: bytes, query: bytes, expected: str) -> None:
    """P7: of a list's query only paging crosses, checked and written anew."""
    request = ask(path, "GET", query)
    call = understood(GEMINI, request, b"", client)
    target = "/v1beta/models" + f"?{expected}" * bool(expected)
    assert UpstreamRequest(method="GET", target=target, headers=(("accept", "*/*"),)) == call.upstream
