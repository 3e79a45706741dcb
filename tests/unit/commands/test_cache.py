"""Which answers are cached, and does a purge delete them?  On one server, the embedded one, and a cluster."""

import asyncio
import time
from collections.abc import Iterable
from pathlib import Path

import httpx
import pytest

from gateway.cache import CacheStore
from gateway.cache.answer import CachedAnswer
from gateway.commands import CommandError
from gateway.commands.cache import run
from gateway.config.settings import Settings
from gateway.store import Store
from gateway.store.embedded import Embedded
from tests.support.gateway import GENERATE, clients_toml
from tests.support.served import Served
from tests.support.valkey import Valkey, cluster, valkey
from tests.support.waiting import wait_until

SCOPES = ("client:design", "client:design-2", "client:facts", "shared")


def fill(url: str, count: int, scopes: Iterable[str] = SCOPES) -> None:
    """Keep so many answers in each scope."""

    async def put() -> None:
        store = Store(url, timeout=10)
        kept = CachedAnswer(content_type="application/json", chunks=(b"{}",), tokens=1, created=time.time())
        names = [f"gw:cache:{scope}:{{{number:x}}}" for scope in scopes for number in range(count)]
        for at in range(0, len(names), 1000):
            assert all(await asyncio.gather(*(CacheStore(store).put(name, kept, 60) for name in names[at : at + 1000])))
        await store.aclose()

    asyncio.run(put())


def counts(settings: Settings, capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    """What `cache stats` prints of each scope."""
    capsys.readouterr()
    assert 0 == run(settings, "stats", None)
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["scope", "answers", "bytes"] == rows[0]
    assert all(int(size.replace(",", "")) >= 0 for _, _, size in rows[1:])
    return {scope: answers for scope, answers, _ in rows[1:]}


def test_one_clients_answers_are_forgotten(state: Valkey, capsys: pytest.CaptureFixture[str]) -> None:
    """C9: the own answers of the client named, and of nobody whose name begins like it, nor any other key."""
    settings = Settings(redis_url=state.url)
    fill(state.url, 3)
    state.ask("SET", "gw:{design}:limits", "kept")

    assert 0 == run(settings, "purge", "design")

    assert "3 answers forgotten\n" == capsys.readouterr().out
    assert {"client:design-2": "3", "client:facts": "3", "shared": "3", "all": "9"} == counts(settings, capsys)
    assert 0 == run(settings, "purge", None)
    assert {"all": "0"} == counts(settings, capsys)
    assert "kept" == state.ask("GET", "gw:{design}:limits")


def test_a_purge_of_a_client_that_shares_fails(
    tmp_path: Path, state: Valkey, capsys: pytest.CaptureFixture[str]
) -> None:
    """C9: the answers of a client that shares are in the shared scope; a purge by its name fails, and says so."""
    file = tmp_path / "clients.toml"
    file.write_text(clients_toml({"design": "a", "facts": "b"}, {"design": 'cache = "shared"'}))
    settings = Settings(redis_url=state.url, clients_file=file)
    fill(state.url, 1)
    with pytest.raises(CommandError, match="design shares") as failure:
        run(settings, "purge", "design")
    assert 1 == failure.value.exit_status
    assert "1 answer forgotten\n" == capsys.readouterr().out, "its own, from before it shared"
    assert 0 == run(settings, "purge", "facts")
    assert {"shared": "1", "client:design-2": "1", "all": "2"} == counts(settings, capsys)


def test_many_are_forgotten_within_a_second(state: Valkey, capsys: pytest.CaptureFixture[str]) -> None:
    """C9: a client's 10 000 answers among as many others are gone within a second."""
    fill(state.url, 10_000, ["client:design", "client:facts"])
    began = time.monotonic()
    run(Settings(redis_url=state.url), "purge", "design")
    assert time.monotonic() - began < 1
    assert "10,000 answers forgotten\n" == capsys.readouterr().out
    assert 10_000 == state.ask("DBSIZE")


def test_the_cache_has_a_store_of_its_own_where_one_is_named(state: Valkey, capsys: pytest.CaptureFixture[str]) -> None:
    """GATEWAY_CACHE_REDIS_URL beats the state's."""
    with valkey() as own:
        fill(own.url, 1)
        assert {"all": "4"}.items() <= counts(Settings(redis_url=state.url, cache_redis_url=own.url), capsys).items()


def test_the_embedded_store_is_borrowed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a URL the command uses the servers of the gateway that runs on the data folder, or starts them."""
    settings = Settings(data_dir=tmp_path)
    assert {"all": "0"} == counts(settings, capsys)

    async def kept_meanwhile() -> None:
        async with Embedded(tmp_path) as stores:
            await asyncio.to_thread(fill, stores.cache_url, 2)
            assert "8" == (await asyncio.to_thread(counts, settings, capsys))["all"]

    asyncio.run(kept_meanwhile())


def test_a_running_gateway_misses_after_a_purge(tmp_path: Path) -> None:
    """C9: `serve` goes on, on its embedded stores, while its answers are counted and one client's are forgotten."""
    with Served(tmp_path) as gateway:
        keys = {name: gateway.run("clients", "add", name, "--cache", "private").strip() for name in ("facts", "other")}

        def ask(name: str) -> str:
            body = {"contents": [{"parts": [{"text": "Say hello"}]}]}
            headers = {"x-goog-api-key": keys[name]}
            answer = httpx.post(gateway.url + GENERATE, json=body, headers=headers, trust_env=False)
            return "hit" if "hit" in answer.headers.get("cache-status", "") else str(answer.status_code)

        wait_until(lambda: ask("facts") == ask("other") == "hit", 20)
        assert gateway.run("cache", "stats").split()[-3:][:2] == ["all", "2"]
        assert "1 answer forgotten\n" == gateway.run("cache", "purge", "--client", "facts")
        assert ("200", "hit") == (ask("facts"), ask("other"))


def test_every_server_of_a_cluster_is_walked(capsys: pytest.CaptureFixture[str]) -> None:
    """A purge that forgot the answers of one server alone would be worse than none."""
    with cluster() as ports:
        settings = Settings(redis_url=f"redis+cluster://127.0.0.1:{ports[0]}")
        fill(str(settings.redis_url), 30)
        assert "120" == counts(settings, capsys)["all"]
        run(settings, "purge", "design")
        assert {"client:design-2": "30", "client:facts": "30", "shared": "30", "all": "90"} == counts(settings, capsys)


def test_an_unavailable_store_is_one_clear_line(tmp_path: Path) -> None:
    """The command fails, and says what to check."""
    settings = Settings(cache_redis_url=f"unix://{tmp_path}/nothing")
    for action in ("stats", "purge"):
        with pytest.raises(CommandError, match="GATEWAY_CACHE_REDIS_URL"):
            run(settings, action, None)


@pytest.mark.parametrize("name", ["*", "desi?n", "", "client:design", "x:*"])
def test_a_pattern_is_no_name(name: str) -> None:
    """C9: what is not a client's name is refused, since it could forget others' answers."""
    with pytest.raises(CommandError, match="no client's name") as refused:
        run(Settings(), "purge", name)
    assert 2 == refused.value.exit_status
