"""Who may call, and how much?  The clients file, and the form of a client key.

A key is `thg_`, 32 random characters and 6 characters of checksum, so that a mistyped one is refused without a
lookup.  Only SHA-256 hashes of keys are ever stored: a key has 190 bits, so no slow hash is needed.
"""

import datetime as dt
import hashlib
import re
import secrets
import string
import tomllib
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model, model_validator

from gateway.config.watched_file import BOM, decoded
from gateway.limit_table import AMOUNTS, LIMITS

PREFIX = "thg_"
ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase
RANDOM_CHARS, CHECK_CHARS = 32, 6
NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
RESERVED_NAMES = frozenset({"unknown", "defaults", "shared"})

M = TypeVar("M", bound=BaseModel)
Name = Annotated[str, Field(pattern=rf"^{NAME.pattern}$")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Glob = Annotated[str, Field(pattern=r"^[A-Za-z0-9*?\[\]!._-]{1,128}$")]
Globs = Annotated[tuple[Glob, ...], Field(min_length=1, strict=False)]  # TOML has lists, not tuples
KeyHashes = Annotated[tuple[Sha256, ...], Field(min_length=1, max_length=2, strict=False)]
MOST = 10**12  # units of a limit: well within what Lua's numbers hold exactly


def new_key() -> str:
    """Make a client key from the system's randomness."""
    body = "".join(secrets.choice(ALPHABET) for _ in range(RANDOM_CHARS))
    return PREFIX + body + _checksum(body)


def well_formed(key: str) -> bool:
    """Whether this can be a key of ours: prefix, length, alphabet and checksum."""
    body, check = key[len(PREFIX) : -CHECK_CHARS], key[-CHECK_CHARS:]
    plain = len(body) == RANDOM_CHARS and body.isascii() and body.isalnum()
    return plain and key.startswith(PREFIX) and check == _checksum(body)


def hash_key(key: str) -> str:
    """SHA-256 in hex, as the clients file stores it."""
    return hashlib.sha256(key.encode()).hexdigest()


def today_utc() -> dt.date:
    """The day against which `expires` is checked."""
    return dt.datetime.now(dt.UTC).date()


def _checksum(body: str) -> str:
    number, digits = zlib.crc32(body.encode()), ""
    for _ in range(CHECK_CHARS):
        number, digit = divmod(number, len(ALPHABET))
        digits = ALPHABET[digit] + digits
    return digits


if TYPE_CHECKING:
    Limited = BaseModel
else:  # a field for each limit of the table, and for its burst
    Limited = create_model(
        "Limited",
        **{
            one.name: (Annotated[int if one.scale == 1 else float, Field(gt=0, le=MOST / one.scale)] | None, None)
            for one in AMOUNTS
        },
    )


class Terms(Limited):
    """How much a client may: what `[defaults]` and `[clients.NAME]` have in common.  An absent limit is none."""

    # strict: TOML has types, so that `concurrent = true` or a quoted number is a typing mistake
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, hide_input_in_errors=True)

    models: Globs = ("*",)
    cache: Literal["off", "private", "shared"] = "off"
    cache_ttl_seconds: Annotated[int, Field(gt=0, le=MOST)] = 3600

    def amount(self, name: str) -> float | None:
        """What is said of a limit or its burst, which is None where there is none."""
        amount: float | None = getattr(self, name)
        return amount


class Client(Terms):
    """One caller, as written in the clients file."""

    name: Name
    key_sha256: KeyHashes  # two during a rotation, the older one first
    expires: dt.date | None = None  # the last day, UTC
    disabled: bool = False

    @model_validator(mode="after")
    def not_reserved(self) -> Self:
        """Refuse names that mean something else in metrics and cache scopes."""
        if self.name in RESERVED_NAMES:
            raise ValueError(f"the name {self.name!r} is reserved")
        return self

    @model_validator(mode="after")
    def burst_of_something(self) -> Self:
        """Refuse a burst that would limit nothing."""
        for limit in LIMITS:
            if limit.burst and self.amount(limit.burst.name) is not None and self.amount(limit.name) is None:
                raise ValueError(f"{limit.burst.name} needs {limit.name}")
        return self

    def may_use(self, model: str) -> bool:
        return any(fnmatchcase(model, pattern) for pattern in self.models)

    def active(self, today: dt.date) -> bool:
        return today <= (self.expires or dt.date.max) and not self.disabled


@dataclass(frozen=True, slots=True, kw_only=True)
class Clients:
    """All callers, by the hash of each of their keys."""

    by_name: Mapping[str, Client] = field(default_factory=dict)
    by_hash: Mapping[str, Client] = field(default_factory=dict)
    literal_models: frozenset[str] = frozenset()  # models named without a wildcard

    def __iter__(self) -> Iterator[Client]:
        return iter(self.by_name.values())

    @classmethod
    def parse(cls, content: bytes) -> Self:
        """Read a clients file.  Raises `ValueError` with one line that says where and what, and holds no key."""
        document = read_toml(content)
        if strangers := document.keys() - {"defaults", "clients"}:
            raise ValueError(f"unknown table: {', '.join(map(repr, sorted(strangers)))}")
        defaults, tables = _table(document, "defaults"), _table(document, "clients")
        _validated(Terms, "defaults", defaults)
        by_name = {name: _client(name, defaults, _table(tables, name)) for name in tables}
        literal = (model for client in by_name.values() for model in client.models if not set(model) & set("*?["))
        return cls(by_name=by_name, by_hash=_by_hash(by_name.values()), literal_models=frozenset(literal))


def read_toml(content: bytes) -> dict[str, Any]:
    """Decode TOML that is not empty.  Raises `ValueError` and nothing else."""
    text = ""
    try:
        text = decoded(content)
        document = tomllib.loads(text)
    except RecursionError:
        raise ValueError("not valid TOML: nested too deeply") from None
    except ValueError as error:
        marked = f" and {BOM!a} is a byte order mark, which only a file's first character may be" * (BOM in text)
        raise ValueError(f"not valid TOML: {error}{marked}") from None
    if not text.strip():
        raise ValueError("the file is empty")
    return document


def _client(name: str, defaults: Mapping[str, Any], table: Mapping[str, Any]) -> Client:
    if "name" in table:
        raise ValueError(f"clients.{name}.name: the table's name is the client's")
    return _validated(Client, f"clients.{name}", {**defaults, **table, "name": name})


def _by_hash(clients: Iterable[Client]) -> dict[str, Client]:
    owners: dict[str, Client] = {}
    for client in clients:
        for key_hash in client.key_sha256:
            if owners.setdefault(key_hash, client) is not client:
                raise ValueError(f"clients.{client.name}: its key is also that of {owners[key_hash].name}")
    return owners


def _table(parent: Mapping[str, Any], name: str) -> dict[str, Any]:
    table = parent.get(name, {})
    if not isinstance(table, dict):
        raise ValueError(f"{name!r} must be a table")  # noqa: TRY004  the caller handles one kind of error
    return table


def _validated(model: type[M], where: str, table: Mapping[str, Any]) -> M:
    try:
        return model.model_validate(table)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        path = ".".join([where, *map(str, first["loc"])])
        if not path.isprintable():  # a quoted TOML name may hold line ends
            path = repr(path)
        raise ValueError(f"{path}: {first['msg'].removeprefix('Value error, ')}") from None
