"""Calls as the pipeline makes them, by the facts that a test cares about."""

from typing import Any

from msgspec import structs

from gateway.asgi.headers import Headers
from gateway.asgi.request import Request
from gateway.call import Call, Demand, Dialect, Plan, Route
from gateway.config import Client
from gateway.dialects import Router
from gateway.dialects.gemini import GEMINI, LIST_MODELS, ROOT
from gateway.dialects.gemini.operations import ACTIONS
from gateway.pipeline.pipeline import call_of


def request_for(http_method: str = "POST", raw_path: bytes = b"/", query: bytes = b"", **headers: str) -> Request:
    """The head of a request; names of headers are written with underscores."""
    lines = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return Request(
        http_method=http_method, raw_path=raw_path, query=query, headers=Headers(lines), request_id="asked-by-a-test"
    )


def understood(dialect: Dialect, request: Request, body: bytes, client: Client, *, deadline: float = 9.0) -> Call:
    """Go through a dialect as the pipeline does; raises what it raises."""
    route = Router([dialect]).find(request)
    if route.refusal is not None:
        raise route.refusal()
    return call_of(route, dialect.plan(route, request, body), request, body, client=client, deadline=deadline)


def call_for(client: Client, **facts: Any) -> Call:
    """A call in Google's dialect: `method`, `model`, `query`, `accept`, `body`, `stream`, `demand`, `deadline`, ..."""
    method, model = facts.pop("method", "generateContent"), facts.pop("model", "gemini-2.5-flash")
    operation = ACTIONS.get(method, LIST_MODELS)
    target = ROOT if operation.lists else f"{ROOT}/{model}:{method}"
    route = Route(dialect=GEMINI, operation=operation, target=target, model=model)
    demand = structs.replace(facts.pop("demand", Demand()), generates=operation.expects_usage)
    stream = facts.pop("stream", method == "streamGenerateContent")
    plan = Plan(model=model, stream=stream, query=facts.pop("query", ""), demand=demand)
    headers = {name: facts.pop(name) for name in ("accept", "cache_control") if name in facts}
    body, deadline = facts.pop("body", b"{}"), facts.pop("deadline", 0.0)
    request = request_for(**headers)
    call = call_of(route, plan, request, body, client=client, deadline=deadline)
    assert facts.keys() <= {"request_id"}, facts
    return Call(**{name: getattr(call, name) for name in Call.__struct_fields__} | facts)
