"""Every way a call can be refused or fail, and what the caller is told.

* GatewayError
  * Refused                    the caller can act on it
    - BadRequest          400  ConflictingKeys, ModelMissing
    - KeyMissing          401
    - KeyInvalid          401  unknown, revoked, expired: the same words
    - ModelNotAllowed     403
    - RouteUnknown        404
    - MethodNotAllowed    405
    - BodyTimeout         408
    - BodyTooLarge        413
    - UriTooLong          414
    - ContentType         415
    - HeadersTooLarge     431
    - RateLimited         429  carries `retry_after`
    - BudgetSpent         429  carries `retry_after`
  * Failed                     the caller can only try again
    - UpstreamUnreachable 502  nothing was sent: safe to retry
    - UpstreamBroke       502  broke off, or is not an answer: not retried
    - UpstreamError       502  answered with what cannot be passed on
    - UpstreamRefused     its  an error of the upstream's, passed on
    - UpstreamKeyRefused  502  our key or our balance, never the caller's
    - UpstreamTimeout     504
    - NotCached           504
    - Internal            500  a defect of ours
    - Overloaded          503  also Draining, StateLost, BreakerOpen
  * ClientGone            499  nobody is left to answer

The HTTP status, Google's status word, the reason and the outcome are facts of the class.  `in_google_shape` writes an
error as Google would, which is also how routes speak that belong to no dialect.
"""

import json
from collections.abc import Mapping
from typing import ClassVar

TYPES = "type.googleapis.com/google.rpc"


class GatewayError(Exception):
    """A call that ends without an answer of the upstream."""

    code: ClassVar[int]
    status: ClassVar[str]
    reason: ClassVar[str]
    outcome: ClassVar[str]

    def __init__(
        self, message: str, *, retry_after: int | None = None, metadata: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.retry_after = retry_after  # whole seconds
        self.metadata = dict(metadata or {})


class Refused(GatewayError):
    """The caller can act on it."""

    code, status, reason, outcome = 400, "INVALID_ARGUMENT", "BAD_REQUEST", "refused"


class BadRequest(Refused):
    """The request cannot be understood."""


class ConflictingKeys(Refused):
    """Two client keys that differ."""

    reason = "CONFLICTING_KEYS"

    def __init__(self) -> None:
        super().__init__("Two different API keys were sent. Send one, in x-goog-api-key.")


class ModelMissing(Refused):
    """The path names no model, as in the vendor's own sample."""

    reason = "MODEL_MISSING"

    def __init__(self) -> None:
        super().__init__(
            "The path names no model. Call /v1beta/models/{model}:generateContent, for example with gemini-2.5-flash."
        )


class KeyMissing(Refused):
    """No client key was sent."""

    code, status, reason, outcome = 401, "UNAUTHENTICATED", "KEY_MISSING", "unauthenticated"

    def __init__(self) -> None:
        super().__init__("API key not valid. Please pass a valid API key.")


class KeyInvalid(KeyMissing):
    """A key that opens nothing: malformed, unknown, revoked or expired."""

    reason = "KEY_INVALID"


class ModelNotAllowed(Refused):
    """The client's list of models does not hold this one."""

    code, status, reason = 403, "PERMISSION_DENIED", "MODEL_NOT_ALLOWED"


class RouteUnknown(Refused):
    """No such route."""

    code, status, reason = 404, "NOT_FOUND", "ROUTE_UNKNOWN"


class MethodNotAllowed(Refused):
    """The route exists, with another HTTP method."""

    code, reason = 405, "METHOD"

    def __init__(self, allow: str) -> None:
        super().__init__(f"This route takes {allow} only.")
        self.allow = allow


class BodyTimeout(Refused):
    """The request body did not arrive in time."""

    code, reason = 408, "BODY_TIMEOUT"


class BodyTooLarge(Refused):
    """The request body is over the limit."""

    code, reason = 413, "BODY_TOO_LARGE"

    def __init__(self, limit: int) -> None:
        super().__init__(f"The request body is larger than {limit} bytes. Send smaller pictures, or fewer of them.")


class UriTooLong(Refused):
    """The request target is over the limit."""

    code, reason = 414, "URI_TOO_LONG"


class ContentType(Refused):
    """A body that says it is not plain JSON."""

    code, reason = 415, "CONTENT_TYPE"


class HeadersTooLarge(Refused):
    """The request head is over the limit."""

    code, reason = 431, "HEADERS_TOO_LARGE"


class RateLimited(Refused):
    """A rate or the concurrency of the client is used up for now."""

    code, status, reason, outcome = 429, "RESOURCE_EXHAUSTED", "RATE_LIMITED", "limited"


class BudgetSpent(RateLimited):
    """A day's budget of the client is used up."""

    reason = "BUDGET_SPENT"


class Failed(GatewayError):
    """The caller can only try again."""

    code, status, reason, outcome = 503, "UNAVAILABLE", "OVERLOADED", "overloaded"


class UpstreamUnreachable(Failed):
    """No connection was made, so nothing was sent."""

    code, reason, outcome = 502, "UPSTREAM_UNREACHABLE", "upstream_broke"

    def __init__(self) -> None:
        super().__init__("The upstream could not be reached. Nothing was sent; please try again.")


class UpstreamBroke(Failed):
    """The answer broke off, or is not an answer."""

    code, reason, outcome = 502, "UPSTREAM_BROKE", "upstream_broke"

    def __init__(self, what: str = "The upstream's answer broke off.") -> None:
        super().__init__(f"{what} Please try again; the call may have been billed.")


class UpstreamError(Failed):
    """The upstream answered with what cannot be passed on."""

    code, reason, outcome = 502, "UPSTREAM_ERROR", "upstream_error"

    def __init__(self, what: str = "The upstream answered with what cannot be passed on.") -> None:
        super().__init__(f"{what} Please tell the gateway's operator.")


class UpstreamKeyRefused(Failed):
    """The upstream refused the gateway's own key, or its balance is spent."""

    code, reason, outcome = 502, "UPSTREAM_KEY_REFUSED", "upstream_error"

    def __init__(self) -> None:
        super().__init__(
            "The upstream refused the gateway itself. Your key is fine; please tell the gateway's operator."
        )


class UpstreamRefused(GatewayError):
    """An error of the upstream's, passed on with its own status and words."""

    code, status, reason, outcome = 502, "UNAVAILABLE", "UPSTREAM_ERROR", "upstream_error"  # said with its own status

    def __init__(self, code: int, body: bytes, retry_after: str) -> None:
        super().__init__(f"The upstream answered {code}.")
        self.upstream_status = code
        self.body = body
        self.retry_after_header = retry_after


class UpstreamTimeout(Failed):
    """The upstream did not finish within the call's deadline."""

    code, status, reason, outcome = 504, "DEADLINE_EXCEEDED", "UPSTREAM_TIMEOUT", "upstream_timeout"

    def __init__(self) -> None:
        super().__init__("The upstream did not answer in time. Please try again; the call may have been billed.")


class NotCached(Failed):
    """`only-if-cached` was asked for and nothing is cached."""

    code, status, reason, outcome = 504, "DEADLINE_EXCEEDED", "NOT_CACHED", "refused"

    def __init__(self) -> None:
        super().__init__("No cached answer is kept for this request. Ask again without only-if-cached.")


class Internal(Failed):
    """A defect of the gateway; the log says where."""

    code, status, reason = 500, "INTERNAL", "INTERNAL"

    def __init__(self) -> None:
        super().__init__("The gateway failed. Please tell its operator, with the x-request-id of this answer.")


class Overloaded(Failed):
    """More is held in memory than this worker may."""

    def __init__(
        self, message: str = "The gateway is busy. Please retry after 1 seconds.", retry_after: int = 1
    ) -> None:
        super().__init__(message, retry_after=retry_after)


class Draining(Overloaded):
    """This gateway is about to stop."""

    reason = "DRAINING"

    def __init__(self) -> None:
        super().__init__("This gateway is stopping. Please retry after 1 seconds.")


class StateLost(Overloaded):
    """The state store is away and the operator chose to refuse rather than to guess."""

    reason = "STATE_LOST"

    def __init__(self) -> None:
        super().__init__("The gateway cannot check limits right now. Please retry after 2 seconds.", retry_after=2)


class BreakerOpen(Overloaded):
    """The upstream is failing for this model, so it is left alone for a moment."""

    reason = "BREAKER_OPEN"

    def __init__(self, model: str, retry_after: int) -> None:
        super().__init__(f"The upstream is failing for {model}. Please retry after {retry_after} seconds.", retry_after)


class ClientGone(GatewayError):
    """The caller hung up; nobody is left to answer."""

    code, status, reason, outcome = 499, "CANCELLED", "CLIENT_GONE", "client_gone"

    def __init__(self) -> None:
        super().__init__("The caller hung up.")


def in_google_shape(error: GatewayError, client_name: str | None = None) -> bytes:
    """Write an error of ours as Google's API writes its own, so that Google's SDKs raise theirs and wait as told."""
    metadata = {**error.metadata, **({"client": client_name} if client_name else {})}
    details: list[dict[str, object]] = [
        {"@type": f"{TYPES}.ErrorInfo", "reason": error.reason, "domain": "tokenhot-gateway", "metadata": metadata}
    ]
    if error.retry_after is not None:
        details.append({"@type": f"{TYPES}.RetryInfo", "retryDelay": f"{error.retry_after}s"})
    said = {"code": error.code, "status": error.status, "message": error.message, "details": details}
    return json.dumps({"error": said}).encode()
