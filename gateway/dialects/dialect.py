"""What must a way of speaking to the upstream be able to do?

A dialect is bytes in, bytes out and holds no state: the pipeline does the I/O.  It is given the whole request and
the client from the first day, so that no dialect needs a side door.
"""

from dataclasses import dataclass
from typing import Protocol

from gateway.asgi import Request
from gateway.call import Call, Demand, Meter
from gateway.config import Client
from gateway.errors import GatewayError


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """What a path asks for, before anybody is known."""

    method: str  # Google's name: generateContent, countTokens, listModels, ...
    raw_model: str = ""  # percent-encoded, as on the wire; each byte is one character
    openai_list: bool = False  # a list of models in OpenAI's shape


class Dialect(Protocol):
    """One way of speaking.  Whatever a caller sends raises a `Refused` error and nothing else."""

    @property
    def name(self) -> str:
        """The name in tests and reports."""

    def route(self, request: Request) -> Route | None:
        """Say what the path asks for; None when it is not of this dialect.  Raises `MethodNotAllowed`."""

    def model(self, route: Route) -> str:
        """Decode the model's name, once.  Raises `ModelMissing` or `BadRequest`."""

    def read_body(self, body: bytes) -> Demand:
        """Say what a body asks for.  Never raises; in a thread when the body is large."""

    def read(
        self,
        route: Route,
        model: str,
        request: Request,
        body: bytes,
        client: Client,
        *,
        deadline: float,
        demand: Demand | None = None,
    ) -> Call:
        """Understand one request; `demand` is what `read_body` said, where that was done already."""

    def meter(self, call: Call) -> Meter:
        """Make the reader of this call's answer."""

    def error(self, error: GatewayError, client_name: str | None) -> bytes:
        """Write an error of ours."""

    def redacted(self, body: bytes, secret: str) -> bytes:
        """The same body where it does not hold our key, in whatever spelling."""

    def normalize(self, status: int, content_type: str, body: bytes, secret: str) -> bytes:
        """Write an error of the upstream's, without our key; untouched where its shape is right."""

    def key_refused(self, status: int, body: bytes) -> bool:
        """Whether the upstream refused our own key or balance."""

    def retry_delay(self, body: bytes) -> float | None:
        """Seconds to wait, where an error body says so."""

    def upstream_code(self, body: bytes) -> str:
        """The vendor's own code of an error body; "" when there is none."""
