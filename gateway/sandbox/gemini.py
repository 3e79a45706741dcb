"""What does the vendor answer on Gemini's routes?  The content of an answer is in `answers.py`."""

import re
from collections.abc import Mapping
from urllib.parse import parse_qsl

from gateway.sandbox import answers, catalogue, question, usage, wire
from gateway.sandbox.call import Call
from gateway.sandbox.refusals import middleware_refusal
from gateway.sandbox.wire import Answer, Event

ROUTE = re.compile(r"/v1beta/models(?:/(?P<model>[^/:]*)(?::(?P<method>[A-Za-z]+))?)?")


def answer(call: Call, models: Mapping[str, str]) -> Answer:
    """The answer to a call whose path matches `ROUTE`.  `ValueError` when it cannot be understood."""
    route = ROUTE.fullmatch(call.record.path)
    model, method = (route["model"], route["method"]) if route else (None, None)
    if model is None:
        query = dict(parse_qsl(call.record.query))
        return wire.unary(catalogue.page(models, query.get("pageSize", ""), query.get("pageToken", "")))
    call.record.model = model
    if (kind := models.get(model)) is None:
        message = f"No available channel for model {model} under group default"
        return middleware_refusal(503, message, call.record, code="model_not_found")
    if method is None:
        return wire.unary(catalogue.entry(model, kind))
    return _called(call, model, kind, method)


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
    stream = call.record.stream = method == "streamGenerateContent"
    events = answers.events(asked, model, kind, call.record.nonce, stream=stream, size=call.size)
    call.record.tokens, call.record.pictures = _kinds(events[-1]), _pictures(events[-1])
    if call.fault:
        events = call.fault.change_events(events)
    return _framed(call, events) if stream else wire.unary(events[0], usage=events[0].get("usageMetadata"))


def _framed(call: Call, events: list[Event]) -> Answer:
    as_sse = "alt=sse" in call.record.query.split("&") or (call.fault is not None and call.fault.forces_sse)
    return wire.sse(events, call.gap) if as_sse else wire.array(events, call.gap)


def _kinds(last: Event) -> dict[str, int]:
    counts = last["usageMetadata"]
    return {
        "input": counts["promptTokenCount"],
        "cached": 0,
        "output": counts["candidatesTokenCount"],
        "thoughts": 0,
        "total": counts["totalTokenCount"],
    }


def _pictures(last: Event) -> int:
    made = {each["modality"]: each["tokenCount"] for each in last["usageMetadata"]["candidatesTokensDetails"]}
    return int(made.get("IMAGE", 0) // usage.PICTURE)
