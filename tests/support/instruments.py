"""Every metric as the code declares it: name, type, labels, and what only gauges or histograms have."""

from dataclasses import dataclass

from gateway.telemetry.metrics import CollectorRegistry, Metrics


@dataclass(frozen=True, kw_only=True)
class Instrument:
    """One metric, under the name by which it is scraped."""

    name: str
    type: str
    labels: tuple[str, ...]
    workers: str  # of a gauge: livesum, livemax or livemin
    bounds: tuple[float, ...]  # of a histogram

    @property
    def series(self) -> dict[str, set[str]]:
        """The names under which its samples are scraped, and their labels."""
        labels = set(self.labels)
        if self.type != "histogram":
            return {self.name: labels}
        return {f"{self.name}_count": labels, f"{self.name}_sum": labels, f"{self.name}_bucket": labels | {"le"}}


def instruments() -> dict[str, Instrument]:
    """All of them, by name."""
    made = [
        Instrument(
            name=metric._name + "_total" * (metric._type == "counter"),
            type=metric._type,
            labels=tuple(metric._labelnames),
            workers=getattr(metric, "_multiprocess_mode", ""),
            bounds=tuple(metric._kwargs.get("buckets", ())),
        )
        for metric in vars(Metrics(CollectorRegistry(), bool)).values()
        if hasattr(metric, "_labelnames")
    ]
    return {one.name: one for one in made}
