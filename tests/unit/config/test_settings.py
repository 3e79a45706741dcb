"""What the environment decides, and how it is told that it cannot."""

import datetime as dt
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from pydantic import SecretStr

from gateway.config.clients import hash_key, new_key
from gateway.config.settings import (
    PREFIX,
    Settings,
    SettingsError,
    check_startable,
    load,
    parse_key,
    watched_clients,
    watched_key,
)
from gateway.config.watched_file import Fixed

SECRET = "sk-canary-0123456789"
PROMISED = {
    "upstream_url": "https://api.tokenhot.ai",
    "upstream_key": None,
    "upstream_key_file": None,
    "clients_file": Path("clients.toml"),
    "redis_url": None,
    "cache_redis_url": None,
    "data_dir": Path(".gateway"),
    "host": "127.0.0.1",
    "port": 8080,
    "workers": 1,
    "metrics_host": "127.0.0.1",
    "metrics_port": 9464,
    "operator_hosts": None,
    "connect_timeout_seconds": 5,
    "call_timeout_seconds": 600,
    "stream_timeout_seconds": 3600,
    "idle_timeout_seconds": 120,
    "upstream_proxy": None,
    "upstream_ca_file": None,
    "upstream_keepalive": True,
    "max_body_bytes": 33554432,
    "max_buffered_bytes": 536870912,
    "max_answer_bytes": 134217728,
    "replicas": 1,
    "state_lost": "local",
    "drain_seconds": 300,
    "log_level": "info",
}


@pytest.fixture(autouse=True)
def _elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The working folder is empty; the environment is bare already."""
    monkeypatch.chdir(tmp_path)


def complaint(**flags: object) -> str:
    """Why these settings are refused."""
    with pytest.raises(SettingsError) as refusal:
        load(**flags)
    assert str(refusal.value).isprintable()
    assert SECRET not in f"{refusal.value!r} {refusal.value.__cause__!r}"
    return str(refusal.value)


def test_the_defaults_are_the_promised_ones() -> None:
    """Every setting of the interface is there with its default, and no other is."""
    assert PROMISED == load().model_dump()
    assert all(field.description for field in Settings.model_fields.values())


def test_the_environment_decides_and_flags_beat_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable beats the default; a flag beats the variable; a flag not given does not."""
    monkeypatch.setenv("GATEWAY_PORT", "9000")
    monkeypatch.setenv("GATEWAY_HOST", "0.0.0.0")
    monkeypatch.setenv("GATEWAY_UPSTREAM_KEEPALIVE", "false")
    monkeypatch.setenv("GATEWAY_LOG_LEVEL", "WARNING")
    chosen = load(port=9001, host=None)

    assert (9001, "0.0.0.0", False, "warning") == (
        chosen.port,
        chosen.host,
        chosen.upstream_keepalive,
        chosen.log_level,
    )


def test_an_empty_variable_is_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compose files write `X=${X:-}`: that is the default, whatever its type, and no stranger either."""
    for name in [*PROMISED, "no_such_thing"]:
        monkeypatch.setenv(PREFIX + name.upper(), "")

    assert PROMISED == load().model_dump()
    assert set() == load().model_fields_set


def test_a_dot_env_file_is_not_read(tmp_path: Path) -> None:
    """A `.env` that lies about for something else decides nothing."""
    (tmp_path / ".env").write_text("GATEWAY_PORT=1\nPORT=2\n")

    assert 8080 == load().port


@pytest.mark.parametrize("name", ["GATEWAY_PROT", "GATEWAY_UPSTREAM_KEYS", "gateway_prot", "GATEWAY_"])
def test_a_stranger_is_refused(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """A mistyped variable is named, and its value, which may be a secret, is not."""
    monkeypatch.setenv(name, SECRET)

    assert f"{name.upper()}: no such setting; see the settings table in the README" == complaint()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("port", value) for value in ("x", "-1", "65536", "80.5", " ")],
        *[("workers", value) for value in ("0", "257")],
        *[("drain_seconds", value) for value in ("-1", "inf", "nan", "1e999")],
        *[("connect_timeout_seconds", value) for value in ("0", "-5")],
        *[("upstream_keepalive", value) for value in ("maybe", "2")],
        ("state_lost", "open"),
        ("log_level", "loud"),
        *[("redis_url", value) for value in ("localhost:6379", "http://x", f"x://:{SECRET}@h", "redis://h:port")],
        *[("redis_url", value) for value in ("unix://", "redis://", "redis+cluster://", "redis://h:99999")],
        ("cache_redis_url", f"redis://:{SECRET}/x@h:6379"),
        *[("upstream_proxy", value) for value in (f"{SECRET}@proxy:3128", "http://", "http://a b", "http://h:0")],
        *[("upstream_ca_file", value) for value in ("missing.pem", __file__)],
        *[("upstream_key", value) for value in ("two words", "line\nbreak", "k\u00e9y", "\x07", "x" * 1025, " ")],
        *[
            ("upstream_url", value)
            for value in (
                "api.tokenhot.ai",
                "ftp://h",
                "https://",
                "https://h/v1beta",
                "https://h//",
                "https://h?x",
                "https://h#x",
                f"https://user:{SECRET}@h",
                "https://h h",
                "https://h\n",
                "https://h:x",
                "https://[::1",
                "https://h:0",
                "https://h:65536",
                "https://h:",
                "https://-h",
                "https://h\\@other",
                "https://h\u00e4",
            )
        ],
    ],
)
def test_a_bad_value_is_refused(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    """S1: one line names the variable, and never repeats its value."""
    monkeypatch.setenv(PREFIX + name.upper(), value)

    assert complaint().startswith(f"{PREFIX}{name.upper()}: ")


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("https://api.tokenhot.ai/", "https://api.tokenhot.ai"),
        ("HTTPS://API.tokenhot.ai:8443", "https://api.tokenhot.ai:8443"),
        ("http://127.0.0.1:8090", "http://127.0.0.1:8090"),
        ("http://[::1]:8090/", "http://[::1]:8090"),
        ("http://stand_in", "http://stand_in"),
    ],
)
def test_the_upstream_is_an_origin(given: str, kept: str) -> None:
    """Scheme, host and port, in lower case and without the slash."""
    assert kept == load(upstream_url=given).upstream_url


def test_all_mistakes_are_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two bad variables are mended in one go."""
    monkeypatch.setenv("GATEWAY_PORT", "x")
    monkeypatch.setenv("GATEWAY_WORKERS", "0")

    assert 2 == complaint().count("GATEWAY_")


def test_secrets_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """S1: settings that are printed by accident show neither the key nor the password of a URL."""
    monkeypatch.setenv("GATEWAY_UPSTREAM_KEY", SECRET)
    for name in ("redis_url", "cache_redis_url"):
        monkeypatch.setenv(PREFIX + name.upper(), f"redis://:{SECRET}@127.0.0.1")
    monkeypatch.setenv("GATEWAY_UPSTREAM_PROXY", f"http://u:{SECRET}@127.0.0.1")
    chosen = load()

    assert SECRET not in f"{chosen!r} {chosen}"
    assert SecretStr(SECRET) == chosen.upstream_key


def test_the_key_comes_from_one_place(tmp_path: Path) -> None:
    """S6: a value is taken as it is, a file is followed; both at once or neither is refused."""
    file = tmp_path / "key"
    file.write_text(f"{SECRET}\n")

    assert Fixed(SECRET) == watched_key(load(upstream_key=f" {SECRET}\n"))
    assert SECRET == watched_key(load(upstream_key_file=file)).value
    assert complaint(upstream_key=SECRET, upstream_key_file=file).startswith("set GATEWAY_UPSTREAM_KEY or ")
    with pytest.raises(SettingsError, match="no upstream key; set GATEWAY_UPSTREAM_KEY"):
        watched_key(load())


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b" \n",
        b"a b",
        b"a\nb",
        b"\xff",
        b"k\xef\xbb\xbfey",
        b"a\0b",
        b"x" * 1025,
        b"key\0",
        "key".encode("utf-16"),
        "key".encode("utf-16-le"),
        b"\0\0",
    ],
)
def test_a_bad_key_file_is_refused(tmp_path: Path, content: bytes) -> None:
    """S1: a key is one line of visible characters; what stood in its place is not repeated."""
    file = tmp_path / "key"
    file.write_bytes(content)

    with pytest.raises(SettingsError, match="one line of visible ASCII") as refusal:
        watched_key(load(upstream_key_file=file))
    assert str(refusal.value).startswith(f"{file}: ")
    with pytest.raises(ValueError, match="one line of visible ASCII"):
        parse_key(content)


@pytest.mark.parametrize("content", ["\ufeffKEY", "\ufeffKEY\r\n", "\ufeff KEY\n\n", "KEY\r", "KEY\n"])
def test_a_key_file_may_come_from_any_editor(tmp_path: Path, content: str) -> None:
    """X11: a byte order mark and line ends of any kind around a key are not the key."""
    file = tmp_path / "key"
    file.write_text(content.replace("KEY", SECRET), newline="")

    assert SECRET == watched_key(load(upstream_key_file=file)).value
    assert SECRET == watched_key(load(upstream_key=content.replace("KEY", SECRET))).value


@pytest.mark.parametrize(
    ("before", "says"), [("\ufeff", "byte order mark"), ("# ours\n\ufeff", "byte order mark"), ("\r\n\r\n", "")]
)
def test_a_marked_authority_is_said(tmp_path: Path, before: str, says: str) -> None:
    """X11: a mark hides the certificate behind it, from some readers in silence: it is refused, with its name."""
    file, key = tmp_path / "ca.pem", ec.generate_private_key(ec.SECP256R1())
    name, day = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ca")]), dt.timedelta(days=1)
    now = dt.datetime.now(dt.UTC)
    built = x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + day).sign(key, hashes.SHA256())
    pem = built.public_bytes(serialization.Encoding.PEM).decode()
    file.write_text(before + pem.replace("\n", "\r\n"), encoding="utf-8", newline="")
    if says:
        assert says in complaint(upstream_ca_file=file)
    else:
        assert file == load(upstream_ca_file=file).upstream_ca_file


def test_what_serving_needs_is_read_before_it_starts(tmp_path: Path) -> None:
    """Without clients, with a broken file of them, without a key, or with two upstreams nothing starts."""
    with pytest.raises(
        SettingsError, match=r"clients\.toml: No such file .*; make it with `tokenhot-gateway clients add"
    ):
        check_startable(load(upstream_key=SECRET), sandbox=False)

    (tmp_path / "clients.toml").write_text("[clients")
    with pytest.raises(SettingsError, match=r"clients\.toml: not valid TOML: .*; "):
        check_startable(load(upstream_key=SECRET), sandbox=False)

    (tmp_path / "clients.toml").write_text(f'[clients.a]\nkey_sha256 = ["{hash_key(new_key())}"]\n')
    assert ["a"] == list(watched_clients(load()).value.by_name)
    check_startable(load(upstream_key=SECRET), sandbox=False)
    check_startable(load(), sandbox=True)
    with pytest.raises(SettingsError, match="no upstream key"):
        check_startable(load(), sandbox=False)
    with pytest.raises(SettingsError, match="missing: No such file"):
        check_startable(load(upstream_key_file=tmp_path / "missing"), sandbox=False)


@pytest.mark.parametrize("sandboxed", ["https://api.tokenhot.ai", "http://127.0.0.1:1"])
def test_the_sandbox_takes_no_upstream(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, sandboxed: str) -> None:
    """A sandbox beside an upstream URL, even the default one, is a contradiction; an empty URL is none."""
    (tmp_path / "clients.toml").write_text("[clients]\n")
    monkeypatch.setenv("GATEWAY_UPSTREAM_URL", "")
    check_startable(load(), sandbox=True)

    monkeypatch.setenv("GATEWAY_UPSTREAM_URL", sandboxed)
    with pytest.raises(SettingsError, match="--sandbox answers in place of GATEWAY_UPSTREAM_URL"):
        check_startable(load(), sandbox=True)
