"""What of each dialect is kept, for how long and under which key; and what is asked anew each time."""

import contextlib
import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.caching import PRIVATE, kept, status
from tests.support.gateway import Gateway, Upstream, running
from tests.support.valkey import Valkey
from tests.support.wire import Wire, answer, chunked, saying, wire

SAY = [{"role": "user", "content": "Say hello"}]
CHAT: dict[str, Any] = {"model": "gpt-5.2", "messages": SAY}
COMPLETION: dict[str, Any] = {"model": "gpt-5.2", "prompt": "Say hello", "max_tokens": 500}
EMBEDDING: dict[str, Any] = {"model": "text-embedding-3-small", "input": ["a", "b"], "dimensions": 8}
RESPONSE: dict[str, Any] = {"model": "gpt-5.2", "input": "Say hello", "store": False}
MESSAGE: dict[str, Any] = {"model": "claude-opus-4-6", "max_tokens": 900, "messages": SAY}
FUNCTION = {"type": "function", "name": "weather", "parameters": {"type": "object", "properties": {}}}
PATHS = {
    "chat": ("/v1/chat/completions", CHAT),
    "completions": ("/v1/completions", COMPLETION),
    "embeddings": ("/v1/embeddings", EMBEDDING),
    "responses": ("/v1/responses", RESPONSE),
    "compact": ("/v1/responses/compact", RESPONSE),
    "messages": ("/v1/messages", MESSAGE),
    "count": ("/v1/messages/count_tokens", MESSAGE),
}
STREAMED = {"stream": True}


async def asked_twice(gateway: Gateway, name: str, more: dict[str, Any], **options: Any) -> tuple[str, str, bool]:
    """How the cache was used by a call and by the same call once more, and whether both were answered the same."""
    path, asked = PATHS[name]
    first = await gateway.http.post(path, json=asked | more, **options)
    await gateway.at_rest()
    second = await gateway.http.post(path, json=asked | more, **options)
    await gateway.at_rest()
    assert (200, 200) == (first.status_code, second.status_code)
    return status(first), status(second), first.content == second.content


KEPT: list[tuple[str, dict[str, Any], int]] = [
    ("chat", {}, 3600),
    ("chat", STREAMED, 3600),
    ("chat", {"n": 3}, 3600),
    ("chat", {"store": False, "tools": [{"type": "function", "function": FUNCTION}]}, 3600),
    ("completions", {}, 3600),
    ("completions", STREAMED, 3600),
    ("embeddings", {}, 3600),
    ("embeddings", {"encoding_format": "base64"}, 3600),
    ("responses", {}, 3600),
    ("responses", STREAMED, 3600),
    ("responses", {"tools": [FUNCTION]}, 3600),
    ("messages", {}, 3600),
    ("messages", STREAMED, 3600),
    ("messages", {"stop_sequences": ["hello"]}, 3600),
    ("messages", {"thinking": {"type": "enabled", "budget_tokens": 200}}, 3600),
    ("count", {}, 300),
]


@pytest.mark.parametrize(("name", "more", "seconds"), KEPT)
async def test_what_is_kept(
    caching: Gateway, upstream: Upstream, name: str, more: dict[str, Any], seconds: int
) -> None:
    """C2 C7 A10: the second answer has the bytes of the first, costs nothing, and says for how long it will be kept."""
    first, second, same = await asked_twice(caching, name, more)
    assert ("fwd=miss" if "stream" in more else "fwd=miss; stored", f"hit; ttl={seconds}", True) == (
        first, second, same,
    )  # fmt: skip
    assert 1 == len(await upstream.log())
    _, hit = await caching.entries(2)
    assert ("cache_hit", 0, 0) == (hit["outcome"], hit["tokens_in"], hit["tokens_out"])


TOOL = {"name": "weather", "input_schema": {"type": "object", "properties": {}}}
NEVER: list[tuple[str, dict[str, Any]]] = [  # asked so that they are not even looked for
    ("chat", {"store": True}),
    ("chat", {"store": True, "stream": True}),
    ("completions", {"store": True}),
    ("responses", {"store": True}),
    ("responses", {"store": None}),
    ("responses", {"previous_response_id": "resp_1"}),
    ("responses", {"conversation": "conv_1"}),
    ("responses", {"background": True, "stream": True}),
    ("responses", {"tools": [{"type": "web_search"}]}),
    ("responses", {"tools": [FUNCTION, {"type": "image_generation"}]}),
    ("compact", {}),
    ("messages", {"tools": [{"type": "web_search_20250305", "name": "web_search"}]}),
    ("messages", {"mcp_servers": [{"type": "url", "url": "https://x", "name": "x"}]}),
    ("messages", {"container": "container_1"}),
    ("count", {"tools": [{"type": "code_execution_20250522", "name": "code_execution"}]}),
]
NOT_STORED: list[tuple[str, dict[str, Any]]] = [  # answered so that they are not kept
    ("chat", {"max_tokens": 1}),
    ("chat", {"max_tokens": 1, "stream": True}),
    ("chat", {"messages": [{"role": "user", "content": "sandbox-fault: safety "}]}),
    ("chat", {"messages": [{"role": "user", "content": "sandbox-fault: link "}]}),
    ("chat", {"messages": [{"role": "user", "content": "sandbox-fault: error200 "}]}),
    ("chat", {"messages": [{"role": "user", "content": "weather"}], "tools": [{"type": "function", "function": FUNCTION}]}),
    ("completions", {"max_tokens": 1}),
    ("responses", {"max_output_tokens": 1}),
    ("responses", {"max_output_tokens": 1, "stream": True}),
    ("responses", {"input": "sandbox-fault: failed ", "stream": True}),
    ("messages", {"max_tokens": 1}),
    ("messages", {"tools": [TOOL], "tool_choice": {"type": "any"}}),
    ("messages", {"messages": [{"role": "user", "content": "sandbox-fault: link "}]}),
    ("messages", {"messages": [{"role": "user", "content": "sandbox-fault: blocked "}], "stream": True}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "more", "told"), [
    *((*row, "fwd=bypass") for row in NEVER), *((*row, "fwd=miss") for row in NOT_STORED),
])  # fmt: skip
async def test_what_is_not_kept(
    caching: Gateway, upstream: Upstream, state: Valkey, name: str, more: dict[str, Any], told: str
) -> None:
    """C5: what the upstream keeps, runs or looks up itself, and what ended in any other way than by itself."""
    first, second, _ = await asked_twice(caching, name, more)
    assert (told, told) == (first, second)
    assert [] == state.ask("KEYS", "gw:cache:*")
    assert 2 == len(await upstream.log())


@pytest.mark.parametrize(
    ("name", "headers"),
    [
        ("chat", ("openai-beta", "accept")),
        ("responses", ("openai-beta",)),
        ("embeddings", ("openai-beta",)),
        ("messages", ("anthropic-version", "anthropic-beta", "anthropic-anything-new")),
        ("count", ("anthropic-version", "anthropic-beta")),
    ],
)
async def test_headers_that_cross_are_in_the_key(
    caching: Gateway, upstream: Upstream, name: str, headers: tuple[str, ...]
) -> None:
    """C4: another value of a header that reaches the upstream is another question; one that does not is the same."""
    path, asked = PATHS[name]
    variants = [{}, *({header: value} for header in headers for value in ("2023-06-01", "2026-10-21"))]
    for told in ("fwd=miss; stored", "hit"):
        for variant in variants:
            response = await caching.http.post(path, json=asked, headers={**variant, "x-stainless-retry-count": told})
            assert told == status(response).partition("; ttl")[0]
            await caching.at_rest()
    assert len(variants) == len(await upstream.log())


async def test_a_beta_asked_for_in_the_query_is_in_the_key(caching: Gateway, upstream: Upstream) -> None:
    """C4: what crosses of the query counts too, and what does not cross does not."""
    for query, told in (("", "fwd=miss; stored"), ("?beta=true", "fwd=miss; stored"), ("?x=1", "hit; ttl=3600")):
        response = await caching.http.post(f"/v1/messages{query}", json=MESSAGE)
        assert told == status(response)
        await caching.at_rest()
    assert 2 == len(await upstream.log())


async def test_dialects_do_not_answer_for_each_other(caching: Gateway, upstream: Upstream) -> None:
    """C4: the same body on another route is another question."""
    body = CHAT | {"prompt": "x", "max_tokens": 900, "input": "x", "store": False}
    paths = [path for name, (path, _) in PATHS.items() if name not in {"embeddings", "compact"}]
    for path in paths:
        assert "fwd=miss; stored" == status(await caching.http.post(path, json=body))
        await caching.at_rest()
    assert len(paths) == len(await upstream.log())


async def test_a_count_is_kept_for_five_minutes(tmp_path: Path, state: Valkey, upstream: Upstream) -> None:
    """C2: no longer, whatever the client's own time is, and shorter where that is; the store forgets it by then."""
    terms = {"design": f"{PRIVATE}\ncache_ttl_seconds = 86400", "hasty": f"{PRIVATE}\ncache_ttl_seconds = 60"}
    async with running(tmp_path, upstream.url, redis_url=state.url, clients=terms) as gateway:
        for name, seconds in (("design", 300), ("hasty", 60)):
            key = {"headers": {"x-goog-api-key": gateway.keys[name]}}
            assert ("fwd=miss; stored", f"hit; ttl={seconds}", True) == await asked_twice(gateway, "count", {}, **key)
        ages = [state.ask("PTTL", name) for name in state.ask("KEYS", "gw:cache:*")]
        assert [True, True] == [0 < age <= limit * 1000 for age, limit in zip(sorted(ages), (60, 300), strict=True)]


CUT = b'data: {"choices":[{"index":0,"delta":{"content":"Hel"},"finish_reason":null}]}\n\n'
ENDED = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
PICTURE = json.dumps(
    {"choices": [{"message": {"content": "", "images": [{"image_url": {"url": "https://x/y.png"}}]}, "finish_reason": "stop"}]}
).encode()  # fmt: skip


@pytest.mark.parametrize(
    ("said", "more"),
    [
        (chunked(CUT, b"data: [DONE]\n\n"), STREAMED),
        (chunked(CUT, ENDED), STREAMED | {"n": 2}),
        ((answer(PICTURE),), {}),
        ((answer(PICTURE, status="203 Non-Authoritative Information"),), {}),
    ],
    ids=["cut behind [DONE]", "fewer than asked", "a link to a picture", "another status"],
)
async def test_what_is_doubtful_is_not_kept(
    tmp_path: Path, state: Valkey, said: tuple[bytes, ...], more: dict[str, Any]
) -> None:
    """C5 U3 U20: a cut stream, fewer choices than were asked for, and an answer that holds a link for its picture."""
    heard: Wire
    async with wire(saying(*said)) as heard, running(
        tmp_path, heard.url, redis_url=state.url, clients={"design": PRIVATE}
    ) as gateway:  # fmt: skip
        for _ in range(2):
            async with gateway.http.stream("POST", "/v1/chat/completions", json=CHAT | more) as response:
                assert "fwd=miss" == status(response)
                with contextlib.suppress(httpx.RemoteProtocolError):  # the first one is cut
                    await response.aread()
            await gateway.at_rest()
        await kept(state, 0)
    assert 2 == len(heard.heads)
