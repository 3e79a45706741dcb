"""Every way a call can be refused or fail, and what the caller reads.

* GatewayError
  * Refused      the caller can act on it
    - 400 BadRequest, ConflictingKeys, ModelMissing    - 401 KeyMissing, KeyInvalid    - 403 ModelNotAllowed
    - 404 RouteUnknown, TaskUnknown    - 405 MethodNotAllowed    - 408 BodyTimeout    - 413 BodyTooLarge
    - 414 UriTooLong    - 415 ContentType    - 426 UpgradeRequired    - 431 HeadersTooLarge
    - 429 RateLimited, BudgetSpent
  * Failed       the caller can only try again
    - 502 UpstreamUnreachable (nothing was sent: safe to retry), UpstreamBroke, UpstreamError, UpstreamKeyRefused;
          UpstreamRefused keeps the upstream's own status
    - 504 UpstreamTimeout, NotCached    - 503 Overloaded, Draining, StateLost, BreakerOpen    - 500 Internal
  * ClientGone   499, nobody is left to answer

HTTP status, reason and outcome are facts of the class: one error is one place.  How callers' APIs write them is said by
their shapes, beside this module.
"""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar, Self

from gateway.errors.fault import Fault

IN_DOUBT = "The task may have been created, and billed; please do not send it again before you have looked."


class GatewayError(Exception):
    """A call that ends without an answer of the upstream."""

    code: ClassVar[int]
    reason: ClassVar[str]
    outcome: ClassVar[str]
    message: str = ""  # for the caller, where nothing more special is known
    hint: ClassVar[str] = ""  # what to do about it
    retryable: bool = True  # sent again as it is, the request may succeed
    own_headers: ClassVar[Sequence[tuple[bytes, bytes]]] = ()  # of each error of this kind

    def __init__(
        self, message: str = "", *, retry_after: int | None = None, metadata: Mapping[str, str] | None = None
    ) -> None:
        self.message = f"{message or self.message} {self.hint}".strip()
        self.retry_after = retry_after  # whole seconds
        self.metadata = dict(metadata or {})
        super().__init__(self.message)

    def leaves_task_in_doubt(self) -> None:
        """The request that failed so may have made a task all the same: whoever sends it again may pay twice."""
        said = self.message.removesuffix(self.hint) if self.retry_after is None else type(self).message
        self.message, self.retryable, self.retry_after = f"{said.strip()} {IN_DOUBT}", False, None

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """The header lines that this error alone carries."""
        wait = [] if self.retry_after is None else [(b"retry-after", b"%d" % self.retry_after)]
        return [*self.own_headers, *wait]


class Refused(GatewayError):
    """The caller can act on it."""

    code, reason, outcome = 400, "BAD_REQUEST", "refused"


class BadRequest(Refused):
    """The request cannot be understood."""


class ConflictingKeys(Refused):
    """Two client keys that differ."""

    reason = "CONFLICTING_KEYS"
    message = "Two different API keys were sent. Send one, in the header that your SDK has for it."


class ModelMissing(Refused):
    """No model is named: in the path, as in the vendor's own sample, or in the body."""

    reason = "MODEL_MISSING"
    message = "The path names no model. Call /v1beta/models/{model}:generateContent, for example with gemini-2.5-flash."


class KeyMissing(Refused):
    """No client key was sent."""

    code, reason, outcome = 401, "KEY_MISSING", "unauthenticated"
    message = "API key not valid. Please pass a valid API key."
    own_headers = ((b"www-authenticate", b"Bearer"),)  # RFC 9110, section 15.5.2


class KeyInvalid(KeyMissing):
    """A key that opens nothing: malformed, unknown, revoked or expired."""

    reason = "KEY_INVALID"


class ModelNotAllowed(Refused):
    """The client's list of models does not hold this one."""

    code, reason = 403, "MODEL_NOT_ALLOWED"

    def __init__(self, model: str) -> None:
        message = f"This key may not use {model}. Ask for it, or list the models to see which it may use."
        super().__init__(message, metadata={"model": model})


class RouteUnknown(Refused):
    """No such route, or no such model in the list."""

    code, reason = 404, "ROUTE_UNKNOWN"
    message = "No such route. Those of Gemini's, OpenAI's and Anthropic's APIs are served; /docs lists all routes."


class TaskUnknown(Refused):
    """No such task, or somebody else's: nobody learns which."""

    code, reason = 404, "TASK_UNKNOWN"
    message = "No such task. Its id is in the answer that created it, and only the client that created it may use it."


class MethodNotAllowed(Refused):
    """The route exists, with another HTTP method."""

    code, reason = 405, "METHOD"

    def __init__(self, allow: str) -> None:
        super().__init__(f"This route takes {allow} only.")
        self.allow = allow

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        return [(b"allow", self.allow.encode())]


class BodyTimeout(Refused):
    """The request did not arrive in time."""

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


class UpgradeRequired(Refused):
    """A WebSocket where some clients try one first: by this they go on over plain HTTP at once."""

    code, reason, message = 426, "UPGRADE", "WebSocket is not offered. Send the same as POST over HTTP/1.1."
    own_headers = ((b"upgrade", b"HTTP/1.1"), (b"connection", b"upgrade"))  # RFC 9110, section 15.5.22


class HeadersTooLarge(Refused):
    """The request head is over the limit."""

    code, reason = 431, "HEADERS_TOO_LARGE"


class RateLimited(Refused):
    """A rate or the concurrency of the client is used up for now."""

    code, reason, outcome = 429, "RATE_LIMITED", "limited"
    limit_headers: Sequence[tuple[bytes, bytes]] = ()  # what is left of the client's limits

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        return [*self.limit_headers, *super().headers]


class BudgetSpent(RateLimited):
    """A day's budget of the client is used up."""

    reason, retryable = "BUDGET_SPENT", False


class Failed(GatewayError):
    """The caller can only try again."""

    code, reason, outcome = 503, "OVERLOADED", "overloaded"


class UpstreamUnreachable(Failed):
    """No connection was made, so nothing was sent."""

    code, reason, outcome = 502, "UPSTREAM_UNREACHABLE", "upstream_broke"
    message = "The upstream could not be reached. Nothing was sent; please try again."


class UpstreamBroke(Failed):
    """The answer broke off, or is not an answer."""

    code, reason, outcome = 502, "UPSTREAM_BROKE", "upstream_broke"
    message, hint = "The upstream's answer broke off.", "Please try again; the call may have been billed."


class UpstreamError(Failed):
    """The upstream answered with what cannot be passed on."""

    code, reason, outcome = 502, "UPSTREAM_ERROR", "upstream_error"
    message, hint = "The upstream's answer cannot be passed on.", "Please tell the gateway's operator."
    retryable = False


class UpstreamRefused(UpstreamError):
    """An error of the upstream's, passed on with its own status and words."""

    def __init__(self, fault: Fault, *, content_range: str = "") -> None:
        """`content_range` is that of a 416: how long the file is of which too much was asked for."""
        super().__init__(f"The upstream answered {fault.status}.")
        self.fault, self.content_range = fault, content_range
        self.retryable = fault.kind != "model"

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        said = {b"retry-after": self.fault.retry_header, b"content-range": self.content_range}
        return [(name, value.encode("latin-1")) for name, value in said.items() if value]


class ModelUnknown(UpstreamError):
    """The upstream has no such model, and says so as if it were busy; its list says which it has."""

    code, hint = 404, ""

    def __init__(self, model: str, nearest: Sequence[str]) -> None:
        hint = f"Near it are {', '.join(nearest)}." if nearest else "List the models to see which there are."
        metadata = {"upstream_code": "model_not_found", "model": model}
        super().__init__(f"The upstream has no model {model}. {hint}", metadata=metadata)

    @classmethod
    def beside(cls, model: str, known: Iterable[str]) -> Self:
        """With the nearest of the names that there are."""
        return cls(model, difflib.get_close_matches(model, known, n=3, cutoff=0.4))


class UpstreamKeyRefused(Failed):
    """The upstream refused the gateway's own key, or its balance is spent."""

    code, reason, outcome = 502, "UPSTREAM_KEY_REFUSED", "upstream_error"
    message = "The upstream refused the gateway itself. Your key is fine; please tell the gateway's operator."
    retryable = False


class UpstreamTimeout(Failed):
    """The upstream did not finish within the call's deadline."""

    code, reason, outcome = 504, "UPSTREAM_TIMEOUT", "upstream_timeout"
    message, hint = "The upstream did not answer in time.", "Please try again; the call may have been billed."


class NotCached(Failed):
    """`only-if-cached` was asked for and nothing is cached."""

    code, reason, outcome = 504, "NOT_CACHED", "refused"
    message = "No cached answer is kept for this request. Ask again without only-if-cached."
    retryable = False


class Internal(Failed):
    """A defect of the gateway; the log says where."""

    code, reason = 500, "INTERNAL"
    message = "The gateway failed. Please tell its operator, with the x-request-id of this answer."


class Overloaded(Failed):
    """More is held in memory than this worker may."""

    message, wait = "The gateway is busy.", 1

    def __init__(self, message: str = "", *, retry_after: int | None = None) -> None:
        seconds = self.wait if retry_after is None else retry_after
        super().__init__(f"{message or self.message} Please retry after {seconds} seconds.", retry_after=seconds)


class Draining(Overloaded):
    """This gateway is about to stop."""

    reason, message = "DRAINING", "This gateway is stopping."


class StateLost(Overloaded):
    """The state store is unavailable and the operator chose to refuse rather than to guess."""

    reason, message, wait = "STATE_LOST", "The gateway cannot check limits right now.", 2


class BreakerOpen(Overloaded):
    """The upstream is failing for this model, so it is left alone for a moment."""

    reason = "BREAKER_OPEN"

    def __init__(self, model: str, retry_after: int) -> None:
        super().__init__(f"The upstream is failing for {model}.", retry_after=retry_after)


class ClientGone(GatewayError):
    """The caller hung up; nobody is left to answer."""

    code, reason, outcome = 499, "CLIENT_GONE", "client_gone"
    message = "The caller hung up."
