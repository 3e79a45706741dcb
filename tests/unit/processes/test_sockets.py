"""Is a listener where its operator put it, for callers of both families, and does its URL lead there?"""

import contextlib
import socket
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from gateway.processes.sockets import listen, url_of
from tests.support.processes import Serve

EVERYWHERE = ("::", "[::]", "::0", "0:0:0:0:0:0:0:0", "0::")


def reached(host: str, port: int) -> bool:
    """Whether somebody accepts there."""
    with contextlib.suppress(OSError), socket.create_connection((host, port), timeout=2):
        return True
    return False


@pytest.mark.parametrize("host", EVERYWHERE)
def test_any_ipv6_address_takes_ipv4_too(host: str) -> None:
    """X10: `::`, however it is spelled, is reached by both families, and its URL by whoever pastes it."""
    with listen(host, 0) as listener:
        port = listener.getsockname()[1]
        assert [True, True] == [reached("::1", port), reached("127.0.0.1", port)]
        assert f"http://127.0.0.1:{port}" == url_of(listener)


@pytest.mark.parametrize(
    ("host", "shown", "answers"),
    [
        ("127.0.0.1", "127.0.0.1", ["127.0.0.1"]),
        ("0.0.0.0", "127.0.0.1", ["127.0.0.1"]),
        ("localhost", "127.0.0.1", ["127.0.0.1"]),
        ("::1", "[::1]", ["::1"]),
        ("[::1]", "[::1]", ["::1"]),
        ("::ffff:127.0.0.1", "[::ffff:127.0.0.1]", ["127.0.0.1"]),
    ],
)
def test_other_addresses_take_what_they_name(host: str, shown: str, answers: list[str]) -> None:
    """One address is one address: nothing else is opened, and the URL leads to it."""
    with listen(host, 0) as listener:
        port = listener.getsockname()[1]
        assert answers == [one for one in ("127.0.0.1", "::1") if reached(one, port)]
        assert f"http://{shown}:{port}" == url_of(listener)
        assert reached(str(urlsplit(url_of(listener)).hostname), port)


@pytest.mark.parametrize("host", ["no.such.name.invalid", "1.2.3.4.5", "a" * 64 + ".b", "192.0.2.7", "fe80::1%nowhere"])
def test_an_address_that_is_not_ours_is_one_line(host: str) -> None:
    """X3: where nobody can listen, the text says where and why."""
    with pytest.raises(OSError, match=r"^cannot listen on .* port 0: [^\n]+$"):
        listen(host, 0)


def test_a_port_is_taken_in_either_family() -> None:
    """X3: `::` is refused where somebody has the port for IPv4 alone, instead of sharing it out by family."""
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError, match="Address already in use"):
        listen("::", taken.getsockname()[1])


def test_callers_and_operators_reach_both_ports(tmp_path: Path) -> None:
    """X10: GATEWAY_HOST and GATEWAY_METRICS_HOST mean the same by `::`, and the printed URLs work."""
    with Serve(tmp_path, GATEWAY_HOST="::", GATEWAY_METRICS_HOST="::") as gateway:
        ready = gateway.event("ready")
        for url, path in ((ready["url"], "/pid"), (ready["metrics"], "")):
            port = urlsplit(url).port
            for host in ("127.0.0.1", "[::1]"):
                where = f"http://{host}:{port}{urlsplit(url).path}{path}"
                assert 200 == httpx.get(where, trust_env=False).status_code
            assert 200 == httpx.get(url + path, trust_env=False).status_code
