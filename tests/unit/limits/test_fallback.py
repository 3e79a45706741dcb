"""The shares of a worker while the state store is unavailable, on clocks that a test sets."""

from dataclasses import dataclass

import pytest

from gateway.config.clients import Client
from gateway.errors.tree import BudgetSpent, RateLimited
from gateway.limits.estimate import Estimate
from gateway.limits.fallback import FallbackLimiter, LocalReservation
from gateway.limits.windows import DAY
from tests.support.gate import client


@dataclass
class Clocks:
    """Two workers' limits, one worker's share, and what time it is."""

    now: float = 1000.0
    wall: float = 20_000 * DAY + DAY - 100  # 100 s before midnight

    def __post_init__(self) -> None:
        self.local = FallbackLimiter(2, lambda: self.now, lambda: self.wall)

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self.wall += seconds

    def admit(self, of: Client, tokens: int = 0, images: int = 0, in_flight: int = 0) -> LocalReservation:
        return self.local.admit(of, Estimate(tokens_in=tokens, images=images), in_flight)

    def settle(self, of: Client, reservation: LocalReservation, tokens: int, images: int) -> None:
        self.local.settle(of, reservation, {"requests": 1, "tokens": tokens, "images": images})

    def refusal(self, of: Client, tokens: int = 0, images: int = 0, in_flight: int = 0) -> RateLimited:
        with pytest.raises(RateLimited) as error:
            self.admit(of, tokens, images, in_flight)
        return error.value


def test_requests_drain_and_the_wait_is_true() -> None:
    """L4, L10: a share refills at its pace, and whoever waits for `retry-after` gets in, not sooner."""
    clocks, design = Clocks(), client(requests_per_minute=20, burst=4)
    for _ in range(2):
        clocks.admit(design)
    refused = clocks.refusal(design)
    assert ("requests_per_minute", 6) == (refused.metadata["limit"], refused.retry_after)

    clocks.pass_time(5.9)
    assert 1 == clocks.refusal(design).retry_after
    clocks.pass_time(0.1)
    clocks.admit(design)
    clocks.pass_time(3600)
    clocks.admit(design)
    clocks.admit(design)
    clocks.refusal(design)


def test_tokens_are_given_back_until_they_have_drained() -> None:
    """L3, L4: of a reservation the unused part comes back, as far as it is still there."""
    clocks, design = Clocks(), client(tokens_per_minute=12_000)  # this share: 6000, 100 a second
    first, second = clocks.admit(design, 4000), clocks.admit(design, 2000)
    assert 20 == clocks.refusal(design, 2000).retry_after
    clocks.settle(design, first, 1000, 0)
    clocks.admit(design, 3000)  # full again

    clocks.pass_time(35)  # 1000 of an ended call drain first, then half of what the two in flight hold
    clocks.settle(design, second, 0, 0)  # gives back 1000, which is what it has left

    clocks.admit(design, 4500)
    assert 1 == clocks.refusal(design, 1).retry_after


def test_what_has_drained_does_not_come_back() -> None:
    """A6: a call that ends long after its reservation has drained gives nothing back."""
    clocks, design = Clocks(), client(tokens_per_minute=12_000)
    slow = clocks.admit(design, 3000)
    clocks.pass_time(31)
    clocks.admit(design, 6000)
    clocks.settle(design, slow, 0, 0)
    assert "tokens_per_minute" == clocks.refusal(design, 10).metadata["limit"]


def test_what_was_too_small_is_charged() -> None:
    """L3: more than was reserved is charged past the share; a limit that came meanwhile keeps what was taken."""
    clocks, old, new = Clocks(), client(), client(tokens_per_minute=12_000)
    before = clocks.admit(old, 500)
    clocks.settle(new, clocks.admit(new, 1000), 9000, 0)
    assert 40 == clocks.refusal(new, 1000).retry_after
    clocks.settle(new, before, 100, 0)
    assert 40 == clocks.refusal(new, 1000).retry_after
    clocks.admit(old, 500)
    assert 40 == clocks.refusal(new, 1000).retry_after


def test_budgets_last_until_midnight() -> None:
    """L4: tokens and pictures of a day are counted, corrected on that day only, and free again at midnight UTC."""
    clocks, design = Clocks(), client(tokens_per_day=10_000, images_per_day=6)
    late = clocks.admit(design, 3000, 2)
    clocks.settle(design, clocks.admit(design, 1000, 1), 500, 0)
    spent = clocks.refusal(design, 100, 2)
    assert isinstance(spent, BudgetSpent)
    assert ("images_per_day", 100) == (spent.metadata["limit"], spent.retry_after)
    assert "tokens_per_day" == clocks.refusal(design, 1600).metadata["limit"]

    clocks.pass_time(100)
    clocks.admit(design, 5000, 3)
    clocks.settle(design, late, 0, 0)  # of yesterday: today's budgets stay as they are
    clocks.refusal(design, 1, 0)
    clocks.refusal(design, 0, 1)


def test_concurrency_is_what_is_under_way() -> None:
    """L4: the share of `concurrent` is compared with the calls in this worker."""
    clocks, design = Clocks(), client(concurrent=6)
    clocks.admit(design, in_flight=2)
    assert "concurrent" == clocks.refusal(design, in_flight=3).metadata["limit"]


def test_a_share_in_constant_use_keeps_its_books() -> None:
    """A6: after hundreds of thousands of calls, drained to almost nothing over and over, a call still gets its own back."""
    clocks, design = Clocks(), client(tokens_per_minute=12_000)
    held = clocks.admit(design, 100)
    for _ in range(2000):
        following = clocks.admit(design, 100)
        clocks.pass_time(1.5)
        clocks.settle(design, held, 100, 0)
        held = following
    clocks.settle(design, held, 0, 0)
    assert clocks.local._clients["design"].buckets["tokens_per_minute"].held < 1e-6
    clocks.admit(design, 5800)
