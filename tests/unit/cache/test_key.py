"""Which calls share an answer?  Those that ask the same, to the byte, in one scope; no others, whatever they try."""

import hashlib
import os
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.background import LARGE_BYTES
from gateway.cache.key import digest, name_of
from gateway.call import Demand
from tests.support.asking import UPSTREAM, call, client

KEYS = int(os.environ.get("TEST_CACHE_KEYS", "50000"))  # the full count is 1000000
BATCH = 1000

Parts = tuple[bytes, ...]


def material(parts: Parts) -> bytes:
    """What is hashed, written independently."""
    return b"".join(len(part).to_bytes(8, "big") + part for part in parts)


def parsed(hashed: bytes) -> Parts:
    """The one way to read it."""
    parts = []
    while hashed:
        size = int.from_bytes(hashed[:8], "big")
        parts.append(hashed[8 : 8 + size])
        assert size == len(parts[-1])
        hashed = hashed[8 + size :]
    return tuple(parts)


def tricky(random: Random) -> Parts:
    """A tuple made to be taken for another: the same text, cut elsewhere, with lengths and delimiters inside."""
    words = (b"", b"client:a", b"shared", b"client:", b"\0", b":", b"{", b"}", b"alt=sse", b"gemini", b"\0" * 7 + b"\1")
    text = b"".join(random.choice(words) for _ in range(random.randrange(8))) + random.randbytes(random.randrange(4))
    cuts = sorted(random.randrange(len(text) + 1) for _ in range(4))
    return tuple(text[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(text)], strict=True))


@settings(max_examples=KEYS // BATCH, deadline=None)
@given(seed=st.integers(0, 2**64))
def test_no_two_tuples_share_a_key_and_each_is_read_in_one_way(seed: int) -> None:
    """C2: of a million tuples of scope, model, action, query and body no two have one key, nor one key two readings."""
    random = Random(seed)
    found: dict[str, Parts] = {}
    for _ in range(BATCH):
        parts = tricky(random)
        key = digest(parts)
        assert parts == found.setdefault(key, parts)
        assert hashlib.sha256(material(parts)).hexdigest() == key
        assert parts == parsed(material(parts))


@given(st.lists(st.binary(max_size=12), max_size=6), st.lists(st.binary(max_size=12), max_size=6))
def test_any_two_lists_of_parts_differ_in_their_keys(first: list[bytes], second: list[bytes]) -> None:
    """C2: also lists of different lengths."""
    assert (first == second) == (digest(first) == digest(second))


BASE = call(client("a"))
TELLING: dict[str, dict[str, Any]] = {
    "client": {"of": client("b")},
    "scope": {"of": client("a", cache="shared")},
    "action": {"method": "streamGenerateContent"},
    "model": {"model": "gemini-2.5-pro"},
    "query": {"query": "alt=sse"},
    "accept": {"accept": "text/event-stream"},
    "a space": {"body": BASE.upstream.body + b" "},
    "an escape": {"body": BASE.upstream.body.replace(b"c", b"\\u0063", 1)},
}
SILENT: dict[str, dict[str, Any]] = {
    "request id": {"request_id": "another"},
    "deadline": {"deadline": 9.0},
    "wishes": {"cache_control": "max-age=5"},
    "size": {"demand": Demand(text_chars=9)},
    "limits": {"of": client("a", requests_per_minute=1, cache_ttl_seconds=1)},
}


@pytest.mark.parametrize("what", TELLING)
async def test_whatever_reaches_the_upstream_is_in_the_key(what: str) -> None:
    """C3, C4: another scope, action, model, query, accept, or byte of the body is another answer."""
    assert await name_of(BASE, UPSTREAM) != await name_of(call(**({"of": client("a")} | TELLING[what])), UPSTREAM)


async def test_another_upstream_is_asked_anew() -> None:
    """C4: an answer of one upstream, such as the sandbox, is never given as another's."""
    assert await name_of(BASE, UPSTREAM) != await name_of(BASE, "http://another")


@pytest.mark.parametrize("what", SILENT)
async def test_what_changes_no_answer_is_not_in_the_key(what: str) -> None:
    """C4: what is ours alone splits nothing."""
    assert await name_of(BASE, UPSTREAM) == await name_of(call(**({"of": client("a")} | SILENT[what])), UPSTREAM)


async def test_sharing_clients_have_one_key() -> None:
    """C1: an answer crosses only between clients that both chose to share."""
    shared = [await name_of(call(client(name, cache="shared")), UPSTREAM) for name in ("a", "b")]
    assert shared[0] == shared[1]
    assert shared[0].startswith("gw:cache:shared:{")


async def test_a_large_body_is_hashed_as_a_small_one() -> None:
    """Beside the loop or on it, the key is the same function."""
    body = b"x" * LARGE_BYTES
    target = b"/v1beta/models/gemini-2.5-flash:generateContent"
    headers = (b"accept", b"*/*", b"content-type", b"application/json")
    parts = (b"3", b"client:a", UPSTREAM.encode(), b"POST", target, *headers, body)
    assert f"gw:cache:client:a:{{{digest(parts)}}}" == await name_of(call(client("a"), body=body), UPSTREAM)
