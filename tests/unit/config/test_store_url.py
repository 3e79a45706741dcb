"""What does a store's URL say?  Every form that people have either works or is refused at the start with one line."""

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gateway.config.settings import SettingsError, load
from gateway.config.store_url import StoreUrl, member
from gateway.store import Store
from tests.support.processes import bare_environment
from tests.support.valkey import Valkey
from tests.unit.upstream.test_tls import signed

SECRET = "hunter2"

FITS: list[tuple[str, dict[str, Any]]] = [
    ("redis://h", {"host": "h", "port": 6379}),
    ("redis://h/", {"host": "h", "port": 6379}),
    ("redis://h:6380/3", {"host": "h", "port": 6380, "db": 3}),
    ("redis://h?db=4", {"host": "h", "port": 6379, "db": 4}),
    ("redis://default:pw@redis.railway.internal:6379?family=0", {"host": "redis.railway.internal", "password": "pw"}),
    ("rediss://:pw@ec2-1.example.org:23480?ssl_cert_reqs=CERT_NONE", {"ssl_cert_reqs": "none", "password": "pw"}),
    ("rediss://default:pw@eu1-x.upstash.io:6379", {"username": "default", "port": 6379}),
    ("redis://user@h", {"username": "user"}),
    ("redis://:p%40s%2Fs%3F%23%25@h", {"password": "p@s/s?#%"}),
    ("redis://u:a@b@h", {"password": "a@b", "host": "h"}),
    ("redis://[::1]:7/1", {"host": "::1", "port": 7, "db": 1}),
    ("redis://my_redis:6379/0?client_name=gw", {"host": "my_redis", "client_name": "gw"}),
    ("unix:///run/a%20b%23%3F%25/s?db=2&password=pw", {"path": "/run/a b#?%/s", "db": 2, "password": "pw"}),
    ("unix://gw:pw@/run/s", {"path": "/run/s", "username": "gw", "password": "pw"}),
    ("redis+cluster://h:7000/0", {"host": "h", "port": 7000}),
    ("redis+cluster://h:7000?ssl=true&ssl_check_hostname=no", {"ssl": True, "ssl_check_hostname": False}),
]
REFUSED: list[tuple[str, str]] = [
    ("redis://h?family=4", "family must be 0"),
    ("redis://h?ssl_cert_reqs=none", "ssl_cert_reqs needs TLS: begin with rediss://"),
    ("redis+cluster://h?ssl_ca_certs=/x", "ssl_ca_certs needs TLS"),
    *[
        (f"redis://h?{name}={value}", f"{name} is the gateway's own to choose")
        for name, value in (
            ("socket_timeout", "abc"),
            ("socket_timeout", "5"),
            ("socket_connect_timeout", "1"),
            ("timeout", "3"),
            ("decode_responses", "True"),
            ("protocol", "3"),
            ("health_check_interval", "30"),
            ("max_connections", "10"),
            ("retry_on_timeout", "yes"),
        )
    ],
    ("redis://h?db=abc", "db must be the number of a database"),
    ("redis://h?db=-1", "db must be the number"),
    ("redis://h/1?db=2", "db is given twice"),
    ("redis://h?db=1&db=1", "db is given twice"),
    ("redis://u:p@h?password=q", "password is given twice"),
    ("redis://h?client_name=a%20b", "client_name must be visible"),
    ("redis://h?nonsense=1", "has an option that is not known"),
    ("redis://h?ssl=true", "has an option that is not known"),
    ("rediss://h?ssl_check_hostname=perhaps", "ssl_check_hostname must be true or false"),
    ("rediss://h?ssl_cert_reqs=sometimes", "ssl_cert_reqs must be required, optional or none"),
    ("rediss://h?ssl_ca_certs=/nonexistent", "ssl_ca_certs holds no certificate"),
    (f"rediss://h?ssl_ca_certs={__file__}", "ssl_ca_certs holds no certificate"),
    (f"rediss://h?ssl_certfile={__file__}", "ssl_certfile and ssl_keyfile are no pair"),
    ("rediss://h?ssl_keyfile=/x", "need ssl_certfile"),
    ("redis+cluster://h/1", "a cluster has no database but 0"),
    ("redis+cluster://h?db=2", "a cluster has no database but 0"),
    ("redis://h/x", "must be scheme://"),
    ("redis://h/0/1", "must be scheme://"),
    ("redis://h/-1", "must be scheme://"),
    ("redis://h?db", "must be scheme://"),
    ("redis://:6379", "must be scheme://"),
    (f"redis://:{SECRET}@", "must be scheme://"),
    (f"redis://:{SECRET}#x@h", "must be scheme://"),
    (f"redis://:{SECRET}/x@h", "must be scheme://"),
    (f"redis://h:1?{SECRET}=x@h", "must be scheme://"),
    ("redis://::1:6379", "must be scheme://"),
    ("redis://[::1", "must be scheme://"),
    ("redis://h:0", "must be scheme://"),
    ("redis://h:70000", "must be scheme://"),
    ("redis://a..b", "must be scheme://"),
    ("redis://" + "a" * 64, "must be scheme://"),
    ("redis://h1:1,h2:2", "must be scheme://"),
    ("redis+cluster://h1,h2", "must be scheme://"),
    ("redis://:%ff@h", "must be scheme://"),
    ("redis://:100%@h", "percent-encode"),
    ("redis://:%zz@h", "percent-encode"),
    ("redis://h\n", "percent-encode"),
    ("unix://", "must be scheme://"),
    ("unix://run/s", "must be scheme://"),
    ("unix:///run/%00", "must be scheme://"),
    ("redis-sentinel://h", "must begin with"),
    ("localhost:6379", "must begin with"),
]


@pytest.mark.parametrize(("url", "options"), FITS)
def test_what_fits_is_taken(url: str, options: dict[str, Any]) -> None:
    """Store URLs: forms of providers, credentials, sockets, IPv6 and clusters come to what a connection is made with."""
    assert options.items() <= StoreUrl.parse(url).options.items()


@pytest.mark.parametrize(("url", "why"), REFUSED)
def test_what_does_not_fit_is_refused_at_the_start(monkeypatch: pytest.MonkeyPatch, url: str, why: str) -> None:
    """Store URLs: one line names the setting and what to do, and holds no piece of a password."""
    for name in ("GATEWAY_REDIS_URL", "GATEWAY_CACHE_REDIS_URL"):
        monkeypatch.setenv(name, url)
        with pytest.raises(SettingsError) as refused:
            load()
        monkeypatch.delenv(name)
        said = str(refused.value)
        assert f"{name}: " in said
        assert why in said
        assert "\n" not in said
        assert SECRET not in said


@pytest.mark.parametrize("url", [url for url, _ in FITS])
async def test_every_url_that_fits_makes_a_store_that_answers(url: str) -> None:
    """Store URLs: whatever is there or not, a command that is asked there ends in time, and says why in words."""
    store = Store(url.replace("//h", "//127.0.0.1").replace(".internal", ".invalid"), timeout=0.2)
    ends = await asyncio.wait_for(asyncio.gather(store.command("GET", "k"), return_exceptions=True), 5)
    await store.aclose()
    assert ["StoreUnavailable"] == [type(end).__name__ for end in ends]
    assert "nobody expects" not in str(ends[0])


@pytest.mark.parametrize("command", ["check", "serve"])
@pytest.mark.parametrize("query", ["ssl_cert_reqs=none", "socket_timeout=abc", "db=abc", "family=inet"])
def test_commands_end_with_status_2(tmp_path: Path, command: str, query: str) -> None:
    """Interface: a bad value is refused at start with one clear line and exit status 2."""
    ended = subprocess.run(
        [sys.executable, "-m", "gateway", command],
        env=bare_environment() | {"GATEWAY_REDIS_URL": f"redis://:{SECRET}@127.0.0.1:1/0?{query}"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert 2 == ended.returncode
    said = [line for line in (ended.stderr + ended.stdout).splitlines() if line]
    assert 1 == len(said)
    assert query.partition("=")[0] in said[0]
    assert SECRET not in said[0]


async def test_options_that_work_do(state: Valkey) -> None:
    """Store URLs: a database of its own, and a name by which the server knows us."""
    store = Store(f"{state.url}?db=3&client_name=tokenhot", timeout=5)
    await store.command("SET", "k", "v")
    assert "name=tokenhot" in str(state.ask("CLIENT", "LIST"))
    await store.aclose()
    assert None is state.ask("GET", "k")


def test_servers_of_a_cluster_are_reached_as_it_is(tmp_path: Path) -> None:
    """Store URLs: whoever is asked by itself is asked with the same credentials, TLS and certificates."""
    ca = signed(None).save(tmp_path / "ca.pem")
    url = f"redis+cluster://u:p%40@h:7000/0?ssl=true&ssl_ca_certs={ca}"
    there = StoreUrl.parse(member(url, "::1", 7001))
    assert ("rediss", "::1", 7001, "u", "p@") == (
        there.scheme,
        *(there.options[name] for name in ("host", "port", "username", "password")),
    )
    assert str(ca) == there.options["ssl_ca_certs"]
    assert "redis" == StoreUrl.parse(member("redis+cluster://h", "10.0.0.1", 7001)).scheme
