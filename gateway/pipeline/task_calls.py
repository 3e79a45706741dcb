"""How are tasks created, asked for and settled?

A task is created once, and it is written down whose it is before anybody reads the answer that names it.  Polls that
are equal share one question within a second.  The first answer that says that a task has ended corrects what its
creation was charged.
"""

import asyncio
import math
import time
from collections.abc import Callable
from functools import partial

from gateway.call import Call, Meter, Sink, TaskMeter, TaskReport, UpstreamRequest, Usage
from gateway.config import Client
from gateway.errors import UpstreamTimeout
from gateway.limits import Correction, Limits
from gateway.memory import MemoryLease
from gateway.pipeline.exchange import Exchange
from gateway.pipeline.held_answer import HeldAnswer
from gateway.pipeline.relay import Relay
from gateway.tasks import Task, Tasks
from gateway.telemetry import Entry, Ledger

POLL_AFTER = (b"openai-poll-after-ms", b"5000")  # OpenAI's SDK for Python asks every second where nothing is said

Asked = tuple[str, UpstreamRequest]  # the same question of the same client


class Polled:
    """What a poll is answered with."""

    saved_tokens = 0

    def __init__(self, calls: "TaskCalls", call: Call, exchange: Exchange) -> None:
        self._calls, self._call, self._exchange = calls, call, exchange

    async def play(self, sink: Sink) -> None:
        """Pass it on."""
        answer, report = await self._calls.ask(self._call, self._exchange)
        if report.state == "open":
            self._exchange.more_headers.append(POLL_AFTER)
        await answer.pass_on(sink)


class TaskCalls:
    """The calls of one worker that are about tasks."""

    def __init__(
        self,
        tasks: Tasks,
        limits: Limits,
        relay: Relay,
        ledger: Ledger,
        lease: Callable[[], MemoryLease],
        *,
        poll_seconds: float,
        shared_seconds: float,
    ) -> None:
        """A poll is waited for so long, whoever has left; its answer is that of equal polls for `shared_seconds`."""
        self._tasks, self._limits, self._relay, self._ledger, self._lease = tasks, limits, relay, ledger, lease
        self._poll_seconds, self._shared_seconds = poll_seconds, shared_seconds
        self._asked: dict[Asked, asyncio.Task[tuple[HeldAnswer, TaskReport]]] = {}

    async def create(self, call: Call, entry: Entry, sink: Sink) -> Meter:
        """Ask the upstream for a new task, and write down whose it is before its answer goes on."""
        answer = HeldAnswer(sink.memory)
        meter = await self._relay.ask(call, entry, answer)
        assert isinstance(meter, TaskMeter)  # noqa: S101  its operation creates
        if meter.state == "complete":
            await self._created(call, entry, meter.report.ids)
        await answer.pass_on(sink, sink.memory)
        return meter

    def poll(self, call: Call, exchange: Exchange) -> Polled:
        """The answer to a poll, which may be on its way."""
        return Polled(self, call, exchange)

    async def ask(self, call: Call, exchange: Exchange) -> tuple[HeldAnswer, TaskReport]:
        """Poll the upstream, or take what an equal poll got; also for those who come when whoever asked has left."""
        key = call.client.name, call.upstream
        asked, before = self._asked.get(key), time.perf_counter()
        if asked is None:
            memory, task = self._lease(), exchange.task
            assert task is not None  # noqa: S101  the gate has found it
            asked = self._asked[key] = asyncio.create_task(self._poll(call, exchange.entry, memory, task))
            now = asyncio.get_running_loop().time()
            asked.add_done_callback(partial(self._came, key, memory, now + self._shared_seconds))
            before = math.inf  # the relay measures its own waiting
        try:
            return await asyncio.shield(asked)
        finally:
            del asked  # its error names this frame: that would be a cycle
            exchange.entry.upstream_seconds += max(time.perf_counter() - before, 0)

    async def _poll(self, call: Call, entry: Entry, memory: MemoryLease, task: Task) -> tuple[HeldAnswer, TaskReport]:
        answer = HeldAnswer(memory)
        try:
            async with asyncio.timeout(self._poll_seconds):
                meter = await self._relay.ask(call, entry, answer)
        except TimeoutError:
            raise UpstreamTimeout from None
        assert isinstance(meter, TaskMeter)  # noqa: S101  its operation reads
        if meter.report.state != "open" and task.state == "open":
            await self._settle(call.client, task, meter.report)
        return answer, meter.report

    def _came(
        self, key: Asked, memory: MemoryLease, until: float, asked: "asyncio.Task[tuple[HeldAnswer, TaskReport]]"
    ) -> None:
        if not asked.cancelled():
            asked.exception()  # those who wait receive it
        asyncio.get_running_loop().call_at(until, self._forget, key, memory)

    def _forget(self, key: Asked, memory: MemoryLease) -> None:
        del self._asked[key]
        memory.resize(0)

    async def _created(self, call: Call, entry: Entry, ids: tuple[str, ...]) -> None:
        """There is a task, so it is charged, whatever becomes of its caller."""
        permit = entry.permit
        assert permit is not None  # noqa: S101  creating is admitted
        entry.usage = permit.charged(Usage(source="estimated"), "ok")
        if not ids:
            self._ledger.id_missing(entry)
            return
        entry.task, entry.creates_task = ids[0], True
        task = Task(
            client=call.client.name,
            id=ids[0],
            model=call.model,
            method=call.operation.name,
            at=permit.at,
            request=call.request_id,
            tokens=entry.usage.total,
            videos=entry.usage.videos,
        )
        await self._tasks.own(task, ids)

    async def _settle(self, client: Client, task: Task, report: TaskReport) -> None:
        """A task has ended: one that failed costs nothing, one that does not say so what its creation was charged."""
        before = {"tokens": task.tokens, "videos": task.videos}
        after = before
        if report.state == "failed":
            after = {}
        elif report.tokens is not None:
            after = {**before, "tokens": report.tokens}
        correction = Correction(
            task=task.id, model=task.model, method=task.method, request=task.request,
            before=before, after=after, reported=after is not before,
        )  # fmt: skip
        if await self._limits.correct(client, correction):
            await self._tasks.ended(task, report.state)
