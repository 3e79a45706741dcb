"""Which commands are there, and which module runs each?

Exit status: 0 done, 1 the thing asked for failed, 2 wrong use.  An error is one line on stderr: what is
wrong; what to do.  Modules are loaded when their command runs, so that `--help` is quick, and so that
prometheus_client is not loaded before its folder is set.
"""

import argparse
import datetime as dt
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any, NoReturn

from gateway import __version__
from gateway.commands import CommandError, remark
from gateway.limit_table import AMOUNTS

PROGRAM = "tokenhot-gateway"
TERMS = ("models", *(one.name for one in AMOUNTS), "cache", "cache_ttl_seconds", "expires", "disabled")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit status."""
    try:
        return _main(argv)
    except BrokenPipeError:  # `| head` has seen enough
        return 1
    except OSError as error:  # commands report their own errors; what is left is writing their output
        return _refused(f"{error.filename or 'stdout'}: {error.strerror}; see where it leads", 1)


def _main(argv: Sequence[str] | None) -> int:
    try:
        options = parser().parse_args(argv)
    except SystemExit:  # --help
        sys.stdout.flush()
        raise
    from gateway.config import SettingsError  # noqa: PLC0415  pydantic loads slowly, and --help has ended above

    try:
        status: int = options.run(options)
        sys.stdout.flush()
    except SettingsError as error:
        return _refused(error, 2)
    except CommandError as error:
        return _refused(error, error.exit_status)
    except KeyboardInterrupt:
        return 130
    return status


def parser() -> argparse.ArgumentParser:
    """Build the whole command line; `options.run(options)` does what was asked."""
    top = Parser(
        prog=PROGRAM,
        description="A local door in front of a paid Gemini-style upstream: keys, limits, a cache and metrics.",
        epilog="settings are GATEWAY_ variables of the environment, listed in the README; flags override them",
        allow_abbrev=False,
    )
    top.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_serve(commands)
    _add_sandbox(commands)
    _add_clients(commands)
    _command(commands, "check", _check, "check settings, clients file, store and upstream, one line each", ["check"])
    _add_usage(commands)
    _add_cache(commands)
    _add_tasks(commands)
    return top


class Parser(argparse.ArgumentParser):
    """A parser whose error is one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{PROGRAM}: {message}; see `{self.prog} --help`\n")


def _command(
    commands: Any, name: str, run: Callable[[argparse.Namespace], int | None] | None, what: str, examples: list[str]
) -> argparse.ArgumentParser:
    """Add one command; `run` is None where it has commands of its own."""
    command: argparse.ArgumentParser = commands.add_parser(
        name,
        help=what,
        description=f"{what[0].upper()}{what[1:]}.",
        epilog="\n".join(["examples:", *(f"  {PROGRAM} {example}" for example in examples)]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    command.set_defaults(run=run)
    return command


def _add_serve(commands: Any) -> None:
    examples = ["serve", "serve --host 0.0.0.0 --workers 4", "serve --sandbox"]
    serve = _command(commands, "serve", _serve, "run the gateway", examples)
    serve.add_argument("--host", help="address of the callers' listener; default: GATEWAY_HOST or 127.0.0.1")
    serve.add_argument(
        "--port", type=int, metavar="N", help="its port, 0 for any free one; default: GATEWAY_PORT or 8080"
    )
    serve.add_argument("--workers", type=int, metavar="N", help="worker processes; default: GATEWAY_WORKERS or 1")
    serve.add_argument(
        "--sandbox", action="store_true", help="let a stand-in answer, which costs nothing and needs no key"
    )


def _add_sandbox(commands: Any) -> None:
    examples = ["sandbox", "sandbox --port 9000 --faults"]
    sandbox = _command(commands, "sandbox", _sandbox, "run the stand-in upstream alone", examples)
    sandbox.add_argument("--host", default="127.0.0.1", help="default: %(default)s")
    sandbox.add_argument("--port", type=_port, default=8090, metavar="N", help="default: %(default)s")
    sandbox.add_argument("--key", default="sk-sandbox", help="the bearer key it takes; default: %(default)s")
    sandbox.add_argument("--faults", action="store_true", help="misbehave when the header x-sandbox-fault asks for it")


def _add_clients(commands: Any) -> None:
    examples = ["clients add design --requests-per-minute 120", "clients list", "clients revoke design"]
    clients = _command(commands, "clients", None, "edit the clients file: who may call, and how much", examples)
    actions = clients.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_clients_add(actions)
    _command(
        actions, "list", _clients, "show every client with its limits; never a key", ["clients list"]
    ).set_defaults(action="list", name="")
    for action, what in (
        ("rotate", "give a client a new key; the one before it stays valid until the next rotation"),
        ("revoke", "refuse a client's keys within a second (disabled = true)"),
    ):
        command = _command(actions, action, _clients, what, [f"clients {action} design"])
        command.add_argument("name", metavar="NAME", help="the client, as `clients list` shows it")
        command.set_defaults(action=action)


def _add_clients_add(actions: Any) -> None:
    examples = [
        "clients add design > design.key",
        "clients add nightly --models 'gemini-2.5-*' --tokens-per-day 20000000 --cache private --expires 2027-06-30",
    ]
    add = _command(actions, "add", _clients, "add a client and print its key, this once, on stdout", examples)
    add.set_defaults(action="add")
    add.add_argument("name", metavar="NAME", help="a-z, 0-9, - and _; up to 63")
    limits = add.add_argument_group("limits", "An absent one is that of [defaults], else none.")
    for one in AMOUNTS:
        kind = _amount if one.scale == 1 else float
        limits.add_argument(f"--{one.name.replace('_', '-')}", type=kind, metavar="N", help=one.help)
    add.add_argument("--models", nargs="+", metavar="GLOB", help="what it may use; default: everything")
    add.add_argument(
        "--cache", choices=["private", "shared", "off"], help="who may get its cached answers; default: off"
    )
    add.add_argument("--cache-ttl", type=_amount, metavar="SECONDS", dest="cache_ttl_seconds", help="default: 3600")
    add.add_argument("--expires", type=_date, metavar="DATE", help="its last day, UTC, as YYYY-MM-DD; default: never")
    add.add_argument("--disabled", action="store_true", default=None, help="refuse its key for now")


def _add_usage(commands: Any) -> None:
    examples = ["usage", "usage --since 7d --by model --format csv"]
    usage = _command(commands, "usage", _usage, "show what was used, and by whom", examples)
    usage.add_argument("--since", default="24h", metavar="TIME", help="how far back; default: %(default)s")
    usage.add_argument("--by", choices=["client", "model", "day"], default="client", help="default: %(default)s")
    usage.add_argument("--format", choices=["table", "csv", "json"], default="table", help="default: %(default)s")


def _add_cache(commands: Any) -> None:
    cache = _command(commands, "cache", None, "count cached answers, or delete them", ["cache stats", "cache purge"])
    actions = cache.add_subparsers(title="commands", metavar="COMMAND", required=True)
    stats = _command(actions, "stats", _cache, "count cached answers and their bytes, by scope", ["cache stats"])
    stats.set_defaults(action="stats", client=None)
    examples = ["cache purge", "cache purge --client design"]
    purge = _command(actions, "purge", _cache, "delete cached answers", examples)
    purge.add_argument("--client", metavar="NAME", help="only this client's own; default: all, shared ones too")
    purge.set_defaults(action="purge")


def _add_tasks(commands: Any) -> None:
    examples = ["tasks", "tasks --client design", "tasks adopt task_4711 --client design"]
    tasks = _command(commands, "tasks", _tasks, "list the tasks that make videos, or give one to a client", examples)
    tasks.set_defaults(action="list", task="", model="")
    tasks.add_argument("--client", metavar="NAME", help="only this client's; default: all")
    actions = tasks.add_subparsers(title="commands", metavar="COMMAND")
    adopt = _command(
        actions,
        "adopt",
        _tasks,
        "give a task to a client that has no owner, as one that was created elsewhere",
        ["tasks adopt task_4711 --client design"],
    )
    adopt.set_defaults(action="adopt")
    adopt.add_argument("task", metavar="ID", help="the id that the upstream gave it")
    adopt.add_argument("--client", metavar="NAME", required=True, help="who may ask for it from now on")
    adopt.add_argument("--model", default="", metavar="MODEL", help="what makes it, where that is known")


def _serve(options: argparse.Namespace) -> int:
    settings = import_module("gateway.config.settings")
    chosen = settings.load(host=options.host, port=options.port, workers=options.workers)
    settings.check_startable(chosen, sandbox=options.sandbox)
    return _run("gateway.processes.supervisor", "serve", chosen, sandbox=options.sandbox)


def _sandbox(options: argparse.Namespace) -> int:
    remark(f"The sandbox takes `authorization: Bearer {options.key}`.\n", sys.stdout)
    try:
        listener = import_module("gateway.processes.sockets").listen(options.host, options.port)
    except OSError as error:
        raise CommandError(str(error)) from None
    return _run("gateway.sandbox.app", "run", options.key, fd=listener.detach(), faults=options.faults)


def _clients(options: argparse.Namespace) -> int:
    given = {term: getattr(options, term, None) for term in TERMS}
    terms = {term: value for term, value in given.items() if value is not None}
    return _run("gateway.commands.clients", "run", _settings(), options.action, options.name, terms)


def _check(_: argparse.Namespace) -> int:
    return _run("gateway.commands.check", "run", _settings())


def _usage(options: argparse.Namespace) -> int:
    return _run("gateway.commands.usage", "run", _settings(), options.since, options.by, options.format)


def _cache(options: argparse.Namespace) -> int:
    return _run("gateway.commands.cache", "run", _settings(), options.action, options.client)


def _tasks(options: argparse.Namespace) -> int:
    chosen = options.action, options.client, options.task, options.model
    return _run("gateway.commands.tasks", "run", _settings(), *chosen)


def _settings() -> object:
    return import_module("gateway.config.settings").load()


def _run(module: str, function: str, *args: object, **options: object) -> int:
    """Load the module that does it, and do it."""
    return getattr(import_module(module), function)(*args, **options) or 0


def _amount(text: str) -> int:
    if not (text.isdecimal() and text.isascii() and int(text)):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def _port(text: str) -> int:
    if not (text.isdecimal() and text.isascii() and int(text) <= 65535):
        raise argparse.ArgumentTypeError(f"{text!r} is not a port, a number up to 65535")
    return int(text)


def _date(text: str) -> dt.date:
    try:
        return dt.date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a date like 2027-06-30") from None


def _refused(error: Exception | str, status: int) -> int:
    remark(f"{PROGRAM}: {error}\n")
    return status
