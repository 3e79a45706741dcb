"""Does a running gateway follow what changes under it?  The clients file, and the upstream key's."""

import asyncio
import hashlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.config import watched_file as files
from gateway.config.clients import new_key
from tests.support.gateway import GENERATE, TEXT, Gateway, Upstream, clients_toml, running
from tests.support.valkey import Valkey
from tests.support.waiting import until
from tests.support.wire import answer, saying, wire

ANSWER = b'{"candidates":[{"content":{"parts":[{"text":"hi"}]},"finishReason":"STOP"}],"usageMetadata":{}}'
BROKEN = {
    "half written": '[clients.design]\nkey_sha256 = ["',
    "empty": "",
    "unknown key": "[defaults]\nrequests_per_minuet = 1\n",
    "not text": "\udcff",
    "another kind": "clients = 1\n",
}


async def status(gateway: Gateway, key: str) -> int:
    """What a call with this key is answered."""
    return (await gateway.http.post(GENERATE, json=TEXT, headers={"x-goog-api-key": key})).status_code


async def becomes(expected: int, gateway: Gateway, key: str) -> float:
    """Call until the status is the expected one; the seconds it took, at most one."""
    began = time.monotonic()
    while await status(gateway, key) != expected:
        assert time.monotonic() - began < 1, f"{expected} did not come within a second"
    return time.monotonic() - began


async def told(gateway: Gateway, event: str) -> dict[str, Any]:
    """Wait for a line of the log; it must stay the only one of its kind."""
    found: list[dict[str, Any]] = await until(lambda: [line for line in gateway.lines() if line["event"] == event])
    (line,) = found
    return line


def plain(path: Path, text: str) -> None:
    """Write in place, as an editor may."""
    path.write_bytes(text.encode(errors="surrogateescape"))


def atomic(path: Path, text: str) -> None:
    """Put another file in its place, as our own commands do."""
    files.replace(path, lambda _: text.encode())


@pytest.mark.parametrize("write", [plain, atomic])
async def test_a_changed_clients_file_is_followed(gateway: Gateway, write: Callable[[Path, str], None]) -> None:
    """K8: a new client may call within a second, a client that is gone no more, and the log says so once."""
    newcomer = new_key()
    assert (200, 401) == (await status(gateway, gateway.key), await status(gateway, newcomer))
    write(gateway.clients_file, clients_toml({"newcomer": newcomer}, {}))
    await becomes(200, gateway, newcomer)
    assert 401 == await status(gateway, gateway.key)
    assert "clients.toml" == (await told(gateway, "reloaded"))["file"]
    assert 0 == gateway.metric("gateway_config_reload_failures_total")


@pytest.mark.parametrize("change", ["disabled = true", "expires = 2020-01-01"])
async def test_a_revoked_key_opens_nothing(gateway: Gateway, change: str) -> None:
    """K8: a key that is revoked or has expired is refused within a second, with the message for any bad key."""
    atomic(gateway.clients_file, clients_toml(gateway.keys, {"design": change}))
    await becomes(401, gateway, gateway.key)
    revoked = await gateway.http.post(GENERATE, json=TEXT)
    unknown = await gateway.http.post(GENERATE, json=TEXT, headers={"x-goog-api-key": new_key()})
    assert unknown.content == revoked.content


async def test_calls_under_way_outlive_a_revocation(gateway: Gateway) -> None:
    """K8: what was let in before is answered."""
    body = {"contents": [{"parts": [{"text": "sandbox-fault: slow=1.2 "}]}]}
    asking = asyncio.create_task(gateway.http.post(GENERATE, json=body))
    await until(lambda: gateway.metric("gateway_in_flight_requests"))
    atomic(gateway.clients_file, clients_toml(gateway.keys, {"design": "disabled = true"}))
    await becomes(401, gateway, gateway.key)
    assert not asking.done()
    assert 200 == (await asking).status_code


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
async def test_a_broken_clients_file_changes_nothing(gateway: Gateway, content: str) -> None:
    """X3: the last good file stays in force, one error line says why, the metric counts it; a good one ends it."""
    plain(gateway.clients_file, content)
    line = await told(gateway, "reload_failed")
    assert ("error", "clients.toml") == (line["level"], line["file"])
    assert line["problem"]
    assert hashlib.sha256(gateway.key.encode()).hexdigest() not in str(line)
    assert 1 == gateway.metric("gateway_config_reload_failures_total")
    await until(lambda: gateway.metric("gateway_config_file_ignored") == 1)
    assert 200 == await status(gateway, gateway.key)
    gateway.app.parts.metrics.file_ignored.set(0)  # it is set again for as long as it is there, though not counted
    await until(lambda: gateway.metric("gateway_config_file_ignored") == 1)

    newcomer = new_key()
    plain(gateway.clients_file, clients_toml({"newcomer": newcomer}, {}))
    await becomes(200, gateway, newcomer)
    await until(lambda: gateway.metric("gateway_config_file_ignored") == 0)
    await told(gateway, "reload_failed")
    assert 1 == gateway.metric("gateway_config_reload_failures_total")


async def test_a_clients_file_that_goes_away(gateway: Gateway) -> None:
    """X3: a file that is removed leaves the last good one in force; back with the same content it is read again."""
    content = gateway.clients_file.read_text()
    gateway.clients_file.unlink()
    await told(gateway, "reload_failed")
    assert 200 == await status(gateway, gateway.key)
    plain(gateway.clients_file, content)
    await told(gateway, "reloaded")
    assert 200 == await status(gateway, gateway.key)


async def test_a_new_limit_is_in_force(gateway: Gateway) -> None:
    """Interface: a changed limit holds within a second, without a restart."""
    atomic(gateway.clients_file, clients_toml(gateway.keys, {"design": "requests_per_minute = 60\nburst = 1"}))
    await becomes(429, gateway, gateway.key)


async def test_the_upstream_key_is_swapped_under_load(tmp_path: Path, state: Valkey) -> None:
    """S6: the file's new key is used within a second and the old one never again; no call fails meanwhile."""
    secret = tmp_path / "key"
    secret.write_text("sk-old\n")
    done, statuses = asyncio.Event(), set()
    async with (
        wire(saying(answer(ANSWER), close=False)) as heard,
        running(tmp_path, heard.url, redis_url=state.url, upstream_key=None, upstream_key_file=secret) as gateway,
    ):

        async def keep_calling() -> None:
            while not done.is_set():
                statuses.add(await status(gateway, gateway.key))

        callers = [asyncio.create_task(keep_calling()) for _ in range(4)]
        await gateway.entries(20)
        files.replace(secret, lambda _: b"sk-new\n")
        await told(gateway, "reloaded")
        swapped = len(heard.heads)
        await until(lambda: len(heard.heads) > swapped + 20)
        done.set()
        await asyncio.gather(*callers)
    assert {200} == statuses
    assert b"bearer sk-old" in heard.heads[0].lower()
    late = [head for head in heard.heads[swapped + 4 :] if b"Bearer sk-new" not in head]
    assert [] == late, "at most the calls under way may still have the old key"


async def test_a_broken_key_file_changes_nothing(tmp_path: Path, upstream: Upstream, state: Valkey) -> None:
    """S6: an emptied key file leaves the old key in use, and the line that says so holds none."""
    secret = tmp_path / "key"
    secret.write_text("sk-canary-upstream-4711")
    async with running(
        tmp_path, upstream.url, redis_url=state.url, upstream_key=None, upstream_key_file=secret
    ) as gateway:
        plain(secret, "")
        line = await told(gateway, "reload_failed")
        assert 200 == await status(gateway, gateway.key)
    assert "sk-canary" not in str(line)


async def test_it_stops_with_calls_under_way(tmp_path: Path, upstream: Upstream, state: Valkey) -> None:
    """A14 X1: a call that outlives the drain gets its error and is counted, and no task of the gateway is left behind."""
    before = asyncio.all_tasks()
    async with httpx.AsyncClient(trust_env=False, timeout=20) as http:
        async with running(tmp_path, upstream.url, redis_url=state.url) as gateway:
            body = {"contents": [{"parts": [{"text": "sandbox-fault: hang "}]}]}
            headers = {"x-goog-api-key": gateway.key}
            asking = asyncio.create_task(http.post(gateway.url + GENERATE, json=body, headers=headers))
            await until(upstream.log)
        answered = await asking
    assert (503, "DRAINING") == (answered.status_code, answered.json()["error"]["details"][0]["reason"])
    entry = await gateway.entry()
    assert ("overloaded", 503, "estimated") == (entry["outcome"], entry["status"], entry["usage"])

    def left() -> set[asyncio.Task[Any]]:
        return {task for task in asyncio.all_tasks() - before if not task.done()}

    await until(lambda: not left(), tell=left)  # the sandbox may be the last to hear that its caller has gone
