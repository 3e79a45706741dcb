"""How does `serve` start everything, and in which order does it shut down?

`_serve` reads in the order of the start; its contexts close in the opposite order: the workers drain and exit
first, the embedded store stops last.  This parent serves no calls: it owns the listening sockets, the embedded store,
the background tasks that need one process, and `/metrics`; it handles SIGTERM, SIGINT and SIGHUP.
"""

import asyncio
import contextlib
import os
import secrets
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from functools import partial

from pydantic import SecretStr

from gateway import __version__
from gateway.background import Background
from gateway.config import PREFIX, Catalogue, Settings
from gateway.processes import metrics_folder, operators, sweeper
from gateway.processes.process_pool import ProcessPool
from gateway.processes.sockets import listen, url_of
from gateway.processes.worker import allow_open_files, harden
from gateway.store import GUARD_SECONDS, Embedded, StoreError
from gateway.telemetry import Gathered, Log, Metrics, reporter, take_over

DRAIN_NOTICE_SECONDS = 5.0  # a load balancer needs as long to see `/readyz` turn
WORKER = (sys.executable, "-m", "gateway.processes.worker")
UPSTREAM_THREADS = {"TOKIO_WORKER_THREADS": "1"}  # of pyqwest's runtime: workers share the cores, threads would fight
SANDBOX = (sys.executable, "-m", "gateway.sandbox")


class StartError(Exception):
    """The gateway cannot start; the text is one line."""


def serve(
    settings: Settings,
    *,
    sandbox: bool,
    worker_argv: Sequence[str] = WORKER,
    notice_seconds: float = DRAIN_NOTICE_SECONDS,
    guard_seconds: float = GUARD_SECONDS,
) -> int:
    """Serve until a signal stops it, and return the exit status: 0 after a stop, 1 when it cannot start.

    After SIGTERM calls are still accepted for `notice_seconds`; embedded stores outlive a killed gateway for
    `guard_seconds`.
    """
    harden()
    log = Log(settings.log_level)
    take_over(log, settings.log_level)
    serving = _serve(
        settings,
        log,
        sandbox=sandbox,
        worker_argv=worker_argv,
        notice_seconds=notice_seconds,
        guard_seconds=guard_seconds,
    )
    try:
        asyncio.run(serving)
    except (StartError, StoreError, OSError) as error:
        log.event("failed", level="error", problem=str(error))
        return 1
    else:
        log.event("stopped")
        return 0
    finally:
        log.close()


async def _serve(
    settings: Settings,
    log: Log,
    *,
    sandbox: bool,
    worker_argv: Sequence[str],
    notice_seconds: float,
    guard_seconds: float,
) -> None:
    signals = _subscribe_signals()
    log.event("starting", version=__version__, open_files=allow_open_files())
    async with contextlib.AsyncExitStack() as stack:
        listener = stack.enter_context(listen(settings.host, settings.port))
        metrics_listener = stack.enter_context(listen(settings.metrics_host, settings.metrics_port))
        folder = stack.enter_context(metrics_folder.folder())
        gathered, metrics = Gathered(folder), Metrics(None, Catalogue.load().models.__contains__)
        report = reporter(log, metrics)
        signal_tasks = await stack.enter_async_context(Background(report))
        workers = ProcessPool(
            "worker", worker_argv, listener,
            notice_seconds=notice_seconds, report=log.event, forget=gathered.forget, report_failure=report,
        )  # fmt: skip
        seconds = {signal.SIGTERM: notice_seconds + settings.drain_seconds, signal.SIGINT: settings.drain_seconds}
        signal_tasks.keep("signals", lambda: _handle_signals(signals, workers, seconds, signal_tasks, log))
        inherited: list[int] = []
        if embedded := settings.redis_url is None:
            stores = await stack.enter_async_context(Embedded(settings.data_dir, guard_seconds=guard_seconds))
            settings = _with_stores(settings, stores)
            inherited.append(stores.worker_lock)
            stores.watch(await stack.enter_async_context(Background(report)), log.event)
        sweep_tasks = await stack.enter_async_context(Background(report))
        sweep_tasks.keep("sweep", partial(sweeper.sweep, settings, log, metrics))
        if sandbox:
            settings = await stack.enter_async_context(_sandbox(settings, log))
        port_tasks = await stack.enter_async_context(Background(report))
        port_tasks.keep("operators' port", partial(
            operators.serve, metrics_listener, gathered.exposition, settings.operator_hosts
        ))  # fmt: skip
        await stack.enter_async_context(workers)
        if await workers.start(settings.workers, _environment(settings), inherited):
            urls = {"url": url_of(listener), "metrics": f"{url_of(metrics_listener)}/metrics"}
            log.event("ready", **urls, workers=settings.workers, store="embedded" if embedded else "given")
        elif not workers.stopping.is_set():
            raise StartError("a worker did not become ready; the lines before this one say why")
        await workers.stopping.wait()
        listener.close()  # the workers hold it open for as long as they accept
        await workers.ended()


def _subscribe_signals() -> asyncio.Queue[signal.Signals]:
    signals: asyncio.Queue[signal.Signals] = asyncio.Queue()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, signals.put_nowait, number)
    return signals


async def _handle_signals(
    signals: asyncio.Queue[signal.Signals],
    workers: ProcessPool,
    seconds: dict[signal.Signals, float],
    background: Background,
    log: Log,
) -> None:
    """Stop on SIGTERM; on SIGINT too, without notice, and on the second one at once; on SIGHUP replace the workers."""
    while True:
        number = await signals.get()
        if number == signal.SIGHUP:
            log.event("replacing", signal=number.name)
            background.start("replacement", workers.replace())
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
    """Run the stand-in upstream, and yield settings that point to it."""
    key = secrets.token_urlsafe(24)
    with listen("127.0.0.1", 0) as listener:
        async with ProcessPool(
            "sandbox", SANDBOX, listener, notice_seconds=0, report=log.event, forget=lambda _: None
        ) as children:
            if not await children.start(1, _bare_environment() | {"SANDBOX_KEY": key}):
                raise StartError("the sandbox did not start; the lines before this one say why")
            upstream = {"upstream_url": url_of(listener), "upstream_key": SecretStr(key), "upstream_key_file": None}
            yield settings.model_copy(update=upstream)
            children.stop(signal.SIGTERM, 0)
            await children.ended()


def _environment(settings: Settings) -> dict[str, str]:
    """The workers' environment: the settings after flags and stores, in place of the variables of this process."""
    values = {name: getattr(settings, name) for name in Settings.model_fields}
    ours = {
        PREFIX + name.upper(): value.get_secret_value() if isinstance(value, SecretStr) else str(value)
        for name, value in values.items()
        if value is not None
    }
    return UPSTREAM_THREADS | _bare_environment() | ours


def _bare_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.upper().startswith(PREFIX)}
