"""What operators see: one ledger entry per call, metrics, and log lines."""

from gateway.telemetry import logs, metrics
from gateway.telemetry.failures import reporter
from gateway.telemetry.ledger import Entry, Ledger
from gateway.telemetry.logs import Log, exception_fields, take_over
from gateway.telemetry.metric_files import MetricFile
from gateway.telemetry.metrics import CollectorRegistry, Gathered, Metrics, write_again
from gateway.telemetry.vendor_models import VendorModels

__all__ = [
    "CollectorRegistry",
    "Entry",
    "Gathered",
    "Ledger",
    "Log",
    "MetricFile",
    "Metrics",
    "VendorModels",
    "exception_fields",
    "logs",
    "metrics",
    "reporter",
    "take_over",
    "write_again",
]
