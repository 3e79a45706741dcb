"""What does an operator learn of a call that was refused?  The reason, who asked, from where, and what the upstream said."""

import hashlib
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.config.clients import new_key
from tests.support.gateway import GENERATE, STREAM, TEXT, Gateway, Upstream, running, saying
from tests.support.valkey import Valkey

WORDS = ("status", "reason", "upstream_status", "client", "client_address")

# Of each: what is sent beside the key, and status, reason and the upstream's status in the access line.
REFUSED: list[tuple[str, str, dict[str, Any], int, str, int | None]] = [
    ("no route", "/nowhere", {"json": TEXT}, 404, "ROUTE_UNKNOWN", None),
    ("method", GENERATE, {"method": "PUT"}, 405, "METHOD", None),
    ("no key", GENERATE, {"headers": {"x-goog-api-key": ""}}, 401, "KEY_MISSING", None),
    (
        "two keys",
        GENERATE,
        {"headers": {"x-goog-api-key": "x", "authorization": "Bearer y"}},
        400,
        "CONFLICTING_KEYS",
        None,
    ),
    ("content type", GENERATE, {"content": b"x", "headers": {"content-type": "text/plain"}}, 415, "CONTENT_TYPE", None),
    ("no model", GENERATE.replace("gemini-2.5-flash", ""), {"json": TEXT}, 400, "MODEL_MISSING", None),
    ("busy", GENERATE, {"json": saying("sandbox-fault: 400 ")}, 400, "UPSTREAM_ERROR", 400),
    ("key refused", GENERATE, {"json": saying("sandbox-fault: key ")}, 502, "UPSTREAM_KEY_REFUSED", 401),
    ("broken", GENERATE, {"json": saying("sandbox-fault: cut ")}, 502, "UPSTREAM_BROKE", 200),
    ("within", STREAM, {"json": saying("sandbox-fault: streamerror ")}, 200, "UPSTREAM_ERROR", 200),
]


@pytest.mark.parametrize(
    ("path", "sent", "status", "reason", "upstream_status"),
    [row[1:] for row in REFUSED],
    ids=[row[0] for row in REFUSED],
)
async def test_a_refusal_says_why(
    gateway: Gateway, path: str, sent: dict[str, Any], status: int, reason: str, upstream_status: int | None
) -> None:
    """A1: the line of each call that ends badly names the reason that the caller was given."""
    try:
        await gateway.http.request(**{"method": "POST", "url": path, **sent})
    except httpx.RemoteProtocolError:
        assert reason == "UPSTREAM_ERROR"
    entry = await gateway.entry()
    assert (status, reason, upstream_status) == tuple(entry[word] for word in WORDS[:3])
    assert "127.0.0.1" == entry["client_address"]


async def test_a_good_call_has_no_reason(gateway: Gateway) -> None:
    """A1: what ended well has none, and says which key was used and where it came from."""
    await gateway.http.post(GENERATE, json=TEXT)
    entry = await gateway.entry()
    assert (200, None, 200, "design", "127.0.0.1") == tuple(entry[word] for word in WORDS)
    assert hashlib.sha256(gateway.key.encode()).hexdigest()[:8] == entry["key_fingerprint"]


async def test_a_key_is_known_by_its_fingerprint(tmp_path: Path, state: Valkey) -> None:
    """S3, K3: a revoked or unknown key of our form is found by its hash's beginning; what has another form is not shown."""
    clients = {"design": "", "gone": "disabled = true"}
    async with running(tmp_path, "http://127.0.0.1:9", redis_url=state.url, clients=clients) as gateway:
        unknown = new_key()
        for key in (gateway.keys["gone"], unknown, "sk-somebody-elses-password", unknown[:-1] + "~"):
            assert 401 == (await gateway.http.post(GENERATE, json=TEXT, headers={"x-goog-api-key": key})).status_code
        entries = await gateway.entries(4)
    shown = [hashlib.sha256(key.encode()).hexdigest()[:8] for key in (gateway.keys["gone"], unknown)]
    assert [*shown, None, None] == [entry["key_fingerprint"] for entry in entries]
    assert {("KEY_INVALID", "unknown")} == {(entry["reason"], entry["client"]) for entry in entries}


@pytest.mark.parametrize(
    ("limit", "reason"),
    [("requests_per_minute = 1\nburst = 1", "RATE_LIMITED"), ("tokens_per_day = 1", "BUDGET_SPENT")],
)
async def test_a_limit_is_named(tmp_path: Path, upstream: Upstream, state: Valkey, limit: str, reason: str) -> None:
    """L10: a call over its limit says RATE_LIMITED, one over its budget BUDGET_SPENT."""
    async with running(tmp_path, upstream.url, redis_url=state.url, clients={"design": limit}) as gateway:
        for _ in range(2):
            await gateway.http.post(GENERATE, json=TEXT)
        assert [None, reason] == [entry["reason"] for entry in await gateway.entries(2)]


async def test_a_refused_key_is_told_how_to_come(gateway: Gateway) -> None:
    """RFC 9110, 15.5.2: every 401 names the scheme; nothing else does."""
    for key, status in (("", 401), (new_key(), 401), ("x" * 44, 401), (gateway.key, 200)):
        response = await gateway.http.post(GENERATE, json=TEXT, headers={"x-goog-api-key": key})
        assert status == response.status_code
        assert ("Bearer" if status == 401 else None) == response.headers.get("www-authenticate")


@pytest.mark.parametrize("coding", ["identity", "Identity", "", "identity, identity", "identity ,IDENTITY"])
async def test_identity_is_no_coding(gateway: Gateway, coding: str) -> None:
    """RFC 9110, 8.4.1: a body that says it is not encoded is taken."""
    response = await gateway.http.post(GENERATE, json=TEXT, headers={"content-encoding": coding})
    assert 200 == response.status_code


@pytest.mark.parametrize("coding", ["gzip", "identity, gzip", "br", "deflate", "identityx"])
async def test_other_codings_are_refused(gateway: Gateway, coding: str) -> None:
    """D10: a body that may have to be unpacked is a 415, also where one of its codings is none."""
    response = await gateway.http.post(GENERATE, json=TEXT, headers={"content-encoding": coding})
    assert (415, "CONTENT_TYPE") == (response.status_code, response.json()["error"]["details"][0]["reason"])
