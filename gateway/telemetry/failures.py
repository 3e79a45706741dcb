"""How are failures of background work reported?"""

from gateway.background import Report
from gateway.telemetry.logs import Log, exception_fields
from gateway.telemetry.metrics import Metrics


def reporter(log: Log, metrics: Metrics) -> Report:
    """Count each failure and log it."""

    def report(task: str, error: BaseException) -> None:
        metrics.child(metrics.background_failures, task).inc()
        log.event("background_failed", level="error", task=task, **exception_fields(error))

    return report
