"""How does one API write its errors, so that its SDKs raise their own exceptions?"""

from typing import Protocol

from gateway.errors.fault import Fault
from gateway.errors.tree import GatewayError, UpstreamRefused


class ErrorShape(Protocol):
    """What a dialect's callers read; each implementation is a module beside this one."""

    def write(self, error: GatewayError, request_id: str = "", client: str | None = None) -> bytes:
        """Write an error of ours as a JSON body; `client` is the name of a known caller."""

    def pass_on(self, fault: Fault, request_id: str = "") -> bytes:
        """Write an error of the upstream's; untouched where it has this shape already."""

    def ending(self, body: bytes) -> bytes:
        """The event with which a stream in flight ends by this error."""

    def headers(self, error: GatewayError) -> list[tuple[bytes, bytes]]:
        """Header lines that these SDKs obey, beside those of the error itself."""


def should_retry(error: GatewayError) -> list[tuple[bytes, bytes]]:
    """`x-should-retry`, which OpenAI's and Anthropic's SDKs obey first: where it is known, and the upstream's own."""
    if not error.retryable:
        return [(b"x-should-retry", b"false")]
    if isinstance(error, UpstreamRefused) and error.fault.should_retry:
        return [(b"x-should-retry", error.fault.should_retry.encode())]
    return []
