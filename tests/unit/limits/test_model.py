"""The scripts beside a plain Python model: the same answers and the same state after every step.

The scripts are those that are shipped, but for their clock: TIME is read from a key, so that a step can let a second,
a day or a jump of the clock go by.
"""

import asyncio
import math
import os
from dataclasses import dataclass, field, replace
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gateway.limits.client_limits import ADMIT, KEYS, RENEW_AND_REAP, SETTLE, key
from gateway.limits.limits import LEVELS, OURS, PACKED
from gateway.limits.quotas import Quotas
from gateway.store import Store
from gateway.store.command import Script
from tests.support.gate import client, kept, records, state
from tests.support.valkey import valkey
from tests.support.waiting import until

EXAMPLES = int(os.environ.get("TEST_MODEL_EXAMPLES", "6"))
DAY, LEASE = 86_400_000, 10_000
CLIENT = client(
    requests_per_minute=30, burst=5, tokens_per_minute=3000, tokens_per_day=9000, images_per_day=4, concurrent=3
)
CLOCK = key("design", "clock")


def clocked(script: Script) -> Script:
    """The same script on the test's clock."""
    before, after = 'redis.call("TIME")', f'redis.call("LRANGE", "{CLOCK}", 0, -1)'
    assert 1 == script.source.count(before)
    return Script.of(script.name, script.source.replace(before, after))


def amounts(tokens: int, images: int, outcome: str = "ok") -> dict[str, int]:
    """What a call reserves, or has used, as the scripts read it."""
    wanted = {"requests": int(outcome != ""), "tokens": tokens, "images": images}
    return {unit: amount for unit, amount in wanted.items() if amount}


@dataclass(frozen=True, kw_only=True)
class Lease:
    """A call in flight."""

    expiry: float
    began: float
    tokens: int
    images: int
    days: tuple[int, int]  # from whose budgets it took


@dataclass(frozen=True)
class Bucket:
    """What is in it: of calls that have ended, which drains first, and of each call in flight, from all alike."""

    ended: float = 0
    held: dict[str, float] = field(default_factory=dict)

    @property
    def level(self) -> float:
        return self.ended + sum(self.held.values())

    def drained(self, amount: float) -> "Bucket":
        held = self.level - self.ended
        left = max(0, held - max(0, amount - self.ended))
        return Bucket(max(0, self.ended - amount), {call: own * left / held for call, own in self.held.items() if held})

    def taken(self, call: str, amount: float) -> "Bucket":
        return Bucket(self.ended, self.held | {call: amount})

    def over(self, call: str, more: float) -> "Bucket":
        """A call ends and has used so much more, or less, than it took."""
        own = self.held.get(call, 0)
        stays = own + (more if more > 0 else -min(own, -more))
        return Bucket(self.ended + stays, {other: part for other, part in self.held.items() if other != call})


@dataclass(frozen=True)
class Budget:
    """What is used of a day's budget."""

    used: int = 0
    day: int = 0

    def on(self, today: int) -> "Budget":
        """The same on that day: a clock that went back over one midnight leaves it as it is."""
        if not self.used or self.day < today:
            return Budget(0, today)
        return self if self.day <= today + 1 else Budget(self.used, today)

    def more(self, amount: int) -> "Budget":
        return Budget(max(0, self.used + amount), self.day)


@dataclass
class Model:
    """A model of what the limits should do; times in ms."""

    seen: float | None = None
    at: float | None = None
    requests: Bucket = field(default_factory=Bucket)
    tokens: Bucket = field(default_factory=Bucket)
    tokens_day: Budget = field(default_factory=Budget)
    images_day: Budget = field(default_factory=Budget)
    leases: dict[str, Lease] = field(default_factory=dict)
    ends: dict[str, str] = field(default_factory=dict)  # outcome by call; "" for void

    def at_time(self, now: float) -> "Model":
        """The same, with everything drained that drains until then."""
        passed = 0 if self.at is None else max(0, now - self.at)
        requests, tokens = self.requests.drained(passed * 30 / 60_000), self.tokens.drained(passed * 3000 / 60_000)
        tokens_day, images_day = self.tokens_day.on(int(now // DAY)), self.images_day.on(int(now // DAY))
        return replace(self, at=now, requests=requests, tokens=tokens, tokens_day=tokens_day, images_day=images_day)

    def visit(self, now: float, renewed: set[str]) -> set[str]:
        """Renew some leases and give up those that have run out; returns these."""
        unseen = now - (self.seen or 0)
        if unseen < 0 or unseen > LEASE * 2 / 3:
            renewed = set(self.leases)
        for call in renewed & set(self.leases):
            self.leases[call] = replace(self.leases[call], expiry=now + LEASE)
        self.seen = now if self.leases else self.seen
        lost = {call for call, lease in self.leases.items() if lease.expiry <= now}
        for call in lost:
            del self.leases[call]
            self.ends[call] = "lost"
        if lost:
            self.keep(self.at_time(now))
            for call in lost:
                self.requests, self.tokens = self.requests.over(call, 0), self.tokens.over(call, 0)
        return lost

    def refused(self, tokens: int, images: int) -> set[str]:
        """The limits that are in the way."""
        over = {
            "requests_per_minute": self.requests.level + 1 > 5 + 1e-6,
            "tokens_per_minute": tokens > 0 and self.tokens.level + tokens > 3000 + 1e-6,
            "tokens_per_day": tokens > 0 and self.tokens_day.used + tokens > 9000,
            "images_per_day": images > 0 and self.images_day.used + images > 4,
            "concurrent": len(self.leases) + 1 > 3,
        }
        return {name for name, is_over in over.items() if is_over}

    def keep(self, later: "Model") -> None:
        """Take over levels that were written."""
        for name in ("at", "requests", "tokens", "tokens_day", "images_day"):
            setattr(self, name, getattr(later, name))

    def settle(self, call: str, outcome: str, used: tuple[int, int], now: float, began: float) -> None:
        tokens, images = used
        if call in self.ends:
            return
        self.ends[call] = outcome
        lease = self.leases.pop(call, None)
        self.keep(self.at_time(now))
        today = began // DAY == now // DAY
        if self.tokens_day.day == lease.days[0] if lease and lease.tokens else today:
            self.tokens_day = self.tokens_day.more(tokens - (lease.tokens if lease else 0))
        if self.images_day.day == lease.days[1] if lease and lease.images else today:
            self.images_day = self.images_day.more(images - (lease.images if lease else 0))
        if lease:
            self.tokens = self.tokens.over(call, tokens - lease.tokens)
            self.requests = self.requests.over(call, -1 if outcome == "" else 0)


class Scripts(RuleBasedStateMachine):
    """Admissions, ends, lost workers, time, and a store that is frozen or restarted, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.valkey = valkey(appendonly="yes", appendfsync="always")
        self.server = self.valkey.__enter__()
        self.store = self.runner.run(self._open())
        keys = [key("design", name) for name in KEYS]
        limits = PACKED((*Quotas.of(CLIENT).columns(), LEASE))
        self.scripts = {script.name: clocked(script).on(keys, limits) for script in (ADMIT, SETTLE, RENEW_AND_REAP)}
        self.model, self.calls = Model(), 0
        self.spent: dict[str, list[float]] = {}  # when each call was admitted, and the tokens it used
        self.forgotten: set[str] = set()  # calls that have ended so long ago that their ids are not kept any more
        self._set_clock(20_000 * DAY - 1_800_000)  # so that an hour goes over midnight

    async def _open(self) -> Store:
        return Store(self.server.url, timeout=5)

    def teardown(self) -> None:
        self.runner.run(self.store.aclose())
        self.runner.close()
        self.valkey.__exit__(None, None, None)

    def _set_clock(self, now: float) -> None:
        self.now = now
        self.server.ask("DEL", CLOCK)
        self.server.ask("RPUSH", CLOCK, math.floor(now / 1000), math.floor(now % 1000 * 1000))

    def _run(self, script: str, *args: Any) -> Any:
        async def ask() -> Any:
            return await self.store.run(self.scripts[script], *args)

        return self.runner.run(ask())

    def _next(self) -> str:
        self.calls += 1
        return f"c{self.calls}"

    @rule(tokens=st.sampled_from([0, 40, 700, 1500, 3000]), images=st.integers(0, 2))
    def admit(self, tokens: int, images: int) -> None:
        call = self._next()
        levels = LEVELS(self._run("admit", PACKED((call, amounts(tokens, images), "w", "m", "x", "r"))))
        later = self.model.at_time(self.now)
        refused = later.refused(tokens, images)
        jumped = self.model.at is not None and self.now < self.model.at
        assert (levels.refused in refused) if refused else not levels.refused
        if not refused:
            later.requests, later.tokens = later.requests.taken(call, 1), later.tokens.taken(call, tokens)
            later.tokens_day, later.images_day = later.tokens_day.more(tokens), later.images_day.more(images)
            self.model.leases[call] = Lease(
                expiry=self.now + LEASE,
                tokens=tokens,
                images=images,
                days=(later.tokens_day.day, later.images_day.day),
                began=self.now,
            )
            self.spent[call] = [self.now, 0]
        if jumped or not refused:
            self.model.keep(later)

    @precondition(lambda self: self.model.leases)
    @rule(data=st.data(), tokens=st.sampled_from([0, 30, 900, 4000]), images=st.integers(0, 2))
    def settle(self, data: st.DataObject, tokens: int, images: int) -> None:
        self._settle(data.draw(st.sampled_from(sorted(self.model.leases))), "ok", tokens, images)

    @precondition(lambda self: self.model.leases)
    @rule(data=st.data())
    def hang_up_while_admitted(self, data: st.DataObject) -> None:
        self._settle(data.draw(st.sampled_from(sorted(self.model.leases))), "", 0, 0)

    @precondition(lambda self: self.model.ends.keys() - self.forgotten)
    @rule(data=st.data())
    def settle_again(self, data: st.DataObject) -> None:
        """Ids are kept for an hour."""
        known = sorted(self.model.ends.keys() - self.forgotten)
        self._settle(data.draw(st.sampled_from(known)), "client_gone", 999, 1)

    @rule(tokens=st.integers(0, 50), ago=st.sampled_from([0, DAY]))
    def settle_what_was_admitted_while_away(self, tokens: int, ago: int) -> None:
        self._settle(self._next(), "ok", tokens, 0, ago)

    def _settle(self, call: str, outcome: str, tokens: int, images: int, ago: int = 0) -> None:
        began = int(self.now) - ago
        facts = (call, outcome, "reported", amounts(tokens, images, outcome), 0, 0, "m", "x", "r", began)
        if lease := self.model.leases.get(call):
            self.spent[call][1] = min(tokens, lease.tokens)  # what it had not reserved is an error of the estimate
        settled = self._run("settle", PACKED(facts))
        assert (call not in self.model.ends) == bool(settled)
        self.model.settle(call, outcome, (tokens, images), self.now, lease.began if lease else began)

    @rule(data=st.data())
    def visit(self, data: st.DataObject) -> None:
        """The live workers renew their calls; those of dead ones run out some day."""
        calls = sorted(self.model.leases)
        renewed = data.draw(st.sets(st.sampled_from(calls))) if calls else set()
        (tokens, images, _), lost, form = self._run("renew_and_reap", *renewed)
        assert form == OURS
        today = self.model.at_time(self.now)
        ended = dict(self.model.leases)
        gone = self.model.visit(self.now, renewed)
        assert [[b"m", b"x"]] * len(gone) == lost
        for call in gone:
            self.spent[call][1] = ended[call].tokens
        assert [today.tokens_day.used, today.images_day.used] == [tokens, images]

    @rule(seconds=st.sampled_from([0.001, 0.5, 1, 3, 6, 6, 11, 70, 3600, 86_400, -3600, -259_200]))
    def let_time_pass(self, seconds: float) -> None:
        self._set_clock(self.now + seconds * 1000)
        if seconds < 0:
            self.spent = {call: [math.inf, 0] for call in self.spent}  # times of before mean nothing now
        if seconds >= 3600:
            self.forgotten |= self.model.ends.keys()

    @rule()
    def restart_the_store(self) -> None:
        """With its log, so that nothing is forgotten but the scripts."""

        async def restart() -> None:  # while the store looks on
            await asyncio.to_thread(self.server.kill)
            await asyncio.to_thread(self.server.start)

        self.runner.run(restart())

    @rule()
    def freeze_the_store(self) -> None:
        """The store is unavailable until it is back, and nothing has changed."""

        async def ask() -> None:
            impatient = Store(self.server.url, timeout=0.01)
            refused = await asyncio.gather(impatient.command("GET", "nothing"), return_exceptions=True)
            self.server.thaw()
            await until(lambda: impatient.up)
            await impatient.aclose()
            assert isinstance(refused[0], Exception)

        self.server.freeze()
        self.runner.run(ask())

    @invariant()
    def same_state(self) -> None:
        """A6, A7, A8: levels, leases and records are the model's, and nothing is reserved when nothing is in flight."""
        leases = dict(self.server.ask("ZRANGE", key("design", "leases"), 0, -1, "WITHSCORES"))
        assert {call: lease.expiry for call, lease in self.model.leases.items()} == leases
        assert set(leases) == set(self.server.ask("HKEYS", key("design", "limits"))) - {"state", "seen"}
        ends = {record["call"]: record["outcome"] for record in records(self.server)}
        assert {call: end for call, end in self.model.ends.items() if end} == ends
        there = state(self.server)
        rows = kept(self.server)
        for name, known in (("seen", "seen" in there), ("at", "requests_per_minute" in rows)):
            if known:
                assert math.isclose(getattr(self.model, name), there[name], abs_tol=1e-6), name
        for limit, budget in (("tokens_per_day", self.model.tokens_day), ("images_per_day", self.model.images_day)):
            assert [budget.used, budget.day] == rows.get(limit, [0, 0]) or not (budget.used or rows.get(limit, [0])[0])
        for name in ("requests", "tokens") if "at" in there else ():
            bucket: Bucket = getattr(self.model, name)
            assert math.isclose(bucket.level, there[name], abs_tol=1e-4), name
            assert math.isclose(bucket.level - bucket.ended, there[f"{name}_held"], abs_tol=1e-4), name

    @invariant()
    def no_window_is_over_its_bound(self) -> None:
        """L2, A5: in any window no more tokens were used than the bucket holds and what drained meanwhile."""
        calls = sorted(self.spent.values())
        for first, (start, _) in enumerate(calls):
            used = 0.0
            for at, tokens in calls[first:]:
                used += tokens
                assert used <= 3000 + (at - start) * 3000 / 60_000 + 1e-3 or math.isinf(at)


TestScripts = Scripts.TestCase
TestScripts.settings = settings(
    max_examples=EXAMPLES, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
