"""No secret stands in anything we produce: keys and prompts are looked for in every spelling, in every output."""

import base64
import contextlib
import json
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis import Redis

from gateway.config.clients import new_key
from tests.support.gateway import GENERATE, STREAM, UPSTREAM_KEY, Gateway, Upstream, running, saying
from tests.support.valkey import Valkey
from tests.support.waiting import until

PROMPT = "canary-prompt-0815-zebra"
FAULTS = ("echokey", "503", "429=9", "html", "html200", "empty", "badjson", "redirect", "key", "quota", "google=400")


def spellings(secret: str) -> Iterator[bytes]:
    """How a secret could stand somewhere: raw, base64 at each offset, hex, URL- and JSON-escaped, reversed."""
    raw = secret.encode()
    yield raw
    yield raw[::-1]
    yield raw.hex().encode()
    yield urllib.parse.quote(secret, safe="").encode()
    yield json.dumps(secret)[1:-1].encode()
    for offset in range(3):
        yield base64.b64encode(b"x" * offset + raw)[4 * (offset > 0) :].rstrip(b"=")[:-1]


def found(secrets: list[str], outputs: dict[str, bytes]) -> list[str]:
    """Which outputs hold which secrets."""
    return [f"{secret[:12]} in {name}" for name, data in outputs.items() for secret in secrets
            if any(spelling in data for spelling in spellings(secret))]  # fmt: skip


@pytest.mark.parametrize("leak", [UPSTREAM_KEY.encode(), base64.b64encode(b"ab" + UPSTREAM_KEY.encode() + b"cd")])
def test_the_scanner_finds_a_planted_leak(leak: bytes) -> None:
    """S1: the scan below proves something only if it would find what was planted."""
    assert found([UPSTREAM_KEY], {"planted": b"... " + leak + b" ..."})


class Defective(httpx.AsyncBaseTransport):
    """A way to the upstream that fails as no error of httpx does, and says all it knows."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        body = await request.aread()
        raise RuntimeError(f"{request.headers.raw} {request.url} {body.decode()}")


async def everything_said(gateway: Gateway, path: str, **sent: Any) -> bytes:
    """The head and the body of an answer, as far as they come."""
    received = b""
    with contextlib.suppress(httpx.RemoteProtocolError):  # a stream that broke is cut
        async with gateway.http.stream("POST", path, **sent) as response:
            received = str(response.headers).encode()
            async for chunk in response.aiter_raw():
                received += chunk
    return received


def left_behind(gateway: Gateway, state: Valkey, capfd: pytest.CaptureFixture[str]) -> dict[str, bytes]:
    """All that stays after the calls: log, metrics, stdout, stderr, and every key of the store with its value."""
    readers = {"stream": ("XRANGE", "-", "+"), "hash": ("HGETALL",), "zset": ("ZRANGE", "0", "-1"), "string": ("GET",)}
    names = state.ask("KEYS", "*")
    kinds = {name: readers[state.ask("TYPE", name)] for name in names}
    redis: Any = Redis.from_url(state.url)  # answers are bytes
    with contextlib.closing(redis):
        values = [redis.execute_command(command, name, *rest) for name, (command, *rest) in kinds.items()]
    printed = capfd.readouterr()
    return {
        "log": gateway.log_file.read_bytes(), "metrics": gateway.metrics().encode(), "store": repr((names, values)).encode(),
        "stdout": printed.out.encode(), "stderr": printed.err.encode(),
    }  # fmt: skip


async def test_no_secret_leaves(
    tmp_path: Path, upstream: Upstream, state: Valkey, capfd: pytest.CaptureFixture[str]
) -> None:
    """S1 S3 S4 A12 U12: no key and no prompt in answers, log, metrics, store, stdout or stderr, whatever goes wrong."""
    wrong = {"x-goog-api-key": new_key()}
    answers: dict[str, bytes] = {}
    clients = {"design": 'cache = "private"'}
    async with running(tmp_path, upstream.url, redis_url=state.url, clients=clients) as gateway:
        for path in (f"{GENERATE}?key={gateway.key}", f"{STREAM}&key={gateway.key}"):
            for fault in FAULTS:
                asked = saying(f"sandbox-fault: {fault} {PROMPT}")
                answers[f"{path[36:44]} {fault}"] = await everything_said(gateway, path, json=asked)
            answers[f"{path[36:44]} wrong key"] = await everything_said(
                gateway, path, json=saying(PROMPT), headers=wrong
            )
            await everything_said(gateway, path, json=saying("nothing secret"))
        answers["two keys"] = await everything_said(gateway, f"{GENERATE}?key={PROMPT}", json=saying("nothing secret"))
        answers["model"] = await everything_said(gateway, GENERATE.replace("2.5", "%0a"), json=saying(PROMPT))
        await gateway.entries(2 * (len(FAULTS) + 2) + 2)
        await until(lambda: 2 == gateway.metric("gateway_cache_requests_total", result="stored"))
        outputs = left_behind(gateway, state, capfd)
    keys = [*gateway.keys.values(), wrong["x-goog-api-key"]]

    assert all(answers.values())
    assert b"usage" in outputs["store"]
    assert b"gw:cache:client:design" in outputs["store"]
    assert [] == found([UPSTREAM_KEY, *keys, PROMPT], outputs | answers)


async def test_no_secret_leaves_by_a_defect(tmp_path: Path, state: Valkey, capfd: pytest.CaptureFixture[str]) -> None:
    """S2: an exception that nobody expected is a 500 without a word of it; the log has its class and its place."""
    answers = {}
    async with running(tmp_path, "http://127.0.0.1:9", redis_url=state.url, transport=Defective()) as gateway:
        for path in (GENERATE, STREAM, f"{GENERATE}?key={gateway.key}"):
            answers[path[36:]] = await everything_said(gateway, path, json=saying(PROMPT))
        entries = await gateway.entries(3)
        outputs = left_behind(gateway, state, capfd)
    assert [500] * 3 == [entry["status"] for entry in entries]
    defects = [line for line in gateway.lines() if line["event"] == "defect"]
    assert ["RuntimeError"] * 3 == [line["exception"] for line in defects]
    assert "test_canary.py" in defects[0]["at"][-1]
    assert [] == found([UPSTREAM_KEY, gateway.key, PROMPT], outputs | answers)


async def test_the_upstream_never_sees_a_client_key(gateway: Gateway, upstream: Upstream) -> None:
    """P4 P7: exactly the allowed headers and query cross, and the caller's key is not among them."""
    hostile = {
        "x-goog-user-project": "p", "x-http-method-override": "GET", "cookie": "a=b", "connection": "x-evil",
        "x-evil": "1", "forwarded": "for=1.2.3.4", "x-forwarded-for": "1.2.3.4", "te": "trailers",
        "x-goog-api-client": "genai", "accept-encoding": "zstd", "user-agent": "evil",
    }  # fmt: skip
    query = f"?key={gateway.key}&$alt=json&alt=media&fields=x&callback=y&access_token=z"
    response = await gateway.http.post(GENERATE + query, json=saying("hello"), headers=hostile)

    (seen,) = await upstream.log()
    assert 200 == response.status_code
    assert ("POST", GENERATE, "") == (seen["method"], seen["path"], seen["query"])
    allowed = {
        "host",
        "authorization",
        "accept",
        "accept-encoding",
        "user-agent",
        "x-request-id",
        "content-type",
        "content-length",
    }
    assert allowed == {name.lower() for name, _ in seen["headers"]}
    assert len(allowed) == len(seen["headers"])
    headers = dict(seen["headers"])
    assert "identity" == headers["accept-encoding"]
    assert headers["user-agent"].startswith("tokenhot-gateway/")
    assert gateway.key not in str(seen)
