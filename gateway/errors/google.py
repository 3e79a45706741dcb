"""Errors as Google's API writes them, so that Google's SDKs raise their own exceptions and wait as asked.

The vendor speaks OpenAI's shape on Google's routes too; its message and code are kept and put into Google's.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

import msgspec

from gateway.errors.fault import Fault
from gateway.errors.tree import GatewayError

DOMAIN = "tokenhot-gateway"
TYPES = "type.googleapis.com/google.rpc"
MAX_MESSAGE_CHARS = 16_000

# google.rpc.Code by HTTP status, https://cloud.google.com/apis/design/errors.
STATUS_WORDS: Mapping[int, str] = {
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ABORTED",
    426: "FAILED_PRECONDITION",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    501: "UNIMPLEMENTED",
    502: "UNAVAILABLE",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
_WORD = re.compile(r"[A-Z_]{2,40}")
_REQUEST_ID = re.compile(r"\(request id: [^()]*\)\s*$")


class GoogleShape:
    """`{"error": {"code", "status", "message", "details"}}`."""

    def write(self, error: GatewayError, request_id: str = "", client: str | None = None) -> bytes:  # noqa: ARG002
        """With ErrorInfo, and with RetryInfo where there is a time to wait."""
        metadata = {**error.metadata, **({"client": client} if client else {})}
        details = [_error_info(error.reason, metadata)]
        if error.retry_after is not None:
            details.append({"@type": f"{TYPES}.RetryInfo", "retryDelay": f"{error.retry_after}s"})
        said = {"code": error.code, "status": _word_of(error.code), "message": error.message, "details": details}
        return json.dumps({"error": said}).encode()

    def pass_on(self, fault: Fault, request_id: str = "") -> bytes:  # noqa: ARG002  not in this shape
        if fault.shape == "google":
            return fault.body
        details = list(fault.details)
        if not details or (fault.quoted and fault.code not in {"", str(fault.number)}):
            details.append(_error_info("UPSTREAM_ERROR", {"upstream_code": fault.code} if fault.code else {}))
        message = _REQUEST_ID.sub("", fault.message).strip()[:MAX_MESSAGE_CHARS]  # some clients read numbers out of it
        message = message or f"The upstream answered {fault.status} and gave no readable reason."
        said = {"code": fault.status, "status": _word_for(fault), "message": message, "details": details}
        return msgspec.json.encode({"error": said})

    def ending(self, body: bytes) -> bytes:
        return b"data: " + body.replace(b"\r", b" ").replace(b"\n", b" ") + b"\n\n"

    def headers(self, error: GatewayError) -> list[tuple[bytes, bytes]]:  # noqa: ARG002  they obey RetryInfo
        return []


def _word_of(status: int) -> str:
    return STATUS_WORDS.get(status, "INVALID_ARGUMENT" if status < 500 else "INTERNAL")


def _word_for(fault: Fault) -> str:
    own = fault.number in (None, fault.status) and (fault.number or not fault.code or fault.quoted)
    return fault.word if own and _WORD.fullmatch(fault.word) else _word_of(fault.status)


def _error_info(reason: str, metadata: Mapping[str, str]) -> dict[str, Any]:
    return {"@type": f"{TYPES}.ErrorInfo", "reason": reason, "domain": DOMAIN, "metadata": metadata}


GOOGLE = GoogleShape()
