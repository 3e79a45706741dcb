"""Who is calling?  Authentication: the client whose key is in the request.

A key may be in `x-goog-api-key`, `x-api-key`, `Authorization: Bearer` or `?key=`.  Tools send two where their user has
a vendor's key in the environment too: the one of our form counts, if it is the only one.  A key that is not valid is
refused with the same message and after the same work, whether it is malformed, unknown, revoked or expired.
"""

import datetime as dt
import hmac
from collections.abc import Callable, Iterator
from typing import NamedTuple
from urllib.parse import unquote

from gateway.asgi import Request
from gateway.config import Client, Clients, hash_key, today_utc, well_formed
from gateway.errors import ConflictingKeys, KeyInvalid, KeyMissing

NOBODY = Client(name="nobody", key_sha256=("0" * 64,), disabled=True)  # for unknown keys: the same work


class Credentials(NamedTuple):
    """The hash of a request's key; the key itself is not stored."""

    key_hash: str  # SHA-256, as the clients file has it
    well_formed: bool

    @property
    def fingerprint(self) -> str:
        """The part that may be logged; empty where it is no key of ours, since it may be somebody's password."""
        return self.key_hash[:8] if self.well_formed else ""


class Auth:
    """Authenticates requests: one key in, one client out."""

    def __init__(self, clients: Callable[[], Clients], today: Callable[[], dt.date] = today_utc) -> None:
        """`clients` is read at every call, so that a revoked key is refused at once."""
        self._clients, self._today = clients, today
        self._accepted: set[str] = set()  # hashes of valid keys: checking again that they are well-formed would cost

    def credentials(self, request: Request) -> Credentials:
        """Find the one key of a request.  Raises `ConflictingKeys` or `KeyMissing`."""
        keys = {key for key in _keys(request) if key}
        if len(keys) > 1:
            keys = {key for key in keys if well_formed(key)}
            if len(keys) != 1:
                raise ConflictingKeys
        if not keys:
            raise KeyMissing
        key = keys.pop()
        key_hash = hash_key(key)
        return Credentials(key_hash, key_hash in self._accepted or well_formed(key))

    def identify(self, credentials: Credentials) -> Client:
        """Find the caller.  Raises `KeyInvalid`."""
        today = self._today()
        client = self._clients().by_hash.get(credentials.key_hash if credentials.well_formed else "", NOBODY)
        known = [hmac.compare_digest(credentials.key_hash, one) for one in client.key_sha256]
        if not client.active(today) or not any(known):
            raise KeyInvalid
        self._accepted.add(credentials.key_hash)
        return client


def _keys(request: Request) -> Iterator[str]:
    """Every key that the request holds, in any of the places; "" where one is empty."""
    yield from request.headers.all(b"x-goog-api-key")
    yield from request.headers.all(b"x-api-key")
    for credentials in request.headers.all(b"authorization"):
        scheme, _, key = credentials.partition(" ")
        if scheme.lower() == "bearer":
            yield key.strip()
    if b"key=" in request.query:
        for parameter in request.query.split(b"&"):
            if parameter.startswith(b"key="):
                yield unquote(parameter.removeprefix(b"key=")).strip()
