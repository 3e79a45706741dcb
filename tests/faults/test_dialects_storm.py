"""Hundreds of calls at once in every dialect, some hung up, a worker killed among them: do all accounts agree?

Four tell of the same calls: the callers' own list, the records in the store, the metrics, and what the upstream saw.
"""

import asyncio
import os
import random
import re
import signal
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.limits.client_limits import key
from tests.support.gateway import GENERATE, STREAM, Upstream
from tests.support.served import Served
from tests.support.valkey import Valkey
from tests.support.waiting import until

CALLS = 300
SAY = "Tell me about number {} {}"
CHAT, RESPONSES, MESSAGES = "/v1/chat/completions", "/v1/responses", "/v1/messages"
KINDS = (  # path, whether a stream is asked for
    (GENERATE, False), (STREAM, True), (CHAT, False), (CHAT, True), ("/v1/completions", False), ("/v1/embeddings", False),
    (RESPONSES, False), (RESPONSES, True), (MESSAGES, False), (MESSAGES, True), ("/v1/messages/count_tokens", False),
)  # fmt: skip
REPEATED = {429, 503, 529}  # statuses behind which a call may be sent once more

# What the upstream does wrong, and how that may end; most calls go well.
FAULTS: Mapping[str, frozenset[str]] = {
    "slow=0.4": frozenset({"ok"}),
    "503*1": frozenset({"ok", "upstream_error"}),  # sent again, as far as the budget of repeats goes
    "400": frozenset({"upstream_error"}),
    "cut": frozenset({"upstream_broke"}),
    "error200": frozenset({"upstream_error"}),
    "badjson": frozenset({"upstream_broke", "ok"}),
}
STREAM_FAULTS: Mapping[str, frozenset[str]] = {
    "streamerror": frozenset({"upstream_error"}),
    "bareerror": frozenset({"upstream_error"}),
    "earlyerror": frozenset({"upstream_error"}),
    "cutdone": frozenset({"upstream_broke"}),
    "earlyping": frozenset({"ok"}),
    "crlf": frozenset({"ok"}),
    "ping": frozenset({"ok"}),
}


@dataclass(kw_only=True)
class Caller:
    """One call, as its caller knows it."""

    number: int
    path: str
    stream: bool
    fault: str = ""
    leaves: bool = False
    status: int = 0  # 0: there was no head
    whole: bool = False  # all of the answer came, to a clean end

    @property
    def id(self) -> str:
        return f"storm-{self.number}"

    @property
    def body(self) -> dict[str, Any]:
        """What is asked, with the marker of the fault in it."""
        text = SAY.format(self.number, f"sandbox-fault: {self.fault} " if self.fault else "")
        if ":" in self.path:
            return {"contents": [{"role": "user", "parts": [{"text": text}]}]}
        if self.path == "/v1/embeddings":
            return {"model": "text-embedding-3-small", "input": text, "dimensions": 8}
        model = "claude-opus-4-6" if self.path.startswith(MESSAGES) else "gpt-5.2"
        name = {RESPONSES: "input", "/v1/completions": "prompt"}.get(self.path, "messages")
        said = [{"role": "user", "content": text}] if name == "messages" else text
        return {"model": model, name: said, "max_tokens": 200} | ({"stream": True} if self.stream else {})

    async def ask(self, http: httpx.AsyncClient) -> None:
        headers = {"x-request-id": self.id}
        try:
            async with http.stream("POST", self.path, json=self.body, headers=headers) as response:
                self.status = response.status_code
                await response.aread()
                self.whole = True
        except httpx.TransportError:
            pass


def callers(chance: random.Random) -> list[Caller]:
    """As many of each kind, a quarter with a fault, a third of all to be hung up."""
    made = []
    for number in range(CALLS):
        path, stream = KINDS[number % len(KINDS)]
        caller = Caller(number=number, path=path, stream=stream, leaves=chance.random() < 1 / 3)
        if chance.random() < 1 / 4:
            faults = [*FAULTS, *(STREAM_FAULTS if stream else ())]
            caller.fault = chance.choice(faults)
        made.append(caller)
    return made


def metrics_of(served: Served) -> Mapping[str, Counter[str]]:
    """Calls by outcome and tokens by kind, as the operators' port has them."""
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for name, labels, value in re.findall(r"^(gateway_\w+_total)\{(.*)\} (\S+)$", served.metrics(), re.MULTILINE):
        by = {"gateway_requests_total": "outcome", "gateway_tokens_total": "client"}.get(name)
        if by and (label := re.search(rf'{by}="(\w+)"', labels)):
            found[name][label[1]] += int(float(value))
    return found


@pytest.mark.timeout(120)  # a busy machine fails no test
async def test_all_accounts_agree(tmp_path: Path, upstream: Upstream, state: Valkey) -> None:
    """A1 A2 A3 A4 A13 X2: with a third hung up and a worker killed, every call is in all accounts once, and the same."""
    chance = random.Random(4711)
    made = callers(chance)
    with Served(tmp_path, upstream=upstream.url, redis_url=state.url) as served:
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
        headers = {"authorization": f"Bearer {served.key}"}
        async with httpx.AsyncClient(
            base_url=served.url, headers=headers, limits=limits, timeout=30, trust_env=False
        ) as http:
            tasks = [asyncio.create_task(caller.ask(http)) for caller in made]
            for caller, task in zip(made, tasks, strict=True):
                if caller.leaves:
                    asyncio.get_running_loop().call_later(chance.uniform(0, 3), task.cancel)
            await until(lambda: sum(task.done() for task in tasks) > CALLS / 3, 20)
            killed = served.workers()[0]
            os.kill(killed, signal.SIGKILL)
            await asyncio.gather(*tasks, return_exceptions=True)
        await until_settled(served, state)
        counted = metrics_of(served)
    books = Books(made, records(state), served.events("call"), counted, await upstream.log())
    books.callers_and_records()
    books.records_and_lines()
    books.metrics()
    books.upstream()


async def until_settled(served: Served, state: Valkey) -> None:
    """Wait until no place is taken any more, and the dead worker's calls are counted as lost."""

    def done() -> bool:
        lost = sum(record["outcome"] == "lost" for record in records(state))
        return not state.ask("ZCARD", key("design", "leases")) and lost == served.counted("lost")

    await until(done, 25, every_ms=200, tell=lambda: records(state))


def records(state: Valkey) -> list[dict[str, str]]:
    """The usage records in the store."""
    return [fields for _, fields in state.ask("XRANGE", "gw:{design}:usage", "-", "+")]


class Books:
    """The four accounts."""

    def __init__(
        self,
        made: list[Caller],
        kept: list[dict[str, str]],
        lines: list[dict[str, Any]],
        counted: Mapping[str, Counter[str]],
        log: list[dict[str, Any]],
    ) -> None:
        self.callers = {caller.id: caller for caller in made}
        self.records = {record["request"]: record for record in kept}
        assert len(kept) == len(self.records) > 0, "one record a call"
        self.lines = {line["request_id"]: line for line in lines}
        assert len(lines) == len(self.lines)
        self.counted = counted
        self.seen: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for one in log:
            self.seen[one["request_id"]].append(one)
        self.lost = {name for name, record in self.records.items() if record["outcome"] == "lost"}
        runs = {self.records[name]["call"].partition("-")[0] for name in self.lost}
        assert len(runs) == 1, "only calls of the killed worker are lost"
        of_killed = {name for name, record in self.records.items() if record["call"].partition("-")[0] in runs}
        # Settled in the very moment of the kill: their record was the last thing that the worker wrote of them.
        self.unwritten = of_killed - self.lost - self.lines.keys()

    def callers_and_records(self) -> None:
        """What each caller has seen is what the record says; who is in no record had left or lost their worker early."""
        for name, caller in self.callers.items():
            record = self.records.get(name)
            if record is None:
                assert not caller.whole, f"{name} was answered and is in no record"
                continue
            outcome = record["outcome"]
            expected = {**FAULTS, **STREAM_FAULTS}.get(caller.fault, frozenset({"ok"}))
            assert outcome in {*expected, "lost", "client_gone"}, (name, caller, record)
            if caller.whole:
                assert outcome not in {"lost", "client_gone"}, (name, caller, record)
                assert (outcome in {"ok", "upstream_error"}) or caller.status >= 400
            if outcome == "client_gone":
                assert caller.leaves, (name, caller, record)
        assert CALLS / 5 < sum(record["outcome"] == "ok" for record in self.records.values())
        assert {"ok", "client_gone", "lost", "upstream_broke", "upstream_error"} == {
            record["outcome"] for record in self.records.values()
        }

    def records_and_lines(self) -> None:
        """Access lines say the same as records; of lost calls there is none."""
        assert not self.lost & self.lines.keys()
        assert self.records.keys() == self.lost | self.unwritten | (self.lines.keys() & self.records.keys())
        for name, line in self.lines.items():
            if (record := self.records.get(name)) is None:  # hung up before it was admitted
                assert ("client_gone", 0, "none") == (line["outcome"], line["attempts"], line["usage"]), line
                continue
            assert (line["outcome"], line["usage"], line["tokens_in"], line["tokens_out"], line["method"]) == (
                record["outcome"], record["usage"], int(record["in"]), int(record["out"]), record["method"],
            )  # fmt: skip

    def metrics(self) -> None:
        """Both counters are the sums of the lines, of lost calls and, at most, of those the kill left unwritten.

        Lines that were still queued died with the worker; also of those who had left before they were in any record.
        """
        requests = Counter(line["outcome"] for line in self.lines.values()) + Counter(lost=len(self.lost))
        unwritten = Counter(self.records[name]["outcome"] for name in self.unwritten)
        nowhere = self.callers.keys() - self.records.keys() - self.lines.keys()
        unwritten["client_gone"] += sum(self.callers[name].leaves for name in nowhere)
        counted = self.counted["gateway_requests_total"]
        assert requests <= counted <= requests + unwritten, (requests, counted, unwritten)
        tokens = sum(line["tokens_in"] + line["tokens_out"] for line in self.lines.values())
        more = sum(int(self.records[name]["in"]) + int(self.records[name]["out"]) for name in self.unwritten)
        assert tokens <= self.counted["gateway_tokens_total"]["design"] <= tokens + more

    def upstream(self) -> None:
        """Each call was sent once, unless the upstream itself said to wait; nothing is in flight; tokens are the same."""
        for name, seen in self.seen.items():
            assert {one["status"] for one in seen[:-1]} <= REPEATED, (name, [one["status"] for one in seen])
            assert all(one["end"] for one in seen), f"{name} goes on at the upstream"
            assert name in self.records, "nothing was sent that was not admitted"
            if name in self.lines:
                assert len(seen) <= self.lines[name]["attempts"]
        exact = 0
        for name, line in self.lines.items():
            seen = self.seen.get(name, [])
            if line["outcome"] == "ok" or (line["usage"] == "reported" and line["outcome"] == "client_gone"):
                assert len(seen) == line["attempts"], (name, line, seen)
            if line["outcome"] == "ok" and line["method"] != "countMessageTokens" and not self.callers[name].fault:
                tokens = seen[-1]["tokens"]
                assert "reported" == line["usage"], (name, line)
                assert tokens["total"] == line["tokens_in"] + line["tokens_out"], (name, line, tokens)
                exact += 1
        assert exact > CALLS / 10
