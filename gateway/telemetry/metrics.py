"""Every number we publish, as docs/telemetry.md explains it.

Labels come from closed sets only.  With several workers each writes its own files in `PROMETHEUS_MULTIPROC_DIR`,
which must be set before `Metrics` is made; the parent adds them up, those of dead workers too.
"""

import os
import threading
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Literal, TypeVar

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
    multiprocess,
    values,
)
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.metrics_core import Metric

from gateway.telemetry.metric_files import MetricValue, merge_dead, write_again

__all__ = ["CONTENT_TYPE", "CollectorRegistry", "Gathered", "Metrics", "exposition", "write_again"]

CONTENT_TYPE = CONTENT_TYPE_LATEST
M = TypeVar("M", bound=MetricWrapperBase)

CALL_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 3600)
SHORT_SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1)

Join = Literal["livesum", "livemax", "livemin"]


def new_counter(registry: CollectorRegistry, name: str, text: str, labels: str = "") -> Counter:
    """A count that only rises, summed over workers.  `name` has no `gateway_` before it, `labels` spaces between."""
    return Counter(f"gateway_{name}", text, labels.split(), registry=registry)


def new_gauge(
    registry: CollectorRegistry, name: str, text: str, labels: str = "", *, workers: Join = "livemax"
) -> Gauge:
    """A value of now; `workers` says whether the sum, the highest or the lowest of all workers is published."""
    return Gauge(f"gateway_{name}", text, labels.split(), registry=registry, multiprocess_mode=workers)


def new_histogram(
    registry: CollectorRegistry, name: str, text: str, labels: str, buckets: tuple[float, ...]
) -> Histogram:
    """Durations, counted by the bounds that they are within, summed over workers."""
    return Histogram(f"gateway_{name}", text, labels.split(), registry=registry, buckets=buckets)


class Metrics:
    """The instruments; `child` finds one by its label values, at the cost of a dictionary lookup."""

    def __init__(self, registry: CollectorRegistry | None, known_model: Callable[[str], bool]) -> None:
        """Make every instrument; models that are not known share the label `other`."""
        self.registry = registry = registry or CollectorRegistry()
        self._known_model = known_model
        self._children: dict[tuple[int, tuple[str, ...]], MetricWrapperBase] = {}
        write_to_files()
        self._add_counters(registry)
        self._add_gauges(registry)
        self._add_histograms(registry)

    def _add_counters(self, registry: CollectorRegistry) -> None:
        counter = partial(new_counter, registry)
        self.requests = counter("requests_total", "Calls, by how they ended.", "client model method code outcome")
        self.attempts = counter(
            "upstream_attempts_total", "Requests sent to the upstream, by what came of each.", "outcome"
        )
        self.tokens = counter("tokens_total", "Tokens the upstream reported.", "client model kind modality")
        self.images = counter("images_total", "Inline pictures that passed.", "client model direction")
        self.videos = counter("videos_total", "Videos that calls were charged when they created them.", "client model")
        self.task_id_missing = counter("task_id_missing_total", "Tasks created by answers without an id.", "model")
        self.usage_missing = counter("usage_missing_total", "Answers that carried no usage.", "model")
        self.cache_requests = counter("cache_requests_total", "Calls, by what the cache did.", "client result")
        self.saved_tokens = counter(
            "cache_saved_tokens_total", "Tokens that answers cost before and did not again.", "client model"
        )
        self.limited = counter("limited_total", "Calls refused, by the limit that refused them.", "client limit")
        self.reload_failures = counter("config_reload_failures_total", "Changed files that did not load.")
        self.late = counter("late_settlements_total", "Calls that ended after they had been recorded as lost.")
        self.dropped = counter("dropped_total", "What was dropped rather than waited for.", "what")
        self.out_of_files = counter("out_of_files_total", "Looks, four a second, that found no file left to open.")
        self.background_failures = counter(
            "background_failures_total", "Failures of background work, which begins again.", "task"
        )
        self.key_refused = counter("upstream_key_refused_total", "Times the upstream refused our key or its balance.")

    def _add_gauges(self, registry: CollectorRegistry) -> None:
        gauge = partial(new_gauge, registry)
        self.in_flight = gauge("in_flight_requests", "Calls in flight.", "client", workers="livesum")
        self.buffered = gauge("buffered_bytes", "Bytes of bodies held.", workers="livesum")
        self.buffered_limit = gauge("buffered_bytes_limit", "Bytes of bodies that may be held.", workers="livesum")
        self.buffered_share = gauge("buffered_ratio", "Bytes held of those that may be, in the fullest worker.")
        self.store_up = gauge("store_up", "Whether the store answers.", "store", workers="livemin")
        self.store_full = gauge("store_full_ratio", "Memory the store uses of what it may; 0 without a bound.", "store")
        self.file_ignored = gauge("config_file_ignored", "Whether a changed file is not used: it does not load.")
        self.breaker_open = gauge("breaker_open", "Whether calls for the model are refused.", "model")
        self.limit = gauge("limit", "A client's budget.", "client limit")
        self.limit_used = gauge("limit_used", "What of it is used.", "client limit")
        self.open_tasks = gauge("open_tasks", "A client's tasks whose end is not known.", "client")
        self.build_info = gauge("build_info", "The running version.", "version")

    def _add_histograms(self, registry: CollectorRegistry) -> None:
        histogram = partial(new_histogram, registry)
        self.duration = histogram(
            "request_duration_seconds", "From request in to last byte out.", "model method cache", CALL_SECONDS
        )
        self.first_byte = histogram(
            "time_to_first_byte_seconds", "From request in to first byte out.", "model method", CALL_SECONDS
        )
        self.overhead = histogram(
            "overhead_seconds", "Time in the gateway: upstream and client waiting taken out.", "method", SHORT_SECONDS
        )
        self.upstream_duration = histogram(
            "upstream_duration_seconds", "Time with the upstream, all attempts.", "model code", CALL_SECONDS
        )
        self.store_duration = histogram(
            "store_duration_seconds", "Round trips to the stores.", "operation", SHORT_SECONDS
        )

    def model(self, name: str) -> str:
        """The label for a model: names come from callers, so unknown ones share a label."""
        return name if name and self._known_model(name) else "other"

    def child(self, metric: M, *labels: str) -> M:
        """The instrument for these label values, looked up once and cached."""
        key = (id(metric), labels)
        found = self._children.get(key)
        if found is None:
            found = self._children[key] = metric.labels(*labels)
        return found  # type: ignore[return-value]


def write_to_files() -> None:
    """Have the library store values in our files."""
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        values.ValueClass = MetricValue


def exposition(registry: CollectorRegistry) -> bytes:
    """What one process without files publishes."""
    return generate_latest(registry)


class Gathered:
    """The numbers of all workers of one parent, of those that have ended too.

    Each scrape finds a worker's numbers in its own file or among those of the dead, and never in both or in neither.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()

    def exposition(self) -> bytes:
        """What `/metrics` answers; takes milliseconds, in a thread."""
        registry = CollectorRegistry()
        registry.register(self)
        return generate_latest(registry)

    def collect(self) -> Iterable[Metric]:
        """The interface of the library's collectors."""
        with self._lock:
            return list(multiprocess.MultiProcessCollector.merge(map(str, self._folder.glob("*.db"))))  # type: ignore[no-untyped-call]

    def forget(self, pid: int) -> None:
        """Remove a dead worker's live gauges and its files; its counters stay.  Waits for a scrape in progress."""
        with self._lock:
            merge_dead(self._folder, pid)
