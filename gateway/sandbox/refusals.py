"""How does the vendor write errors?  In new-api's shape on every route; Google's own shape exists for faults."""

from gateway.sandbox.wire import Answer, unary

_GOOGLE = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}


def refusal(status: int, message: str, nonce: str, *, code: str = "", kind: str = "new_api_error") -> Answer:
    """An error as new-api writes it; `kind` is its `type`."""
    text = f"{message} (request id: {nonce})"
    return unary({"error": {"message": text, "type": kind, "param": "", "code": code}}, status=status)


def google_refusal(status: int, seconds: str) -> Answer:
    """An error as Google writes it, with the wait it asks for."""
    error = {
        "code": status,
        "message": f"The sandbox was told to answer {status}.",
        "status": _GOOGLE.get(status, "UNKNOWN"),
        "details": [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": f"{seconds}s"}],
    }
    return unary({"error": error}, status=status)
