"""Who may read the operators' port?  Whoever asks by a name that no stranger can give to its address."""

from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from gateway.config.settings import SettingsError, load
from gateway.processes.operators import host_allowed
from tests.support.processes import Serve

NAMES = frozenset({"metrics.example.org", "gw.team.internal"})
ASKED = {
    "127.0.0.1:9464": True, "127.0.0.1": True, "10.94.64.2:9464": True, "[::1]:9464": True, "[::1]": True,
    "[2001:db8::7]:9464": True, "[::ffff:127.0.0.1]": True, "[fe80::1%25eth0]:9464": True, "127.0.0.1.:9464": True,
    "gateway:9464": True, "gateway": True, "localhost": True, "LOCALHOST:80": True, "localhost.:9464": True, "my-pc": True,
    "metrics.example.org": True, "metrics.example.org:9464": True, "METRICS.Example.Org": True, "gw.team.internal.": True,
    "evil.example.org": False, "evil.example.org:9464": False, "metrics.example.org.evil.net": False, "a.b": False,
    "xmetrics.example.org": False, "example.org": False, "evil.example.org.": False, "127.0.0.1.evil.net": False,
    "0x7f.1": False, "127.1": False, "0177.0.0.1": False, "127.0.0.1.nip.io": False, "localhost.evil.net:9464": False,
    "": False, ".": False, ":9464": False, "gateway.ns.svc": False, "300.1.1.1": False,
}  # fmt: skip


@pytest.mark.parametrize("host", ASKED)
def test_a_name_that_leads_anywhere_may_not_ask(host: str) -> None:
    """P12: an IP literal, a name without a dot, or a name that the operator gave; whatever its case and its port."""
    assert ASKED[host] == host_allowed(host, NAMES)


@pytest.mark.parametrize(
    ("value", "names"),
    [
        ("Metrics.Example.org", "metrics.example.org"),
        ("a.b, c.d. ,\tE.F,", "a.b,c.d,e.f"),
        ("xn--bro-hoa.example", "xn--bro-hoa.example"),
        (",", None),
        (None, None),
    ],
)
def test_names_are_read_as_they_are_written(value: str | None, names: str | None) -> None:
    """The setting is a list with commas, in any case."""
    assert names == load(operator_hosts=value).operator_hosts


@pytest.mark.parametrize("value", ["https://a.b", "a.b:9464", "*.a.b", "a b.c", "b\u00fcro.example", "a.b;c.d", "a..b"])
def test_what_is_no_name_is_refused(value: str) -> None:
    """X3: a name that could never match is a mistake, and said."""
    with pytest.raises(SettingsError, match=r"GATEWAY_OPERATOR_HOSTS: .* is no host's name"):
        load(operator_hosts=value)


def test_the_port_itself_refuses(tmp_path: Path) -> None:
    """P12: on every path and with every method a foreign name gets 403 in our shape, and no number."""
    with Serve(tmp_path, GATEWAY_OPERATOR_HOSTS="metrics.example.org") as gateway:
        url = gateway.event("ready")["metrics"]
        for method, path in (("GET", "/metrics"), ("HEAD", "/metrics"), ("POST", "/metrics"), ("GET", "/")):
            where = url.replace("/metrics", path)
            answer = httpx.request(method, where, headers={"host": "evil.example.org"}, trust_env=False)
            assert 403 == answer.status_code
            assert b"gateway_" not in answer.content
            if method != "HEAD":
                error = answer.json()["error"]
                assert ("PERMISSION_DENIED", "FORBIDDEN_HOST") == (error["status"], error["details"][0]["reason"])
                assert "GATEWAY_OPERATOR_HOSTS" in error["message"]
        for host in ("metrics.example.org", "gateway:9464", urlsplit(url).netloc):
            assert 200 == httpx.get(url, headers={"host": host}, trust_env=False).status_code
