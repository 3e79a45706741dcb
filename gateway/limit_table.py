"""Which limits can a client have?  One row each.

From a row follow the limit's key in the clients file, its option of `clients add`, its place in `clients list`, its
item of the `ratelimit` headers, what the scripts of the state store and the fallback limiter count, and its gauges.
"""

from typing import Literal, NamedTuple


class Burst(NamedTuple):
    """How many units a rate lets through at once; where a client has none, as many as in the rate's window."""

    name: str
    listed: str
    help: str
    example: float
    scale: int = 1


class Limit(NamedTuple):
    """One limit.

    A *rate* is a bucket that drains (GCRA), a *budget* the counter of a UTC day or calendar month, *concurrency* the
    number of calls in flight, of which there is one row.
    """

    name: str  # its key in the clients file, its option, its label
    kind: Literal["rate", "budget", "concurrency"]
    unit: str  # which number of an estimate and of a charge it counts
    window: Literal["minute", "day", "month", ""]  # a rate has a minute, a budget a day or a month
    listed: str  # what stands behind the amount in `clients list`
    help: str  # of its option
    example: float
    header: str = ""  # its item of the `ratelimit` headers; "" = none; a month has no length, so it has none
    scale: int = 1  # units in 1 of what the clients file says; above 1 it may say fractions
    burst: Burst | None = None


LIMITS = (
    Limit(
        name="requests_per_minute",
        kind="rate",
        unit="requests",
        window="minute",
        listed="requests/min",
        help="sustained rate",
        example=120,
        header="requests",
        burst=Burst(name="burst", listed="burst", help="calls at once above it; default: the same number", example=120),
    ),
    Limit(
        name="tokens_per_minute",
        kind="rate",
        unit="tokens",
        window="minute",
        listed="tokens/min",
        help="sustained rate, input and output",
        example=500_000,
        header="tokens",
    ),
    Limit(
        name="tokens_per_day",
        kind="budget",
        unit="tokens",
        window="day",
        listed="tokens/day",
        help="budget of a UTC day",
        example=20_000_000,
        header="tokens-day",
    ),
    Limit(
        name="images_per_day",
        kind="budget",
        unit="images",
        window="day",
        listed="images/day",
        help="pictures made in a UTC day",
        example=2_000,
        header="images-day",
    ),
    Limit(
        name="videos_per_day",
        kind="budget",
        unit="videos",
        window="day",
        listed="videos/day",
        help="videos made in a UTC day",
        example=20,
        header="videos-day",
    ),
    Limit(
        name="concurrent",
        kind="concurrency",
        unit="requests",
        window="",
        listed="at once",
        help="calls in flight",
        example=8,
    ),
)
RATES = tuple(limit for limit in LIMITS if limit.kind == "rate")
BY_NAME = {limit.name: limit for limit in LIMITS}
BUDGETS = tuple(limit for limit in LIMITS if limit.kind == "budget")
(CONCURRENCY,) = (limit for limit in LIMITS if limit.kind == "concurrency")
UNITS = tuple({limit.unit: None for limit in LIMITS})
AMOUNTS: tuple[Limit | Burst, ...] = tuple(  # what the clients file says in numbers, in the order in which it is shown
    amount for limit in LIMITS for amount in (limit, limit.burst) if amount is not None
)
