"""Every number we publish, under the names of the README.

Labels come from closed sets only.  With several workers each writes its own files in `PROMETHEUS_MULTIPROC_DIR`,
which must be set before this module is imported; the parent adds them up, those of dead workers too.
"""

import os
from collections.abc import Callable
from typing import TypeVar

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
    multiprocess,
)
from prometheus_client.metrics import MetricWrapperBase

__all__ = ["CONTENT_TYPE", "CollectorRegistry", "Metrics", "exposition", "forget"]

CONTENT_TYPE = CONTENT_TYPE_LATEST
M = TypeVar("M", bound=MetricWrapperBase)

CALL_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300)
OVERHEAD_SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1)
STORE_SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1)


class Metrics:
    """The instruments; `child` finds one by its label values, at the price of a dictionary look-up."""

    def __init__(self, registry: CollectorRegistry | None, known_model: Callable[[str], bool]) -> None:
        self._known_model = known_model
        self.registry = registry = registry or CollectorRegistry()
        self._children: dict[tuple[int, tuple[str, ...]], MetricWrapperBase] = {}

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(name, text, labels, registry=registry)

        def gauge(name: str, text: str, *labels: str, mode: str = "livesum") -> Gauge:
            return Gauge(name, text, labels, registry=registry, multiprocess_mode=mode)  # type: ignore[arg-type]

        def histogram(name: str, text: str, *labels: str, buckets: tuple[float, ...] = CALL_SECONDS) -> Histogram:
            return Histogram(name, text, labels, registry=registry, buckets=buckets)

        self.requests = counter(
            "gateway_requests_total", "Calls, by how they ended.", "client", "model", "method", "code", "outcome"
        )
        self.duration = histogram(
            "gateway_request_duration_seconds", "From request in to last byte out.", "model", "method", "cache"
        )
        self.first_byte = histogram(
            "gateway_time_to_first_byte_seconds", "From request in to first byte out.", "model", "method"
        )
        self.overhead = histogram(
            "gateway_overhead_seconds",
            "Time in the gateway: upstream and client waiting taken out.",
            "method",
            buckets=OVERHEAD_SECONDS,
        )
        self.upstream_duration = histogram(
            "gateway_upstream_duration_seconds", "Time spent with the upstream, all attempts.", "model", "code"
        )
        self.attempts = counter(
            "gateway_upstream_attempts_total", "Requests sent to the upstream, by what came of each.", "outcome"
        )
        self.tokens = counter(
            "gateway_tokens_total", "Tokens the upstream reported.", "client", "model", "kind", "modality"
        )
        self.images = counter("gateway_images_total", "Inline pictures that passed.", "client", "model", "direction")
        self.usage_missing = counter("gateway_usage_missing_total", "Answers that carried no usage.", "model")
        self.cache_requests = counter(
            "gateway_cache_requests_total", "Calls, by what the cache did.", "client", "result"
        )
        self.limited = counter(
            "gateway_limited_total", "Calls refused, by the limit that refused them.", "client", "limit"
        )
        self.in_flight = gauge("gateway_in_flight_requests", "Calls under way.", "client")
        self.buffered = gauge("gateway_buffered_bytes", "Bytes of bodies held.")
        self.buffered_limit = gauge("gateway_buffered_bytes_limit", "Bytes of bodies that may be held.")
        self.store_duration = histogram(
            "gateway_store_duration_seconds", "Round trips to the stores.", "operation", buckets=STORE_SECONDS
        )
        self.store_up = gauge("gateway_store_up", "Whether the store answers.", "store", mode="livemin")
        self.breaker_open = gauge(
            "gateway_breaker_open", "Whether calls for the model are refused.", "model", mode="livemax"
        )
        self.reload_failures = counter("gateway_config_reload_failures_total", "Changed files that did not load.")
        self.build_info = gauge("gateway_build_info", "The running version.", "version", mode="livemax")
        self.limit = gauge("gateway_limit", "A client's budget.", "client", "limit", mode="livemax")
        self.limit_used = gauge("gateway_limit_used", "What of it is used.", "client", "limit", mode="livemax")
        self.late = counter("gateway_late_settlements_total", "Calls that ended after they had been recorded as lost.")
        self.dropped = counter("gateway_dropped_total", "What was dropped rather than waited for.", "what")
        self.key_refused = counter(
            "gateway_upstream_key_refused_total", "Times the upstream refused our key or its balance."
        )

    def model(self, name: str) -> str:
        """The label for a model: names come from callers, so only known ones are told apart."""
        return name if name and self._known_model(name) else "other"

    def child(self, metric: M, *labels: str) -> M:
        """The instrument for these label values, looked up once and kept."""
        key = (id(metric), labels)
        found = self._children.get(key)
        if found is None:
            found = self._children[key] = metric.labels(*labels)
        return found  # type: ignore[return-value]


def exposition(registry: CollectorRegistry | None = None) -> bytes:
    """What `/metrics` answers: of all workers, where they write files, else of the registry given."""
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        registry = CollectorRegistry()
        multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return generate_latest(registry or CollectorRegistry())


def forget(pid: int) -> None:
    """Take a dead worker's live gauges out; its counters stay."""
    multiprocess.mark_process_dead(pid)  # type: ignore[no-untyped-call]
