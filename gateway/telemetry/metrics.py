"""Every metric that we publish.

Labels come from closed sets only.  With several workers each writes its own files in `PROMETHEUS_MULTIPROC_DIR`,
which must be set before `Metrics` is made; the parent adds them up, those of dead workers too.
"""

import os
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

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

# Each instrument: its name without "gateway_", its help text, its labels; of gauges how workers' values are merged.
COUNTERS = {
    "requests": ("requests_total", "Calls, by how they ended.", "client model method code outcome"),
    "attempts": ("upstream_attempts_total", "Requests sent to the upstream, by what came of each.", "outcome"),
    "tokens": ("tokens_total", "Tokens the upstream reported.", "client model kind modality"),
    "images": ("images_total", "Inline pictures that passed.", "client model direction"),
    "usage_missing": ("usage_missing_total", "Answers that carried no usage.", "model"),
    "cache_requests": ("cache_requests_total", "Calls, by what the cache did.", "client result"),
    "saved_tokens": ("cache_saved_tokens_total", "Tokens that answers cost before and did not again.", "client model"),
    "limited": ("limited_total", "Calls refused, by the limit that refused them.", "client limit"),
    "reload_failures": ("config_reload_failures_total", "Changed files that did not load.", ""),
    "late": ("late_settlements_total", "Calls that ended after they had been recorded as lost.", ""),
    "dropped": ("dropped_total", "What was dropped rather than waited for.", "what"),
    "out_of_files": ("out_of_files_total", "Checks, four a second, that found no file left to open.", ""),
    "background_failures": ("background_failures_total", "Failures of background work, which begins again.", "task"),
    "key_refused": ("upstream_key_refused_total", "Times the upstream refused our key or its balance.", ""),
}
GAUGES = {
    "in_flight": ("in_flight_requests", "Calls in flight.", "client", "livesum"),
    "buffered": ("buffered_bytes", "Bytes of bodies held.", "", "livesum"),
    "buffered_limit": ("buffered_bytes_limit", "Bytes of bodies that may be held.", "", "livesum"),
    "buffered_share": ("buffered_ratio", "Bytes held of those that may be, in the fullest worker.", "", "livemax"),
    "store_up": ("store_up", "Whether the store answers.", "store", "livemin"),
    "store_full": ("store_full_ratio", "Memory the store uses of what it may; 0 without a bound.", "store", "livemax"),
    "file_ignored": ("config_file_ignored", "Whether a changed file is not used: it does not load.", "", "livemax"),
    "breaker_open": ("breaker_open", "Whether calls for the model are refused.", "model", "livemax"),
    "limit": ("limit", "A client's budget.", "client limit", "livemax"),
    "limit_used": ("limit_used", "What of it is used.", "client limit", "livemax"),
    "build_info": ("build_info", "The running version.", "version", "livemax"),
}
HISTOGRAMS = {
    "duration": ("request_duration_seconds", "From request in to last byte out.", "model method cache", CALL_SECONDS),
    "first_byte": ("time_to_first_byte_seconds", "From request in to first byte out.", "model method", CALL_SECONDS),
    "overhead": (
        "overhead_seconds",
        "Time in the gateway: upstream and client waiting taken out.",
        "method",
        SHORT_SECONDS,
    ),
    "upstream_duration": (
        "upstream_duration_seconds",
        "Time with the upstream, all attempts.",
        "model code",
        CALL_SECONDS,
    ),
    "store_duration": ("store_duration_seconds", "Round trips to the stores.", "operation", SHORT_SECONDS),
}


class Metrics:
    """The instruments; `child` finds one by its label values, at the cost of a dictionary lookup."""

    requests: Counter
    attempts: Counter
    tokens: Counter
    images: Counter
    usage_missing: Counter
    cache_requests: Counter
    saved_tokens: Counter
    limited: Counter
    reload_failures: Counter
    late: Counter
    dropped: Counter
    out_of_files: Counter
    background_failures: Counter
    key_refused: Counter
    in_flight: Gauge
    buffered: Gauge
    buffered_limit: Gauge
    buffered_share: Gauge
    store_up: Gauge
    store_full: Gauge
    file_ignored: Gauge
    breaker_open: Gauge
    limit: Gauge
    limit_used: Gauge
    build_info: Gauge
    duration: Histogram
    first_byte: Histogram
    overhead: Histogram
    upstream_duration: Histogram
    store_duration: Histogram

    def __init__(self, registry: CollectorRegistry | None, known_model: Callable[[str], bool]) -> None:
        """Make every instrument; models that are not known share the label `other`."""
        self.registry = registry = registry or CollectorRegistry()
        self._known_model = known_model
        self._children: dict[tuple[int, tuple[str, ...]], MetricWrapperBase] = {}
        write_to_files()
        for name, (full, text, labels) in COUNTERS.items():
            setattr(self, name, Counter(f"gateway_{full}", text, labels.split(), registry=registry))
        for name, (full, text, labels, mode) in GAUGES.items():
            gauge = Gauge(f"gateway_{full}", text, labels.split(), registry=registry, multiprocess_mode=mode)  # type: ignore[arg-type]
            setattr(self, name, gauge)
        for name, (full, text, labels, buckets) in HISTOGRAMS.items():
            setattr(self, name, Histogram(f"gateway_{full}", text, labels.split(), registry=registry, buckets=buckets))

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
