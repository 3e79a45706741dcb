"""No secret stands in anything we produce: keys and prompts are looked for in every spelling, in every output."""

import base64
import contextlib
import json
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.gateway import GENERATE, STREAM, UPSTREAM_KEY, Gateway, Upstream, running, saying
from tests.support.valkey import Valkey

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


async def test_no_secret_leaves(
    tmp_path: Path, upstream: Upstream, state: Valkey, capfd: pytest.CaptureFixture[str]
) -> None:
    """S1 S3 S4 A12 U12: no key and no prompt in answers, log, metrics, store, stdout or stderr, whatever goes wrong."""
    outputs: dict[str, bytes] = {}
    async with running(tmp_path, upstream.url, redis_url=state.url) as gateway:
        for number, path in enumerate((GENERATE, STREAM)):
            for fault in FAULTS:
                prompt = saying(f"sandbox-fault: {fault} ")
                target, received = f"{path}{'&' if number else '?'}key={gateway.key}", b""
                with contextlib.suppress(httpx.RemoteProtocolError):  # a stream that broke is cut
                    async with gateway.http.stream("POST", target, json=prompt) as response:
                        received = str(response.headers).encode()
                        async for chunk in response.aiter_raw():
                            received += chunk
                outputs[f"answer {number} {fault}"] = received
        wrong = await gateway.http.post(GENERATE, json=saying(PROMPT), headers={"x-goog-api-key": "thg_" + PROMPT})
        outputs["wrong key"] = str(wrong.headers).encode() + wrong.content
        await gateway.http.post(GENERATE, json=saying(PROMPT))
        await gateway.entries(len(FAULTS) * 2 + 2)
        outputs["metrics"] = gateway.metrics().encode()
        keys = list(gateway.keys.values())
    outputs["log"] = gateway.log_file.read_bytes()
    stored = state.ask("KEYS", "*")
    records = state.ask("XRANGE", "gw:{design}:usage", "-", "+")
    outputs["store"] = (repr(stored) + repr(records)).encode()
    printed = capfd.readouterr()
    outputs["stdout"], outputs["stderr"] = printed.out.encode(), printed.err.encode()

    assert outputs["log"]
    assert records
    assert [] == found([UPSTREAM_KEY, *keys, PROMPT], outputs)


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
