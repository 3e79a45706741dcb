"""What went wrong at the upstream, in one value, whatever shape its error had?"""

from typing import Any, Literal

import msgspec

# Our own key refused, our balance spent, too busy, a model that it has not, anything else.
FaultKind = Literal["key", "balance", "overloaded", "model", "other"]
ShapeName = Literal["google", "openai", "anthropic", "task", ""]


class Fault(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An error of the upstream's, without our key in any spelling."""

    status: int  # HTTP's
    kind: FaultKind = "other"
    code: str = ""  # the vendor's own word, or the number of the error that it quotes
    message: str = ""  # "" where nothing can be read
    details: list[Any] = msgspec.field(default_factory=list)  # Google's
    word: str = ""  # Google's status, where the body has one
    number: int | None = None  # the code, where it is one
    quoted: bool = False  # what is said here stood within the text of another error
    retry_after: float | None = None  # seconds that are asked for, by header or by Google's RetryInfo
    retry_header: str = ""  # the header's own value, where it is a good one
    should_retry: str = ""  # the header's `true` or `false`
    shape: ShapeName = ""  # of the body: it may pass as it is to callers who expect this one
    body: bytes = b""
