"""What does the vendor answer to a call?  Its routes and errors; the content of an answer is in `answers.py`."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl

from gateway.sandbox import answers, catalogue, question, wire
from gateway.sandbox.faults import Fault
from gateway.sandbox.log import Record
from gateway.sandbox.refusals import refusal
from gateway.sandbox.wire import Answer

_ROUTE = re.compile(r"/v1beta/models(?:/(?P<model>[^/:]*)(?::(?P<method>[A-Za-z]+))?)?")
_GAP = "0.02"  # seconds between the events of a stream
_SMALL = 64 * 1024  # bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One request, and what it asks for beside the text."""

    record: Record
    body: bytes
    marks: Mapping[str, str]  # `question.markers`
    fault: Fault | None


class Vendor:
    """The vendor's side of a call.  `key` is the only one it accepts."""

    def __init__(self, key: str) -> None:
        self._authorization = b"Bearer " + key.encode()
        self._models = catalogue.load()

    def is_quick(self, call: Call) -> bool:
        """Whether the answer is made in microseconds: not with much to read, to draw, to speak, or a fault."""
        route = _ROUTE.fullmatch(call.record.path)
        kind = self._models.get(route["model"]) if route else None
        return call.fault is None and len(call.body) <= _SMALL and kind in {None, "text"}

    def answer(self, call: Call) -> Answer:
        """The answer to a request.  `ValueError` when it cannot be understood."""
        record = call.record
        route = _ROUTE.fullmatch(record.path)
        if not route or record.method != ("POST" if route["method"] else "GET"):
            message = f"Invalid URL ({record.method} {record.path})"
            return refusal(404, message, record.nonce, kind="invalid_request_error")
        if record.header(b"authorization") != self._authorization:
            return refusal(401, "Invalid token", record.nonce)
        if route["model"] is None:
            return self._listed(dict(parse_qsl(record.query)))
        if (kind := self._models.get(route["model"])) is None:
            message = f"No available channel for model {route['model']} under group default"
            return refusal(503, message, record.nonce, code="model_not_found")
        if route["method"] is None:
            return wire.unary(catalogue.entry(route["model"], kind))
        return _called(call, route["model"], kind, route["method"])

    def _listed(self, query: Mapping[str, str]) -> Answer:
        return wire.unary(catalogue.page(self._models, query.get("pageSize", ""), query.get("pageToken", "")))


def _called(call: Call, model: str, kind: str, method: str) -> Answer:
    if method not in catalogue.METHODS[kind]:
        raise ValueError(f"{model} does not support {method}")
    asked = question.read(call.body)
    if method == "countTokens":
        return wire.unary(answers.counted(asked))
    if method == "embedContent":
        return wire.unary({"embedding": answers.embedding(asked)})
    if method == "batchEmbedContents":
        return wire.unary({"embeddings": [answers.embedding(each) for each in asked.requests]})
    stream, size = method == "streamGenerateContent", call.marks.get("size")
    events = answers.events(asked, model, kind, call.record.nonce, stream=stream, size=int(size) if size else None)
    if call.fault:
        events = call.fault.change_events(events)
    return _framed(call, events) if stream else wire.unary(events[0])


def _framed(call: Call, events: list[wire.Event]) -> Answer:
    gap = float(call.marks.get("gap", _GAP))
    as_sse = "alt=sse" in call.record.query.split("&") or (call.fault is not None and call.fault.forces_sse)
    return wire.sse(events, gap) if as_sse else wire.array(events, gap)
