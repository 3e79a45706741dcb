"""Which store does a URL name, and with which options?

Every part and option is validated here, at the start: anything else is refused with one line that never holds a
password.  Options that a client library would know, such as timeouts, are the gateway's own to choose.
"""

import re
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import SplitResult, parse_qsl, unquote, urlencode, urlsplit

TCP, TLS, UNIX, CLUSTER = "redis", "rediss", "unix", "redis+cluster"
SCHEMES = tuple(f"{scheme}://" for scheme in (TCP, TLS, UNIX, CLUSTER))
FORM = (
    "must be scheme://[user:password@]host[:port][/number] or unix:///path, an IPv6 address in brackets, "
    "all that is special in it percent-encoded"
)
ESCAPED = re.compile(r"(?:[^%]|%[0-9a-fA-F]{2})*")
CONTROL = re.compile(r"[\x00-\x1f\x7f]")
WORD = re.compile(r"[!-~]{1,64}")
NUMBER = re.compile(r"[0-9]{1,6}")
YES, NO = frozenset({"1", "true", "yes", "on"}), frozenset({"0", "false", "no", "off"})
OURS = frozenset(
    "decode_responses encoding encoding_errors health_check_interval legacy_responses max_connections protocol "  # noqa: SIM905
    "retry_on_error retry_on_timeout socket_connect_timeout socket_keepalive socket_read_size socket_timeout "
    "timeout".split()
)


def _number(text: str) -> int:
    if not NUMBER.fullmatch(text):
        raise ValueError("must be the number of a database")
    return int(text)


def _word(text: str) -> str:
    if not WORD.fullmatch(text):
        raise ValueError("must be visible ASCII characters")
    return text


def _truth(text: str) -> bool:
    if text.lower() not in YES | NO:
        raise ValueError("must be true or false")
    return text.lower() in YES


def _proof(text: str) -> str:
    word = text.lower().removeprefix("cert_")
    if word not in {"none", "optional", "required"}:
        raise ValueError("must be required, optional or none")
    return word


def _any_family(text: str) -> None:
    if text != "0":  # which some providers have in the URLs that they hand out
        raise ValueError("must be 0: IPv4 and IPv6 are both tried")


OPTIONS: dict[str, Callable[[str], Any]] = {
    "db": _number, "username": str, "password": str, "client_name": _word, "family": _any_family,
}  # fmt: skip
TLS_OPTIONS: dict[str, Callable[[str], Any]] = {
    "ssl_ca_certs": str, "ssl_certfile": str, "ssl_keyfile": str, "ssl_password": str, "ssl_cert_reqs": _proof,
    "ssl_check_hostname": _truth,
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreUrl:
    """Where a store is; `options` are what its connections are made with, in redis-py's names."""

    scheme: str
    options: Mapping[str, Any] = field(repr=False)  # a password is among them

    @classmethod
    def parse(cls, url: str) -> Self:
        """Raises `ValueError` with one line that says what to do."""
        if not url.startswith(SCHEMES):
            raise ValueError(f"must begin with one of {', '.join(SCHEMES)}")
        if CONTROL.search(url) or not ESCAPED.fullmatch(url):
            raise ValueError("has a line end, a control character or a lone % in it: percent-encode it (% is %25)")
        try:
            parts = urlsplit(url)
            options = _place(parts) | _credentials(parts)
            words = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query), errors="strict")
        except ValueError:  # its text may hold a piece of the password
            raise ValueError(FORM) from None
        for name, text in words:
            _add(options, parts.scheme, name, text)
        if parts.scheme == CLUSTER and options.get("db"):
            raise ValueError("a cluster has no database but 0")
        _check_files(options)
        return cls(scheme=parts.scheme, options={name: value for name, value in options.items() if value is not None})


def member(url: str, host: str, port: int) -> str:
    """The URL of one server of a cluster, reached as the cluster is."""
    parts = urlsplit(url)
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    scheme = TLS if _truth(options.pop("ssl", "no")) else TCP
    user, at, _ = parts.netloc.rpartition("@")
    there = f"[{host}]" if ":" in host else host
    return f"{scheme}://{user}{at}{there}:{port}" + (f"?{urlencode(options)}" if options else "")


def _place(parts: SplitResult) -> dict[str, Any]:
    """Host, port and database, or the path of a socket.  Raises `ValueError`."""
    if "#" in parts.geturl() or "@" in parts.query:  # a password that is cut there is no option
        raise ValueError
    path = unquote(parts.path, errors="strict")
    if parts.scheme == UNIX:
        if parts.netloc.rpartition("@")[2] or not path.startswith("/") or "\0" in path:
            raise ValueError
        return {"path": path}
    host, database = unquote(parts.hostname or "", errors="strict"), re.fullmatch(r"(?:/([0-9]{1,6})?)?", path)
    host.encode("idna")
    if not host or re.search(r"[\s,@/\\]", host) or parts.port == 0 or database is None:
        raise ValueError
    return {"host": host, "port": parts.port or 6379} | ({"db": int(database[1])} if database[1] else {})


def _credentials(parts: SplitResult) -> dict[str, str]:
    given = {"username": parts.username, "password": parts.password}
    return {name: unquote(text, errors="strict") for name, text in given.items() if text}


def _add(options: dict[str, Any], scheme: str, name: str, text: str) -> None:
    """Raises `ValueError` for an option that cannot work; it names the option, never its value."""
    if name == "ssl" and scheme == CLUSTER:
        options["ssl"] = _truth(text)
        return
    if name in OURS:
        raise ValueError(f"{name} is the gateway's own to choose: leave it out")
    if name in TLS_OPTIONS and scheme != TLS and not (scheme == CLUSTER and options.get("ssl")):
        raise ValueError(f"{name} needs TLS: begin with {TLS}://, or with ?ssl=true where it is a cluster")
    if (read := (OPTIONS | TLS_OPTIONS).get(name)) is None:
        known = ", ".join((*OPTIONS, *TLS_OPTIONS))
        raise ValueError(f"has an option that is not known: only {known} are")
    if name in options:
        raise ValueError(f"{name} is given twice")
    try:
        options[name] = read(text)
    except ValueError as error:
        raise ValueError(f"{name} {error}") from None


def _check_files(options: Mapping[str, Any]) -> None:
    """See that certificates and keys can be read, as they will be when the store is reached."""
    context, certificate = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), options.get("ssl_certfile")
    try:
        if authority := options.get("ssl_ca_certs"):
            context.load_verify_locations(authority)
    except (OSError, ValueError):  # ssl's errors are OSErrors
        raise ValueError("ssl_ca_certs holds no certificate in PEM form that can be read") from None
    if (options.get("ssl_keyfile") or options.get("ssl_password")) and not certificate:
        raise ValueError("ssl_keyfile and ssl_password need ssl_certfile")
    try:
        if certificate:  # with an empty password it fails where it would ask the terminal
            context.load_cert_chain(certificate, options.get("ssl_keyfile"), options.get("ssl_password") or "")
    except (OSError, ValueError):
        raise ValueError("ssl_certfile and ssl_keyfile are no pair in PEM form that can be read") from None
