"""Who may call, and how much?  The clients file, and the form of a client key.

A key is `thg_`, 32 random characters and 6 characters of checksum, so that a mistyped one is refused without a
look-up.  Only SHA-256 hashes of keys are ever stored: a key has 190 bits, so no slow hash is needed.
"""

import datetime
import hashlib
import secrets
import string
import tomllib
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError, model_validator

PREFIX = "thg_"
ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase
RANDOM_CHARS, CHECK_CHARS = 32, 6
RESERVED_NAMES = frozenset({"unknown", "defaults", "shared"})

M = TypeVar("M", bound=BaseModel)
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]
Glob = Annotated[str, Field(pattern=r"^[A-Za-z0-9*?\[\]!._-]{1,128}$")]


def new_key() -> str:
    """Make a client key from the system's randomness."""
    body = "".join(secrets.choice(ALPHABET) for _ in range(RANDOM_CHARS))
    return PREFIX + body + _checksum(body)


def well_formed(key: str) -> bool:
    """Whether this can be a key of ours: prefix, length, alphabet and checksum."""
    body, check = key[len(PREFIX) : -CHECK_CHARS], key[-CHECK_CHARS:]
    return key.startswith(PREFIX) and len(body) == RANDOM_CHARS and body.isascii() and body.isalnum() and check == _checksum(body)


def hash_key(key: str) -> str:
    """SHA-256 in hex, as the clients file stores it."""
    return hashlib.sha256(key.encode()).hexdigest()


def _checksum(body: str) -> str:
    number, digits = zlib.crc32(body.encode()), ""
    for _ in range(CHECK_CHARS):
        number, digit = divmod(number, len(ALPHABET))
        digits = ALPHABET[digit] + digits
    return digits


class Terms(BaseModel):
    """How much a client may: what `[defaults]` and `[clients.NAME]` have in common.  An absent limit is none."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    models: tuple[Glob, ...] = ("*",)
    requests_per_minute: PositiveInt | None = None
    burst: PositiveInt | None = None  # calls at once above the sustained rate; defaults to requests_per_minute
    tokens_per_minute: PositiveInt | None = None
    tokens_per_day: PositiveInt | None = None  # UTC day
    images_per_day: PositiveInt | None = None
    concurrent: PositiveInt | None = None
    cache: Literal["off", "private", "shared"] = "off"
    cache_ttl_seconds: PositiveInt = 3600


class Client(Terms):
    """One caller, as written in the clients file."""

    name: Name
    key_sha256: Annotated[tuple[Sha256, ...], Field(min_length=1, max_length=2)]  # two during a rotation
    expires: datetime.date | None = None  # the last day, UTC
    disabled: bool = False

    @model_validator(mode="after")
    def not_reserved(self) -> Self:
        """Refuse names that mean something else in metrics and cache scopes."""
        if self.name in RESERVED_NAMES:
            raise ValueError(f"the name {self.name!r} is reserved")
        return self

    def may_use(self, model: str) -> bool:
        return any(fnmatchcase(model, pattern) for pattern in self.models)

    def active(self, today: datetime.date) -> bool:
        return not self.disabled and (self.expires is None or today <= self.expires)


@dataclass(frozen=True, slots=True)
class Clients:
    """All callers, by the hash of each of their keys."""

    by_name: Mapping[str, Client] = field(default_factory=dict)
    by_hash: Mapping[str, Client] = field(default_factory=dict)
    literal_models: frozenset[str] = frozenset()  # models named without a wildcard

    def __iter__(self) -> Iterator[Client]:
        return iter(self.by_name.values())

    @classmethod
    def parse(cls, content: bytes) -> Self:
        """Read a clients file.  Raises `ValueError` with one line that says where and what."""
        if not content.strip():
            raise ValueError("the clients file is empty")
        try:
            document = tomllib.loads(content.decode())
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ValueError(f"not valid TOML: {error}") from None
        if strangers := set(document) - {"defaults", "clients"}:
            raise ValueError(f"unknown table: {', '.join(sorted(strangers))}")
        defaults = _table(document, "defaults")
        _validated(Terms, "defaults", defaults)
        clients = {
            name: _validated(Client, f"clients.{name}", {**defaults, **_table(_table(document, "clients"), name), "name": name})
            for name in _table(document, "clients")
        }
        by_hash: dict[str, Client] = {}
        for client in clients.values():
            for key_hash in client.key_sha256:
                if by_hash.setdefault(key_hash, client) is not client:
                    raise ValueError(f"clients.{client.name}: its key is also that of {by_hash[key_hash].name}")
        literal = frozenset(model for client in clients.values() for model in client.models if not set(model) & set("*?["))
        return cls(clients, by_hash, literal)


def _table(parent: Mapping[str, Any], name: str) -> dict[str, Any]:
    table = parent.get(name, {})
    if not isinstance(table, dict):
        raise ValueError(f"{name} must be a table")  # noqa: TRY004  the caller handles one kind of error
    return table


def _validated(model: type[M], where: str, table: dict[str, Any]) -> M:
    try:
        return model.model_validate(table)
    except ValidationError as error:
        first = error.errors()[0]
        raise ValueError(f"{where}{''.join(f'.{part}' for part in first['loc'])}: {first['msg']}".replace("Value error, ", "")) from None
