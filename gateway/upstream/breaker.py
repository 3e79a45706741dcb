"""Is the upstream worth asking for this model right now, and may a failed attempt be repeated?

The breaker of a model looks at its last calls: when nearly all of them met an overloaded or unreachable upstream,
calls are refused for a moment, then one is let through to see.  The retry budget keeps all repeats within a tenth of
the calls.
"""

import time
from collections import OrderedDict, deque
from collections.abc import Callable

WINDOW_CALLS, WINDOW_SECONDS = 20, 10.0
OPEN_SHARE = 0.8
OPEN_SECONDS, MAX_OPEN_SECONDS = 1.0, 4.0
MAX_MODELS = 1024
LISTS, POLLS = ":lists", ":poll"  # no model can be called so


class Breaker:
    """The recent past of one model."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._calls: deque[tuple[float, bool]] = deque(maxlen=WINDOW_CALLS)
        self._open_until = 0.0
        self._open_seconds = 0.0  # 0 = closed

    @property
    def is_open(self) -> bool:
        return self._open_seconds > 0

    def wait(self) -> float:
        """Seconds until a call is let through; 0 = now, and then the next one waits for its outcome."""
        if not self.is_open:
            return 0.0
        now = self._clock()
        if now < self._open_until:
            return self._open_until - now
        self._open_until = now + self._open_seconds  # this one is the probe
        return 0.0

    def record(self, *, failed: bool) -> None:
        """Take in how a call ended.  Failures are those of transport and overload alone; a caller's own never count."""
        now = self._clock()
        if self.is_open:
            if not failed:
                self._open_seconds = 0.0
                self._calls.clear()
            else:
                self._trip(now)
            return
        self._calls.append((now, failed))
        if not failed:
            return
        recent = [failed for when, failed in self._calls if now - when <= WINDOW_SECONDS]
        if len(recent) == WINDOW_CALLS and sum(recent) >= OPEN_SHARE * WINDOW_CALLS:
            self._trip(now)

    def _trip(self, now: float) -> None:
        self._open_seconds = min(self._open_seconds * 2 or OPEN_SECONDS, MAX_OPEN_SECONDS)
        self._open_until = now + self._open_seconds


class Breakers:
    """One breaker a model, for lists, for polls; of too many the closed one asked for least recently is forgotten."""

    def __init__(self) -> None:
        self._by_model = OrderedDict[str, Breaker]()

    def open(self) -> list[str]:
        """The models whose breakers are open."""
        return [model for model, breaker in self._by_model.items() if breaker.is_open]

    def of(self, model: str) -> Breaker:
        found = self._by_model.get(model)
        if found is None:
            found = self._by_model[model] = Breaker()
            if len(self._by_model) > MAX_MODELS:
                del self._by_model[next(name for name, one in self._by_model.items() if not one.is_open)]
        else:
            self._by_model.move_to_end(model)
        return found


class RetryBudget:
    """A bucket that gains a tenth of a retry a call and holds ten."""

    def __init__(self) -> None:
        self._tokens = 10.0

    def earn(self) -> None:
        self._tokens = min(self._tokens + 0.1, 10.0)

    def spend(self) -> bool:
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True
