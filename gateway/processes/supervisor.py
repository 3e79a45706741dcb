"""How does `serve` bring everything up, and in which order does it go down?

`_serve` reads in the order of the start; its contexts close in the opposite order: the workers leave first, the
embedded store last.  This parent serves no calls: it owns the listening sockets, the store, the chores that need one
process, and `/metrics`.
"""

import asyncio
import contextlib
import os
import secrets
import signal
import sys
from collections.abc import AsyncIterator, Coroutine, Sequence
from typing import Any

from pydantic import SecretStr

from gateway import __version__
from gateway.config import PREFIX, Settings
from gateway.processes import metrics_folder, operators, sweeper
from gateway.processes.process_pool import Children
from gateway.processes.sockets import listen, url_of
from gateway.processes.worker import allow_open_files, harden
from gateway.store import Embedded, StoreError
from gateway.telemetry import Gathered, Log, exception_fields, take_over

DRAIN_NOTICE_SECONDS = 5.0  # a load balancer needs as long to see `/readyz` turn
WORKER = (sys.executable, "-m", "gateway.processes.worker")
UPSTREAM_THREADS = {"TOKIO_WORKER_THREADS": "1"}  # of pyqwest's runtime: workers share the cores, threads would fight
SANDBOX = (sys.executable, "-c", """
import os, signal, sys, threading
from gateway.sandbox.app import run
listener, lifeline, ready = map(int, sys.argv[1:4])
threading.Thread(target=lambda: (os.read(lifeline, 1), os.kill(os.getpid(), signal.SIGTERM)), daemon=True).start()
os.write(ready, b"1")
run(os.environ["SANDBOX_KEY"], fd=listener)
""")  # fmt: skip


class StartError(Exception):
    """The gateway cannot start; the text is one line."""


def serve(
    settings: Settings,
    *,
    sandbox: bool,
    worker_argv: Sequence[str] = WORKER,
    notice_seconds: float = DRAIN_NOTICE_SECONDS,
) -> int:
    """Serve until told to stop, and return the exit status: 0 after a stop, 1 when it cannot start."""
    harden()
    log = Log(settings.log_level)
    take_over(log, settings.log_level)
    try:
        asyncio.run(_serve(settings, log, sandbox=sandbox, worker_argv=worker_argv, notice_seconds=notice_seconds))
    except (StartError, StoreError, OSError) as error:
        log.event("failed", level="error", problem=str(error))
        return 1
    else:
        log.event("stopped")
        return 0
    finally:
        log.close()


async def _serve(
    settings: Settings, log: Log, *, sandbox: bool, worker_argv: Sequence[str], notice_seconds: float
) -> None:
    signals = _hear_signals()
    log.event("starting", version=__version__, open_files=allow_open_files())
    async with contextlib.AsyncExitStack() as stack:
        listener = stack.enter_context(listen(settings.host, settings.port))
        metrics_listener = stack.enter_context(listen(settings.metrics_host, settings.metrics_port))
        folder = stack.enter_context(metrics_folder.folder())
        gathered = Gathered(folder)
        workers = Children(
            "worker", worker_argv, listener, notice_seconds=notice_seconds, report=log.event, forget=gathered.forget
        )
        await stack.enter_async_context(
            _doing(_obey(signals, workers, notice_seconds, settings.drain_seconds, log), log)
        )
        inherited: list[int] = []
        if embedded := settings.redis_url is None:
            stores = await stack.enter_async_context(Embedded(settings.data_dir))
            settings = _with_stores(settings, stores)
            inherited.append(stores.worker_lock)
            await stack.enter_async_context(_doing(stores.watch(log.event), log))
        await stack.enter_async_context(_doing(sweeper.sweep(settings, log), log))
        if sandbox:
            settings = await stack.enter_async_context(_sandbox(settings, log))
        await stack.enter_async_context(
            operators.serving(metrics_listener, gathered.exposition, settings.operator_hosts)
        )
        await stack.enter_async_context(workers)
        if await workers.start(settings.workers, _environment(settings), inherited):
            urls = {"url": url_of(listener), "metrics": f"{url_of(metrics_listener)}/metrics"}
            log.event("ready", **urls, workers=settings.workers, store="embedded" if embedded else "given")
        elif not workers.stopping.is_set():
            raise StartError("a worker did not come to serve; the lines before this one say why")
        await workers.stopping.wait()
        listener.close()  # the workers hold it open for as long as they accept
        await workers.ended()


def _hear_signals() -> asyncio.Queue[signal.Signals]:
    signals: asyncio.Queue[signal.Signals] = asyncio.Queue()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, signals.put_nowait, number)
    return signals


async def _obey(
    signals: asyncio.Queue[signal.Signals], workers: Children, notice_seconds: float, drain_seconds: float, log: Log
) -> None:
    """Stop on SIGTERM; on SIGINT too, without notice, and on the second one at once; on SIGHUP replace the workers."""
    seconds = {signal.SIGTERM: notice_seconds + drain_seconds, signal.SIGINT: drain_seconds}
    async with asyncio.TaskGroup() as replacing:
        while True:
            number = await signals.get()
            if number == signal.SIGHUP:
                log.event("replacing", signal=number.name)
                replacing.create_task(workers.replace())
            else:
                log.event("stopping", signal=number.name, within_seconds=seconds[number])
                workers.stop(number, seconds[number])
                if number == signal.SIGINT:
                    seconds[number] = 0.0


def _with_stores(settings: Settings, stores: Embedded) -> Settings:
    cache_url = settings.cache_redis_url or stores.cache_url
    return settings.model_copy(update={"redis_url": stores.state_url, "cache_redis_url": cache_url})


@contextlib.asynccontextmanager
async def _sandbox(settings: Settings, log: Log) -> AsyncIterator[Settings]:
    """Run the stand-in upstream, and give the settings that lead to it."""
    key = secrets.token_urlsafe(24)
    with listen("127.0.0.1", 0) as listener:
        async with Children(
            "sandbox", SANDBOX, listener, notice_seconds=0, report=log.event, forget=lambda _: None
        ) as children:
            if not await children.start(1, _bare_environment() | {"SANDBOX_KEY": key}):
                raise StartError("the sandbox did not start; the lines before this one say why")
            upstream = {"upstream_url": url_of(listener), "upstream_key": SecretStr(key), "upstream_key_file": None}
            yield settings.model_copy(update=upstream)
            children.stop(signal.SIGTERM, 0)
            await children.ended()


def _environment(settings: Settings) -> dict[str, str]:
    """Write the settings, as they are after flags and stores, in place of the variables we were started with."""
    values = {name: getattr(settings, name) for name in Settings.model_fields}
    ours = {
        PREFIX + name.upper(): value.get_secret_value() if isinstance(value, SecretStr) else str(value)
        for name, value in values.items()
        if value is not None
    }
    return UPSTREAM_THREADS | _bare_environment() | ours


def _bare_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.upper().startswith(PREFIX)}


@contextlib.asynccontextmanager
async def _doing(chore: Coroutine[Any, Any, None], log: Log) -> AsyncIterator[None]:
    """Do a chore without end while the context is open; one that fails is said and takes nothing else with it."""

    async def do() -> None:
        try:
            await chore
        except Exception as error:  # noqa: BLE001 - whatever it is, calls go on being served
            log.event("chore_failed", level="error", **exception_fields(error))

    task = asyncio.create_task(do())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        chore.close()  # cancelled before its first step it would complain that nobody awaited it
