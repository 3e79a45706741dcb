"""What can be set by the environment?  Each field is one `GATEWAY_` variable; who may call is in clients.toml.

Flags of the command line override the environment, and an empty variable counts as unset.  No `.env` file is read.
"""

import os
import re
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, Self, TypeVar
from urllib.parse import urlsplit

from pydantic import Field, FilePath, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from gateway.config.clients import Clients
from gateway.config.store_url import StoreUrl
from gateway.config.watched_file import Fixed, Watched, decoded

PREFIX = "GATEWAY_"
ORIGIN = re.compile(r"https?://(?:\[[0-9a-f:.]+\]|[a-z0-9][a-z0-9._-]*)(?::([0-9]{1,5}))?", re.IGNORECASE)
HOST_NAME = re.compile(r"[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*")  # as it is sent, other alphabets as xn--

T = TypeVar("T")


class SettingsError(ValueError):
    """Settings that cannot be used; the text is one line that says what to do, and never holds a secret."""


class Settings(BaseSettings):
    """All settings."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_ignore_empty=True,
        env_file=None,
        frozen=True,
        allow_inf_nan=False,
        hide_input_in_errors=True,
    )

    upstream_url: str = Field(
        "https://api.tokenhot.ai", description="Where calls go; nothing a caller sends can change it."
    )
    upstream_key: SecretStr | None = Field(None, description="The one upstream key, sent as `Authorization: Bearer`.")
    upstream_key_file: Path | None = Field(
        None, description="The same from a file, re-read when it changes; for container secrets."
    )
    clients_file: Path = Field(Path("clients.toml"), description="Who may call, and how much.")
    redis_url: str | None = Field(
        None,
        description="State: limits, leases, usage (`redis://`, `rediss://`, `unix://`, `redis+cluster://`); "
        "unset = two embedded servers, state and cache.",
        repr=False,  # these URLs may hold a password
    )
    cache_redis_url: str | None = Field(
        None, description="Cached answers; unset = the state's, where that is set.", repr=False
    )
    data_dir: Path = Field(Path(".gateway"), description="Where the embedded store keeps its files.")
    host: str = Field("127.0.0.1", min_length=1, description="The callers' listener: address.")
    port: int = Field(8080, ge=0, le=65535, description="The callers' listener: port; 0 = any free one.")
    workers: int = Field(1, ge=1, le=256, description="The callers' listener: worker processes.")
    metrics_host: str = Field("127.0.0.1", description="The operators' listener (`/metrics` only): address.")
    metrics_port: int = Field(
        9464, ge=0, le=65535, description="The operators' listener (`/metrics` only): port; 0 = any free one."
    )
    operator_hosts: str | None = Field(
        None,
        description="Further names, with commas, under which the operators' port may be asked; without them an IP "
        "literal or a name without a dot, else 403.",
    )
    connect_timeout_seconds: float = Field(5, gt=0, description="Connecting to the upstream.")
    call_timeout_seconds: float = Field(
        600, gt=0, description="A unary call until its answer is whole, a stream until its first event."
    )
    stream_timeout_seconds: float = Field(3600, gt=0, description="A stream from its first event to its last.")
    idle_timeout_seconds: float = Field(120, gt=0, description="Silence within a stream after its head.")
    upstream_proxy: str | None = Field(
        None, description="A forward proxy; `HTTP(S)_PROXY` of the environment is ignored.", repr=False
    )
    upstream_ca_file: FilePath | None = Field(None, description="A private certificate authority, PEM.")
    upstream_keepalive: bool = Field(True, description="`false`: one upstream connection per call.")
    max_body_bytes: int = Field(33554432, gt=0, description="One request body; 413 beyond.")
    max_buffered_bytes: int = Field(
        536870912, gt=0, description="All bodies held at once in one worker; new requests beyond get 503."
    )
    max_answer_bytes: int = Field(134217728, gt=0, description="One answer; 502 beyond.")
    replicas: int = Field(
        1, ge=1, description="How many gateways share the limits; matters when the state store is lost."
    )
    state_lost: Literal["local", "closed"] = Field(
        "local", description="Limiter when the state store is unavailable: `local` (bounded share) or `closed` (503)."
    )
    drain_seconds: float = Field(300, ge=0, description="How long SIGTERM waits for calls in flight.")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="JSON lines on stdout.")

    @field_validator("upstream_url")
    @classmethod
    def plain_origin(cls, url: str) -> str:
        """Take scheme, host and port only: the path is ours and a password has no place here."""
        origin = ORIGIN.fullmatch(url.removesuffix("/"))
        if origin is None or not 0 < int(origin[1] or 443) <= 65535:
            raise ValueError("must be http(s)://host[:port], without a path")
        return origin[0].lower()

    @field_validator("operator_hosts")
    @classmethod
    def plain_names(cls, hosts: str | None) -> str | None:
        """Normalize names, and refuse what is no host name: it would never match."""
        names = [name.strip().lower().removesuffix(".") for name in (hosts or "").split(",")]
        if wrong := [name for name in names if name and not HOST_NAME.fullmatch(name)]:
            raise ValueError(f"{wrong[0]!r} is no host's name; give names with commas, without scheme, port or *")
        return ",".join(filter(None, names)) or None

    @field_validator("upstream_proxy")
    @classmethod
    def known_proxy(cls, url: str | None) -> str | None:
        """Refuse what is not an HTTP proxy."""
        if url is not None and (not url.startswith(("http://", "https://")) or not has_host(url)):
            raise ValueError("must be http(s)://[user:password@]host[:port]")
        return url

    @field_validator("upstream_ca_file")
    @classmethod
    def readable_authority(cls, path: Path | None) -> Path | None:
        """Refuse a file without a certificate here, where it is one clear line."""
        if path is None:
            return None
        try:
            if b"\xef\xbb\xbf-----BEGIN" in path.read_bytes():  # what follows such a mark is silently ignored
                raise ValueError("holds a byte order mark before a certificate; save it without")
            ssl.create_default_context(cafile=path)
        except OSError:  # ssl's errors too
            raise ValueError("holds no certificate in PEM form that can be read") from None
        return path

    @field_validator("redis_url", "cache_redis_url")
    @classmethod
    def known_store(cls, url: str | None) -> str | None:
        """Refuse what no store can be reached by."""
        if url is not None:
            StoreUrl.parse(url)
        return url

    @field_validator("upstream_key")
    @classmethod
    def usable_key(cls, key: SecretStr | None) -> SecretStr | None:
        return key and SecretStr(parse_key(key.get_secret_value().encode()))

    @field_validator("log_level", mode="before")
    @classmethod
    def any_case(cls, level: object) -> object:
        return level.lower() if isinstance(level, str) else level

    @model_validator(mode="after")
    def one_key_at_most(self) -> Self:
        """Refuse two sources for one secret."""
        if self.upstream_key is not None and self.upstream_key_file is not None:
            raise ValueError("set GATEWAY_UPSTREAM_KEY or GATEWAY_UPSTREAM_KEY_FILE, not both")
        return self

    @model_validator(mode="after")
    def no_strangers(self) -> Self:
        """Refuse `GATEWAY_` variables that no field reads: they are typing mistakes."""
        known = {PREFIX + name.upper() for name in type(self).model_fields}
        set_here = {name.upper() for name, value in os.environ.items() if name.upper().startswith(PREFIX) and value}
        if strangers := set_here - known:
            raise ValueError(f"{', '.join(sorted(strangers))}: no such setting")
        return self


def load(**flags: Any) -> Settings:
    """Read the environment; `flags` of the command line that are not None override it.

    Raises `SettingsError` with one clear line.
    """
    given = {name: value for name, value in flags.items() if value is not None}
    try:
        return Settings(**given)
    except ValidationError as error:
        problems = [
            ": ".join(
                [*(PREFIX + str(where).upper() for where in one["loc"]), one["msg"].removeprefix("Value error, ")]
            )
            for one in error.errors(include_url=False, include_input=False)
        ]
        raise SettingsError(f"{' and '.join(problems)}; see the settings table in the README") from None


def has_host(url: str) -> bool:
    """Whether a URL names a host, and a port that can be one."""
    try:
        parts = urlsplit(url)
        return bool(parts.hostname) and parts.port != 0 and not re.search(r"\s", parts.hostname or "")
    except ValueError:  # its text may hold a piece of the password
        return False


def parse_key(content: bytes) -> str:
    """Read an upstream key.  Raises `ValueError`, which never holds the key."""
    must = "the upstream key must be one line of visible ASCII characters"
    try:
        key = decoded(content).strip()
    except ValueError as error:
        raise ValueError(f"{must}, and {error}") from None
    if not 0 < len(key) <= 1024 or not key.isascii() or not key.isprintable() or " " in key:
        raise ValueError(must)
    return key


def check_startable(settings: Settings, *, sandbox: bool) -> None:
    """Read the files that serving needs.  Raises `SettingsError`."""
    watched_clients(settings)
    if not sandbox:
        watched_key(settings)
    elif "upstream_url" in settings.model_fields_set:
        raise SettingsError("--sandbox answers in place of GATEWAY_UPSTREAM_URL; leave one of the two out")


def watched_key(settings: Settings) -> Watched[str] | Fixed[str]:
    """Read the upstream key, as a value that is reloaded with its file.  Raises `SettingsError`."""
    if settings.upstream_key is not None:
        return Fixed(settings.upstream_key.get_secret_value())
    if settings.upstream_key_file is None:
        raise SettingsError("no upstream key; set GATEWAY_UPSTREAM_KEY or GATEWAY_UPSTREAM_KEY_FILE, or use --sandbox")
    return _watched(settings.upstream_key_file, parse_key, "put the upstream key there, or set GATEWAY_UPSTREAM_KEY")


def watched_clients(settings: Settings) -> Watched[Clients]:
    """Read the clients file, as a value that is reloaded with it.  Raises `SettingsError`."""
    return _watched(
        settings.clients_file, Clients.parse, "make it with `tokenhot-gateway clients add NAME`, or fix it by hand"
    )


def _watched(path: Path, parse: Callable[[bytes], T], hint: str) -> Watched[T]:
    try:
        return Watched(path, parse)
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}; {hint}") from None
    except ValueError as error:
        raise SettingsError(f"{path}: {error}; {hint}") from None
