"""How are clients added, listed, and given or refused keys?  By editing the clients file in place.

Comments, order and layout of the file stay as they are.  The new content is parsed before it
replaces the old one, so that a gateway never reads a file of ours that does not load.
"""

import sys
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import tomlkit
from tomlkit.exceptions import TOMLKitError
from tomlkit.items import AbstractTable

from gateway.commands import CommandError, WrongUseError, remark
from gateway.config import BOM, Client, Clients, Settings, decoded, hash_key, new_key, read_toml, replace, today_utc
from gateway.limit_table import AMOUNTS

KEEP_IT = "Keep the key: it is not stored, and not shown again."
UNUSUAL = "is laid out so that only a person can edit it; write [clients.NAME] tables with key_sha256 on one line"
HEADINGS = ("name", "keys", "models", "limits", "cache", "expires", "state")

Table = MutableMapping[str, Any]


def run(settings: Settings, action: str, name: str = "", terms: Mapping[str, Any] | None = None) -> int:
    """Do one of `add`, `list`, `rotate`, `revoke`.  `terms` are keys of the file for `add`.  Raises `CommandError`."""
    path = settings.clients_file
    try:
        output, note = _done(path, action, name, terms or {})
    except OSError as error:
        raise CommandError(f"{path}: {error.strerror}; check the path and its permissions") from None
    sys.stdout.write(output)
    remark(note)
    return 0


def header() -> str:
    """What a new clients file begins with: every key that it may have, as comments."""
    limits = "".join(f"# {f'{one.name} = {one.example:_}':<31} # {one.help}\n" for one in AMOUNTS)
    return f"""\
# Who may call, and how much; an absent limit is none.  `tokenhot-gateway clients add NAME` adds a client.
# A running gateway follows this file within a second; one that does not load leaves the last good one in force.
#
# [defaults]                      # what a client gets when it says nothing
# requests_per_minute = 60
#
# [clients.NAME]
# key_sha256 = ["..."]            # one, or two during a rotation; the key itself is never stored
# models = ["gemini-*"]           # globs; default ["*"]
{limits}\
# cache = "private"               # "off" (default) | "private" | "shared"
# cache_ttl_seconds = 3600
# expires = 2027-06-30            # the last day, UTC
# disabled = false
"""


def _done(path: Path, action: str, name: str, terms: Mapping[str, Any]) -> tuple[str, str]:
    """Do it, and return what goes to stdout, for programs, and what to stderr, for people."""
    match action:
        case "add":
            add(path, name, terms, show)
            return "", f"Added {name} to {path}.  {KEEP_IT}\n"
        case "rotate":
            rotate(path, name, show)
            state = _state(_parsed(path, path.read_bytes()).by_name[name])
            warning = "" if state == "active" else f"  But {name} is {state}: none of its keys opens anything."
            return "", f"The key before it stays valid until the next rotation.  {KEEP_IT}{warning}\n"
        case "revoke":
            revoke(path, name)
            return "", f"Revoked {name}: its keys open nothing while {path} says `disabled = true`.\n"
        case _:
            return listing(path), ""


def show(key: str) -> None:
    """Print a key.  Raises `CommandError` where it cannot be written."""
    try:
        sys.stdout.write(f"{key}\n")
        sys.stdout.flush()
    except OSError as error:
        raise CommandError(f"stdout: {error.strerror}; nobody has seen the key, so nothing was changed") from None


def add(path: Path, name: str, terms: Mapping[str, Any], print_key: Callable[[str], object] = str) -> str:
    """Append a client to the file, which is made if it is missing, and return its key.

    `print_key` receives the key before it is valid; if it raises, the file stays as it was.
    """
    key = new_key()

    def change(content: bytes | None) -> bytes:
        content = header().encode() if content is None else content
        if name in _parsed(path, content).by_name:
            raise CommandError(f"{name} is in {path} already; `clients rotate {name}` gives it a new key")
        table = tomlkit.table(is_super_table=True).append(name, {"key_sha256": [hash_key(key)], **terms})
        new = _keeping_line_ends(content, lambda text: f"{text.rstrip()}\n\n{tomlkit.dumps({'clients': table})}")
        try:
            read_toml(new)
        except ValueError:
            raise CommandError(f"{path} {UNUSUAL}") from None
        try:
            Clients.parse(new)
        except ValueError as error:  # the old content was good, so it is the terms
            raise WrongUseError(f"{error}; {path} stays as it was") from None
        return new

    replace(path, change, lambda: print_key(key))
    return key


def rotate(path: Path, name: str, print_key: Callable[[str], object] = str) -> str:
    """Give a client a new key and return it; the newest key before it stays valid.  `print_key` as in `add`."""
    key = new_key()

    def change(table: Table) -> None:
        hashes = table["key_sha256"]
        hashes.append(hash_key(key))
        if len(hashes) > 2:
            del hashes[0]

    _edit(path, name, change, lambda: print_key(key))
    return key


def revoke(path: Path, name: str) -> None:
    """Refuse a client's keys from now on; its limits and its name stay in the file."""
    _edit(path, name, lambda table: table.update(disabled=True))


def listing(path: Path) -> str:
    """All clients as a table, with the defaults applied.  Of a key it shows the beginning of its hash."""
    rows = [HEADINGS, *(_row(client) for client in _parsed(path, path.read_bytes()))]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "".join("  ".join(map(str.ljust, row, widths)).rstrip() + "\n" for row in rows)


def _row(client: Client) -> tuple[str, ...]:
    amounts = {one.listed: client.amount(one.name) for one in AMOUNTS}
    return (
        client.name,
        " ".join(key_hash[:8] for key_hash in client.key_sha256),
        " ".join(client.models),
        ", ".join(f"{amount} {unit}" for unit, amount in amounts.items() if amount) or "none",
        client.cache if client.cache == "off" else f"{client.cache}, {client.cache_ttl_seconds} s",
        str(client.expires or "never"),
        _state(client),
    )


def _state(client: Client) -> str:
    if client.disabled:
        return "disabled"
    return "active" if client.active(today_utc()) else "expired"


def _edit(path: Path, name: str, change: Callable[[Table], object], last: Callable[[], object] = str) -> None:
    """Change one client's table; everything else in the file stays as it is written."""

    def edited(content: bytes | None) -> bytes:
        if content is None:
            raise FileNotFoundError(2, "No such file")
        if name not in _parsed(path, content).by_name:
            raise CommandError(f"{name} is not in {path}; `clients list` shows who is")
        wanted = read_toml(content)
        change(wanted["clients"][name])
        try:
            new = _rewritten(content, name, change)
            Clients.parse(new)
            exact = read_toml(new) == wanted
        except (TOMLKitError, ValueError):
            exact = False
        if not exact:  # tomlkit may put what it appends behind a comment
            raise CommandError(f"{path} {UNUSUAL}")
        return new

    replace(path, edited, last)


def _rewritten(content: bytes, name: str, change: Callable[[Table], object]) -> bytes:
    def rewritten(text: str) -> str:
        document = tomlkit.parse(text)
        table = document["clients"][name]
        with _end_set_aside(table):
            change(table)
        return tomlkit.dumps(document)

    return _keeping_line_ends(content, rewritten)


def _keeping_line_ends(content: bytes, edit: Callable[[str], str]) -> bytes:
    """Edit the text of a file, and keep its byte order mark and its line ends, where they are all the same."""
    text = decoded(content)
    mark = BOM * content.startswith(BOM.encode())
    if not 0 < text.count("\n") == text.count("\r\n"):
        return f"{mark}{edit(text)}".encode()
    edited = edit(text.replace("\r\n", "\n"))
    return f"{mark}{edited}".replace("\n", "\r\n").encode()


@contextmanager
def _end_set_aside(table: object) -> Iterator[None]:
    """Keep the lines above the next table where they are: tomlkit counts them as the end of this one."""
    body = table.value.body if isinstance(table, AbstractTable) else []
    end = []
    while body and body[-1][0] is None:
        end.append(body.pop())
    yield
    body.extend(reversed(end))


def _parsed(path: Path, content: bytes) -> Clients:
    try:
        return Clients.parse(content)
    except ValueError as error:
        raise CommandError(f"{path}: {error}; fix it by hand first") from None
