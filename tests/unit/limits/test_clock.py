"""A clock that steps: no day's budget begins anew by it, and no client is shut out for longer than a day."""

import datetime as dt
from collections.abc import Callable

import pytest

from gateway.errors.tree import BudgetSpent, RateLimited
from gateway.limits import windows
from gateway.limits.client_limits import ADMIT, KEYS, SETTLE, key
from gateway.limits.estimate import Estimate
from gateway.limits.fallback import FallbackLimiter
from gateway.limits.limits import LEVELS, PACKED
from gateway.limits.quotas import Quotas
from gateway.store.command import Script
from tests.support.gate import client, state
from tests.support.valkey import Valkey

DAY, HOUR, MINUTE = 86_400_000, 3_600_000, 60_000
MIDNIGHT = 20_000 * DAY
DESIGN = client(tokens_per_day=1000, images_per_day=3)
CLOCK = key("design", "clock")


class Day:
    """The scripts on a clock that a test sets, ms since 1970."""

    def __init__(self, server: Valkey, limits: bytes = b"") -> None:
        self.server = server
        keys = [key("design", name) for name in KEYS]
        self.known = (len(keys), *keys, limits or PACKED((*Quotas.of(DESIGN).columns(), 10_000)))
        self.calls = 0

    def at(self, now: int) -> "Day":
        self.now = now
        self.server.ask("DEL", CLOCK)
        self.server.ask("RPUSH", CLOCK, now // 1000, now % 1000 * 1000)
        return self

    def _run(self, script: Script, facts: tuple[object, ...]) -> object:
        source = script.source.replace('redis.call("TIME")', f'redis.call("LRANGE", "{CLOCK}", 0, -1)')
        return self.server.raw("EVAL", source, *self.known, PACKED(facts))

    def spend(self, tokens: int, used: int | None = None) -> str:
        """A call; returns which limit refused it, or "".  It ends at once, with what it `used`."""
        self.calls += 1
        call = f"c{self.calls}"
        refused = self.begin(call, tokens)
        if not refused:
            self.end(call, tokens if used is None else used)
        return refused

    def begin(self, call: str, tokens: int) -> str:
        reply = self._run(ADMIT, (call, {"tokens": tokens}, "w", "m", "x", "r"))
        assert isinstance(reply, bytes)
        self.levels = LEVELS(reply)
        return self.levels.refused

    def end(self, call: str, used: int) -> None:
        self._run(SETTLE, (call, "ok", "reported", {"tokens": used}, used, 0, "m", "x", "r", self.now))


@pytest.fixture
def day(server: Valkey) -> Day:
    """One whose clock stands at half past eleven."""
    return Day(server).at(MIDNIGHT - HOUR // 2)


@pytest.mark.parametrize("back", [1000, MINUTE, HOUR, 23 * HOUR])
def test_stepping_back_over_midnight_begins_no_day_anew(day: Day, back: int) -> None:
    """L6: what was spent after midnight is spent before it too, when the clock goes back, and still after it again."""
    after = MIDNIGHT + min(back, HOUR) // 2
    assert "" == day.at(after).spend(1000)
    assert "tokens_per_day" == day.at(after - back).spend(1)
    assert "tokens_per_day" == day.at(after + MINUTE).spend(1)
    assert 1000 == state(day.server)["tokens_day"]
    assert "" == day.at(MIDNIGHT + DAY).spend(1)


def test_an_hour_forward_and_back_gives_two_days_two_budgets(day: Day) -> None:
    """L6: a clock that was over midnight too early gives no third budget, neither at once nor at the real midnight."""
    spent = 0
    for now in (0, HOUR, 0, HOUR, 10 * MINUTE, HOUR // 2 + 1000, HOUR, 10 * HOUR, 24 * HOUR):
        while "" == day.at(MIDNIGHT - HOUR // 2 + now).spend(100):
            spent += 100
    assert 2000 == spent


@pytest.mark.parametrize("ahead", [2 * DAY, 40 * DAY, 3650 * DAY])
def test_a_clock_that_was_far_ahead_shuts_no_client_out(day: Day, ahead: int) -> None:
    """L6: what was counted then counts for today, and is forgotten at midnight as ever."""
    assert "" == day.at(MIDNIGHT + ahead).spend(1000)
    assert "tokens_per_day" == day.at(MIDNIGHT - HOUR).spend(1)
    assert HOUR == day.levels.waits[0]
    assert "" == day.at(MIDNIGHT + 1).spend(1)


def test_a_refusal_says_when_the_budget_begins(day: Day) -> None:
    """L10: while the clock is behind the budget's day, `retry-after` is the time until that is over."""
    day.at(MIDNIGHT + MINUTE).spend(1000)
    assert "tokens_per_day" == day.at(MIDNIGHT - HOUR).spend(1)
    assert DAY + HOUR == day.levels.waits[0] == day.levels.wait
    assert "" == day.at(MIDNIGHT - HOUR + int(day.levels.wait)).spend(1)


@pytest.mark.parametrize(
    ("begun", "between", "ended", "left"),
    [
        (0, HOUR, 0, 100),  # it had taken from the day before
        (0, 0, HOUR, 0),  # of the new day nobody has used anything
        (HOUR, 0, HOUR, 110),
        (HOUR, 0, 0, 110),
        (HOUR, HOUR, 0, 110),
    ],
)
def test_what_a_call_reserved_is_given_back_to_its_own_day(
    day: Day, begun: int, between: int, ended: int, left: int
) -> None:
    """A6: a call that ends on another side of midnight than it began gives no tokens back that were never taken there."""
    start = MIDNIGHT - HOUR // 2
    day.at(start + begun).begin("long", 600)
    day.at(start + between).spend(100)
    day.at(start + ended).end("long", 10)
    assert left == state(day.server)["tokens_day"]


def of_a_month(tokens: int) -> bytes:
    """The first argument of the scripts, of a client with a month's budget alone."""
    return PACKED(([(), (), (), ()], [("a_month",), ("tokens",), ("month",), (tokens,)], "concurrent", 0, 10_000))


@pytest.mark.parametrize("year", [1970, 1972, 1999, 2000, 2026, 2028, 2099, 2100, 2101])
def test_a_month_is_that_of_the_calendar(server: Valkey, year: int) -> None:
    """L6: the scripts and the fallback limiter say of each first and last moment of a month how long it lasts."""
    day = Day(server, of_a_month(9))
    for month in range(1, 13):
        begins, ends = (dt.datetime(year + at // 12, at % 12 + 1, 1, tzinfo=dt.UTC) for at in (month - 1, month))
        first, after = (round(moment.timestamp() * 1000) for moment in (begins, ends))
        for now in (first, after - 1):
            server.ask("DEL", key("design", "limits"))
            day.at(now).spend(1)
            assert after - now == day.levels.waits[0]
            assert after == 1000 * windows.ends("month", windows.period_of("month", now / 1000))


def test_a_budget_of_a_month_begins_anew_with_it(server: Valkey) -> None:
    """L6: it is refused until the month is over, and an hour back over its end gives nobody a fresh start."""
    day = Day(server, of_a_month(1000))
    last = round(dt.datetime(2028, 3, 1, tzinfo=dt.UTC).timestamp() * 1000)
    assert "" == day.at(last - 28 * DAY).spend(1000)
    assert "a_month" == day.at(last - 1).spend(1)
    assert 1 == day.levels.wait
    assert "" == day.at(last + 1).spend(1000)
    assert "a_month" == day.at(last - HOUR).spend(1)
    assert "a_month" == day.at(last + 30 * DAY).spend(1)
    assert "" == day.at(last + 31 * DAY).spend(1)


def local(wall: Callable[[], float]) -> FallbackLimiter:
    """A worker's share on its own, with the machine's clock set by a test."""
    return FallbackLimiter(1, clock=lambda: 0.0, wall=wall)


@pytest.mark.parametrize("back", [1, 60, 3600, 80_000])
def test_a_worker_alone_begins_no_day_anew_either(back: int) -> None:
    """L6: the same holds while the store is unavailable, on this machine's clock."""
    midnight, now = MIDNIGHT / 1000, MIDNIGHT / 1000 + min(back, 3600) / 2
    alone = local(lambda: now)
    alone.admit(DESIGN, Estimate(tokens_out=1000), 0)
    now -= back
    with pytest.raises(BudgetSpent) as refused:
        alone.admit(DESIGN, Estimate(tokens_out=1), 0)
    assert refused.value.retry_after is not None
    assert abs(midnight + 86_400 - now - refused.value.retry_after) <= 1
    now = midnight + 7200
    with pytest.raises(RateLimited):
        alone.admit(DESIGN, Estimate(tokens_out=1), 0)
    now = midnight + 86_400
    alone.admit(DESIGN, Estimate(tokens_out=1), 0)


def test_a_worker_alone_forgets_a_clock_that_was_far_ahead() -> None:
    """L6: no caller waits for years."""
    now = MIDNIGHT / 1000 + 86_400 * 400
    alone = local(lambda: now)
    alone.admit(DESIGN, Estimate(tokens_out=1000), 0)
    now = MIDNIGHT / 1000 - 10
    with pytest.raises(BudgetSpent):
        alone.admit(DESIGN, Estimate(tokens_out=1), 0)
    now = MIDNIGHT / 1000 + 1
    alone.admit(DESIGN, Estimate(tokens_out=1), 0)
