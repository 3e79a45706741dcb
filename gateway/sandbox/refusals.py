"""How does the vendor write errors?  In new-api's shape, on /v1/messages in Anthropic's; others exist for faults."""

from gateway.sandbox.log import Record
from gateway.sandbox.wire import Answer, Event, unary

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
_ANTHROPIC = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}
_BUSY = "当前分组上游负载已饱和\uff0c请稍后再试"


def refusal(status: int, message: str, record: Record, *, code: str = "") -> Answer:
    """An error of the relay itself, in the shape of the route."""
    if is_anthropic(record):
        return unary(anthropic_error(status, message, record), status=status)
    if is_task(record):
        return task_refusal(status, message, record, code=code)
    return middleware_refusal(status, message, record, code=code)


def middleware_refusal(
    status: int, message: str, record: Record, *, code: str = "", kind: str = "new_api_error"
) -> Answer:
    """An error from before the relay (key, model, path): OpenAI's shape on every route; `kind` is its `type`."""
    return unary(openai_error(message, record, code=code, kind=kind), status=status)


def google_refusal(status: int, seconds: str) -> Answer:
    """An error as Google writes it, with the wait it asks for."""
    error = {
        "code": status,
        "message": f"The sandbox was told to answer {status}.",
        "status": _GOOGLE.get(status, "UNKNOWN"),
        "details": [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": f"{seconds}s"}],
    }
    return unary({"error": error}, status=status)


def task_refusal(status: int, message: str, record: Record, *, code: str = "") -> Answer:
    """An error as new-api writes it on the routes of tasks: whatever a 429 was for, it says the same."""
    message = _BUSY if status == 429 else _signed(message, record)
    return unary({"code": code or "fail_to_fetch_task", "message": message, "data": None}, status=status)


def openai_error(message: str, record: Record, *, code: str, kind: str = "new_api_error") -> Event:
    """The body of an error in OpenAI's shape, as new-api fills it."""
    return {"error": {"message": _signed(message, record), "type": kind, "param": "", "code": code}}


def anthropic_error(status: int, message: str, record: Record) -> Event:
    """The body of an error in Anthropic's shape."""
    kind = _ANTHROPIC.get(status, "api_error")
    return {"type": "error", "error": {"type": kind, "message": _signed(message, record)}}


def is_anthropic(record: Record) -> bool:
    """Whether the route speaks Anthropic's language."""
    return record.path.startswith("/v1/messages")


def is_task(record: Record) -> bool:
    """Whether the route is one of the tasks'; downloads are not."""
    return record.path.startswith(("/v1/video/generations", "/v1/videos")) and not record.path.endswith("/content")


def _signed(message: str, record: Record) -> str:
    return f"{message} (request id: {record.nonce})"
