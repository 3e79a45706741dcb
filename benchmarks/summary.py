"""What do the rounds say together?

Ratios are taken within a round, and the median of them over the rounds: what slows the machine for a while slows a
whole round, and one round that went wrong does not count.  In seven series of loads on a busy machine the same code,
measured twice by six rounds, was off by 0.10 so (standard deviation of the logarithm, on average), by medians of each
0.12, by minima of each 0.11.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.cases import Case

Sample = Mapping[str, float]
Rounds = Sequence[Mapping[str, Sample]]  # of each round, by target
Pairs = Sequence[tuple[str, str]]
COLUMNS = (
    # field, title, width, decimals
    ("cpu_us", "CPU us/call", 11, 0),
    ("worker_us", "worker", 7, 0),
    ("parent_us", "parent", 7, 0),
    ("store_us", "store", 6, 0),
    ("rest_us", "rest", 6, 0),
    ("rps", "rps", 7, 0),
    ("p50_ms", "p50 ms", 8, 2),
    ("p99_ms", "p99 ms", 8, 2),
    ("peak_mb", "peak MB", 7, 0),
    ("strangers", "strangers", 9, 2),
)
COMPARED = {"cpu_us": "CPU", "p50_ms": "p50", "p99_ms": "p99", "peak_mb": "memory"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratio:
    """One to another: what it is in the middle of the rounds, and between what it lies."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.3f} ({self.low:.2f} to {self.high:.2f})"


def ratio(rounds: Rounds, field: str, one: str, another: str) -> Ratio:
    """Compare a field of two targets."""
    ratios = sorted(measured[one][field] / measured[another][field] for measured in rounds)
    cut = outside(len(ratios))
    return Ratio(median=statistics.median(ratios), low=ratios[cut], high=ratios[-1 - cut])


def outside(count: int) -> int:
    """How many at either end to leave out, so that the true median lies between the rest in 95 of 100 runs.

    It lies above each value with a chance of one half, whatever their distribution.  Of fewer than six all are needed,
    and they are not enough.
    """
    cut = 0
    while 2 * sum(math.comb(count, fewer) for fewer in range(cut + 2)) <= 0.05 * 2**count:
        cut += 1
    return cut


def together(samples: Sequence[Sample]) -> Sample:
    """What the loads of one process give: their mean, and the last word on memory, which only grows."""
    means = {field: statistics.fmean(sample[field] for sample in samples) for field in samples[0]}
    return means | {"peak_mb": samples[-1]["peak_mb"]}


def titles(base: str) -> str:
    """The head of the table."""
    cells = [f"{title:>{width}}" for _, title, width, _ in COLUMNS]
    return " ".join([f"{'case':13} {'target':14}", cells[0], f"{'x ' + base.split(maxsplit=1)[0]:>7}", *cells[1:]])


def rows(case: Case, rounds: Rounds, base: str) -> list[str]:
    """A line for each target: medians over the rounds."""
    lines = []
    for target in rounds[0]:
        usual = {field: statistics.median(one[target][field] for one in rounds) for field, *_ in COLUMNS}
        cells = [f"{usual[field]:{width}.{decimals}f}" for field, _, width, decimals in COLUMNS]
        times = f"{ratio(rounds, 'cpu_us', target, base).median:7.2f}"
        per_event = [f"  {usual['cpu_us'] / case.events:.1f} us/event"] * (case.events > 1)
        lines.append(" ".join([f"{case.name:13} {target:14}", cells[0], times, *cells[1:], *per_event]))
    return lines


def comparisons(case: Case, rounds: Rounds, pairs: Pairs) -> list[str]:
    """A line for each pair: the ratios, and between what they lie."""
    return [
        f"{case.name:13} {f'{one} / {another}':14}   "
        + "   ".join(f"{title} {ratio(rounds, field, one, another)}" for field, title in COMPARED.items())
        for one, another in pairs
    ]


def written(found: Mapping[str, Rounds], pairs: Pairs) -> dict[str, Any]:
    """What a later tool reads: of each case the rounds, and the ratios of each pair."""
    return {
        case: {
            "rounds": rounds,
            "ratios": {
                f"{one} / {another}": {field: asdict(ratio(rounds, field, one, another)) for field in COMPARED}
                for one, another in pairs
            },
        }
        for case, rounds in found.items()
    }
