"""Why is a store unavailable?  Every exception is mapped to a text of ours that says what to fix.

A library's message may hold an address, a path or a secret, and a server's reply what somebody configured, so neither
is logged as it is (redacted): only error codes and names of commands are kept.
"""

import re
import socket
import ssl
from collections.abc import Iterator

from redis.exceptions import (
    AuthenticationError,
    InvalidResponse,
    MaxConnectionsError,
    RedisClusterException,
    RedisError,
    ResponseError,
)

REFUSED = "REFUSED"  # begins the reply of a probe that may not do what calls need; the rest is the explanation
REPLIES = {
    "OOM": "it is full",
    "READONLY": "it is read only, as a replica is",
    "LOADING": "it is still reading its data",
    "BUSY": "a script keeps it busy",
    "MISCONF": "it cannot write to its disk",
    "NOREPLICAS": "it has too few replicas to take a write",
    "MASTERDOWN": "it has lost its master",
    "CLUSTERDOWN": "a part of the cluster is missing",
    "NOAUTH": "it wants a user name or password",
    "WRONGPASS": "it refuses our user name or password",
    "DENIED": "it takes connections from its own host only: it has no password",
}
FORBIDDEN = re.compile(r"run the '([A-Za-z|_-]+)' command")
OTHERS = {
    "DB index is out of range": "it has no database of that number",
    "max number of clients reached": "it takes no more connections",
    "can't run this command": "its user may not run what our scripts run",
}
CAUSES: tuple[tuple[type[BaseException] | tuple[type[BaseException], ...], str], ...] = (  # the first that fits
    (socket.gaierror, "its name does not resolve"),
    (ConnectionRefusedError, "nobody listens there"),
    (FileNotFoundError, "there is no such socket"),
    (PermissionError, "its socket may not be opened by this user"),
    (ssl.SSLError, "it speaks no TLS, or none that we accept"),
    (AuthenticationError, "it refuses our user name or password, or wants one"),
    (MaxConnectionsError, "it takes no more connections"),
    ((InvalidResponse, ValueError, IndexError), "what answers there is no store"),
    (TimeoutError, "no reply in time"),
    (ConnectionError, "it closes the connection"),
    (RedisClusterException, "no server of the cluster tells where keys live"),
    (RedisError, "it closes the connection"),
)


class Unplaced(RedisClusterException):
    """No server is known for a key; its text may be shown."""


def reason(error: BaseException) -> str:
    """Why the store cannot be used, by the chain of the error's causes."""
    errors = list(_chain(error))
    for one in errors:
        if isinstance(one, Unplaced):
            return str(one)
        if isinstance(one, RedisError) and (words := _reply(one)):
            return words
        if isinstance(one, ssl.SSLCertVerificationError):
            return f"its certificate is not accepted: {one.verify_message}"
    for kind, words in CAUSES:
        if any(isinstance(one, kind) for one in errors):
            return words
    known = next((one.strerror for one in errors if isinstance(one, OSError) and one.strerror), "")
    return known or f"an error that nobody expects ({type(error).__name__})"


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _reply(error: RedisError) -> str:
    """What a server's refusal means; nothing where it is none."""
    text = str(error)
    code = getattr(error, "status_code", None) or text.partition(" ")[0]
    if code == REFUSED:
        return text.partition(" ")[2]
    if command := FORBIDDEN.search(text):
        return f"its user may not run {command[1].upper()}"
    if code == "NOPERM":
        return "its user may not use keys that begin with gw:"
    if code in REPLIES:
        return f"{REPLIES[code]} ({code})"
    if other := next((words for part, words in OTHERS.items() if part in text), ""):
        return other
    return f"it refuses what calls need: {text[:100]}" if isinstance(error, ResponseError) else ""
