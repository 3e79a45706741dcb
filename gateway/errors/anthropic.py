"""Errors as Anthropic's API writes them: its SDKs take the class from the status, and the word from the body."""

import json
from collections.abc import Mapping

import msgspec

from gateway.errors.fault import Fault
from gateway.errors.shape import should_retry
from gateway.errors.tree import GatewayError

# HTTP status -> type, https://docs.anthropic.com/en/api/errors.
TYPES: Mapping[int, str] = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}


class AnthropicShape:
    """`{"type": "error", "error": {"type", "message"}, "request_id"}`."""

    def write(self, error: GatewayError, request_id: str = "", client: str | None = None) -> bytes:  # noqa: ARG002
        kind = "not_found_error" if error.reason == "NOT_CACHED" else _type_of(error.code)
        return json.dumps(_said(kind, error.message, request_id)).encode()

    def pass_on(self, fault: Fault, request_id: str = "") -> bytes:
        if fault.shape == "anthropic":
            return fault.body
        message = fault.message or f"The upstream answered {fault.status} and gave no readable reason."
        kind = "not_found_error" if fault.kind == "model" else _type_of(fault.status)
        return msgspec.json.encode(_said(kind, message, request_id))

    def ending(self, body: bytes) -> bytes:
        """An event that has a name: without it both SDKs would drop it and take the stream for whole."""
        return b"event: error\ndata: " + body.replace(b"\r", b" ").replace(b"\n", b" ") + b"\n\n"

    def headers(self, error: GatewayError) -> list[tuple[bytes, bytes]]:
        return should_retry(error)


def _type_of(status: int) -> str:
    return TYPES.get(status, "invalid_request_error" if status < 500 else "api_error")


def _said(kind: str, message: str, request_id: str) -> dict[str, object]:
    return {"type": "error", "error": {"type": kind, "message": message}, "request_id": request_id}


ANTHROPIC = AnthropicShape()
