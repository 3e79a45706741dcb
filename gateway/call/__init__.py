"""What flows through the gateway: a call, what it asks for, what it has cost, and who reads its answer."""

from gateway.call.call import Call, Plan, Route, UpstreamRequest
from gateway.call.operation import Operation
from gateway.call.protocols import (
    TASK_ID,
    Dialect,
    Event,
    Frame,
    Framing,
    ListedModel,
    Meter,
    ModelLister,
    ModelPage,
    Permit,
    Sink,
    State,
    TaskMeter,
    TaskReport,
    TaskState,
)
from gateway.call.usage import Demand, Kind, Modality, Source, Usage

__all__ = [
    "TASK_ID",
    "Call",
    "Demand",
    "Dialect",
    "Event",
    "Frame",
    "Framing",
    "Kind",
    "ListedModel",
    "Meter",
    "Modality",
    "ModelLister",
    "ModelPage",
    "Operation",
    "Permit",
    "Plan",
    "Route",
    "Sink",
    "Source",
    "State",
    "TaskMeter",
    "TaskReport",
    "TaskState",
    "UpstreamRequest",
    "Usage",
]
