"""What can somebody learn who has no key, or a wrong one?"""

from pathlib import Path

import httpx

from gateway.config.clients import new_key
from tests.support.gateway import GENERATE, STREAM, TEXT, Gateway, Upstream, running
from tests.support.valkey import Valkey

VARYING = {"date", "x-request-id", "request-id", "server-timing"}

# Path and method; what a stranger gets; what a client gets.  Whatever is not here does not exist.
ROUTES: list[tuple[str, str, int, int]] = [
    ("GET", "/healthz", 200, 200),
    ("GET", "/readyz", 200, 200),
    ("GET", "/docs", 200, 200),
    ("GET", "/openapi.json", 200, 200),
    ("POST", GENERATE, 401, 200),
    ("POST", STREAM, 401, 200),
    ("POST", GENERATE.replace("generateContent", "countTokens"), 401, 200),
    ("GET", "/v1beta/models", 401, 200),
    ("GET", "/v1/models", 401, 200),
    ("GET", "/v1beta/models/gemini-2.5-flash", 401, 200),
    *[  # asked with Google's body, which names no model
        ("POST", path, 401, 400)
        for path in (
            "/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses", "/v1/responses/compact",
        )
    ],
    *[
        ("GET", path, 404, 404)
        for path in (
            "/", "/metrics", "/redoc", "/docs/", "/docs/oauth2-redirect", "/openapi.yaml", "/admin", "/debug", "/debug/pprof", "/config",
            "/clients", "/clients.toml", "/keys", "/usage", "/cache", "/status", "/server-status", "/actuator", "/.env", "/.git/config",
            "/sandbox/log", "/healthz/", "/healthz/../metrics", "/healthz%2f..%2fmetrics", "/static/x", "/favicon.ico", "/v1/usage",
            "/v1beta/files", "/v1beta/cachedContents", "/v1beta/interactions", "/v1beta/operations/x", "/v1/responses/x",
        )
    ],
]  # fmt: skip


async def test_what_is_there_and_for_whom(gateway: Gateway) -> None:
    """K7: each route for a stranger and for a client is as this table says, and nothing else exists."""
    async with httpx.AsyncClient(trust_env=False) as nobody:
        for method, path, stranger, client in ROUTES:
            body = TEXT if method == "POST" else None
            url = httpx.URL(gateway.url).copy_with(raw_path=path.encode())
            refused = await nobody.request(method, url, json=body)
            answered = await gateway.http.request(method, url, json=body)
            assert (stranger, client) == (refused.status_code, answered.status_code), path


async def test_every_wrong_key_hears_the_same(tmp_path: Path, upstream: Upstream, state: Valkey) -> None:
    """K3: malformed, mistyped, unknown, revoked and expired keys get the same bytes but for id and time."""
    terms = {"design": "", "revoked": "disabled = true", "expired": "expires = 2020-01-01"}
    async with running(tmp_path, upstream.url, redis_url=state.url, clients=terms) as gateway:
        known = gateway.keys
        wrong = [
            known["revoked"],
            known["expired"],
            new_key(),
            known["design"][:-1],
            known["design"].swapcase(),
            "x",
            "*",
        ]
        heard = set()
        async with httpx.AsyncClient(base_url=gateway.url, trust_env=False) as http:
            for place in [{"x-goog-api-key": key} for key in wrong] + [
                {"authorization": f"Bearer {key}"} for key in wrong
            ]:
                response = await http.post(GENERATE, json=TEXT, headers=place)
                headers = tuple(line for line in response.headers.raw if line[0].decode() not in VARYING)
                heard.add((response.status_code, headers, response.content))
        assert 1 == len(heard), heard
        assert 401 == heard.pop()[0]
        assert [] == await upstream.log()
        assert {"unknown"} == {entry["client"] for entry in await gateway.entries(2 * len(wrong))}


async def test_strangers_leave_nothing_in_the_store(gateway: Gateway, state: Valkey) -> None:
    """L8 A15: a thousand random keys write nothing, ask nothing and are one series of the metrics."""
    before = gateway.metrics().count("\n")
    async with httpx.AsyncClient(base_url=gateway.url, trust_env=False) as http:
        for _ in range(1000):
            await http.get("/v1beta/models", headers={"x-goog-api-key": new_key()})
    assert [] == state.ask("KEYS", "*")
    assert 1000 == gateway.metric("gateway_requests_total", client="unknown", code="401")
    assert gateway.metrics().count("\n") < before + 100
