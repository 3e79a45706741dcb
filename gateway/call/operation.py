"""What can be asked of the upstream?  One row of data an operation, in the table of its dialect.

Routes, the 405 of the router, limits, metering, cache and retries follow from the row.
"""

from typing import Literal

import msgspec


class Operation(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One operation of a dialect."""

    name: str  # the label `method` of metrics and records: generateContent, chatCompletions, ...
    http: tuple[str, ...]  # methods that are taken, the upstream's own first; any other is a 405
    takes: Literal["json", "multipart", "either", "nothing"] = "json"
    bills: Literal["tokens", "request", "task", "nothing"] = "nothing"
    pictures: bool = True  # an answer may hold some
    expects_usage: bool = False  # an answer without usage is counted as missing
    cacheable: bool = False
    cache_seconds: int | None = None  # kept no longer than that, whatever the client's own time is
    repeatable: bool = True  # may be sent again after a 429, 503 or 529; never what creates a task
    task: Literal["creates", "reads"] | None = None
    download: bool = False  # a file, passed on as it comes: not events, not whole, and not kept
    lists: bool = False  # answered from the upstream's own list of models
    optional: bool = False  # the upstream may not have it at all: its 404, 405 or 501 is remembered for a while
    upstream_headers: frozenset[bytes] = frozenset()  # of the caller's, that cross; `name-*` is an open list
    private_headers: frozenset[bytes] = frozenset()  # of such a list, that do not cross
    answer_headers: frozenset[str] = frozenset()  # of the upstream's, that come back
