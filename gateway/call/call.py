"""What flows through the pipeline: where a request leads, what it plans, and what is asked of the upstream.

Plain values only.  A *route* is what the head alone says, a *plan* what the body adds, a *call* is both, for a client.
"""

from collections.abc import Callable

import msgspec

from gateway.call.operation import Operation
from gateway.call.protocols import Dialect
from gateway.call.usage import Demand
from gateway.config import Client
from gateway.errors import GatewayError


class Route(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What the head of a request alone says."""

    dialect: Dialect
    operation: Operation
    target: str  # the upstream's path, made of constants and checked values
    model: str | None = None  # named by the path, decoded
    task: str | None = None  # an id that must belong to the client
    refusal: Callable[[], GatewayError] | None = None  # what is wrong with it, for those who may call


class Plan(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What the body and the query add."""

    model: str  # "" for lists
    stream: bool = False
    query: str = ""  # what of it crosses
    demand: Demand = Demand()
    identity: bytes | None = None  # for the cache key, where it is not the body
    content_type: str = ""  # of the body as it goes up, where it is not JSON
    cacheable: bool = True  # an answer could be kept, as far as this request decides it


class UpstreamRequest(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What of a call reaches the upstream beside our key and the request's id; the cache's key is made of just this."""

    method: str
    target: str  # path and query
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""


class Call(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One request, understood."""

    client: Client
    route: Route
    plan: Plan
    upstream: UpstreamRequest
    request_id: str
    deadline: float  # on the loop's clock, seconds
    cache_control: str = ""  # the caller's, lower case

    @property
    def operation(self) -> Operation:
        return self.route.operation

    @property
    def model(self) -> str:
        return self.plan.model

    @property
    def stream(self) -> bool:
        return self.plan.stream
