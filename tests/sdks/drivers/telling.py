"""What is a driver given, and how does it tell what its SDK saw?

Its one argument is a JSON object: `url`, the gateway's, and `keys`, a client key for each part it plays.  It prints one
line, a JSON object that holds what each case returned, or `{"error": ...}` where the SDK raised.
"""

import json
import sys
from collections.abc import Callable, Iterable
from typing import Any

CHAT_MODEL, CLAUDE_MODEL, EMBEDDING_MODEL = "gpt-5.4-mini", "claude-opus-4-6", "text-embedding-3-small"
BUSY, CUT = "sandbox-fault: 503 ", "sandbox-gap: 0.1 sandbox-fault: cut "  # the gap lets the head out first
RED_SQUARE = "iVBORw0KGgoAAAANSUhEUgAAAAQAAAAECAIAAAAmkwkpAAAAEElEQVR4nGP4z8AARwzEcQCukw/x0F8jngAAAABJRU5ErkJggg=="
PLACE = {"type": "object", "properties": {"place": {"type": "string"}}, "required": ["place"]}

Seen = dict[str, Any]


def given() -> tuple[str, dict[str, str]]:
    """The gateway's URL, and the key for each part: good, narrow, limited, spent, busy, cut, wrong."""
    read = json.loads(sys.argv[1])
    return read["url"], read["keys"]


def tell(cases: Iterable[Callable[[], Seen]]) -> None:
    """Run every case and print what they saw."""
    print(json.dumps({case.__name__: _seen(case) for case in cases}, default=str))  # noqa: T201 - the driver's answer


def raised(call: Callable[[], Any]) -> Seen:
    """What an error shows to a caller who catches it.  Fails when there is none."""
    try:
        call()
    except Exception as error:  # noqa: BLE001 - whatever the SDK raises is what is asked for
        return shown(error)
    raise AssertionError("nothing was raised")


def drained(events: Iterable[Any]) -> Seen:
    """How many events of a stream came, and the error that ended it."""
    count = 0
    try:
        for _ in events:
            count += 1
    except Exception as error:  # noqa: BLE001
        return {"events": count, "error": shown(error)}
    return {"events": count, "error": None}


def shown(error: BaseException) -> Seen:
    """An error's classes, most special first, and what it says of itself."""
    names = ("status_code", "code", "type", "request_id", "message")
    said = {name: getattr(error, name, None) for name in names}
    headers = getattr(getattr(error, "response", None), "headers", {})
    classes = [kind.__name__ for kind in type(error).__mro__]
    return {"classes": classes, **said, "retry_after": headers.get("retry-after")}


def _seen(case: Callable[[], Seen]) -> Seen:
    try:
        return case()
    except Exception as error:  # noqa: BLE001
        return {"error": shown(error)}
