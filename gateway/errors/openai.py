"""Errors as OpenAI's API writes them.

`type` and `code` are OpenAI's own words where its SDKs or well-known clients act by them; else the code is our
reason in lower case.
"""

import json
from collections.abc import Mapping
from typing import Any

import msgspec

from gateway.errors.fault import Fault
from gateway.errors.shape import should_retry
from gateway.errors.tree import GatewayError, ModelUnknown

INVALID, SERVER = "invalid_request_error", "server_error"

# Reason -> type and code.  `insufficient_quota` is final for those who would otherwise try again at once.
WORDS: Mapping[str, tuple[str, str]] = {
    "KEY_MISSING": (INVALID, "invalid_api_key"),
    "KEY_INVALID": (INVALID, "invalid_api_key"),
    "RATE_LIMITED": ("requests", "rate_limit_exceeded"),
    "BUDGET_SPENT": ("insufficient_quota", "insufficient_quota"),
    "TASK_UNKNOWN": (INVALID, "task_not_exist"),
}
ABOUT_THE_MODEL = frozenset({"MODEL_MISSING", "MODEL_NOT_ALLOWED", "MODEL_UNPRICED"})


class OpenAIShape:
    """`{"error": {"message", "type", "param", "code"}}`."""

    def write(self, error: GatewayError, request_id: str = "", client: str | None = None) -> bytes:  # noqa: ARG002
        return json.dumps({"error": error_object(error)}).encode()

    def pass_on(self, fault: Fault, request_id: str = "") -> bytes:  # noqa: ARG002  not in this shape
        return fault.body if fault.shape == "openai" else msgspec.json.encode({"error": fault_object(fault)})

    def ending(self, body: bytes) -> bytes:
        return b"data: " + body.replace(b"\r", b" ").replace(b"\n", b" ") + b"\n\n"

    def headers(self, error: GatewayError) -> list[tuple[bytes, bytes]]:
        return should_retry(error)


def error_object(error: GatewayError) -> dict[str, Any]:
    """An error of ours, as the member `error`."""
    word = error.metadata.get("upstream_code") or error.reason.lower()
    kind, code = WORDS.get(error.reason, (INVALID if error.code < 500 else SERVER, word))
    if error.reason == "RATE_LIMITED" and error.metadata.get("limit", "").startswith("tokens"):
        kind = "tokens"
    if error.reason == "NOT_CACHED":
        kind = INVALID
    param = "model" if error.reason in ABOUT_THE_MODEL or isinstance(error, ModelUnknown) else None
    return {"message": error.message, "type": kind, "param": param, "code": code}


def fault_object(fault: Fault) -> dict[str, Any]:
    """An error of the upstream's, as the member `error`."""
    message = fault.message or f"The upstream answered {fault.status} and gave no readable reason."
    kind = "requests" if fault.status == 429 else INVALID if fault.status < 500 else SERVER
    return {"message": message, "type": kind, "param": None, "code": fault.code or "upstream_error"}


OPENAI = OpenAIShape()
