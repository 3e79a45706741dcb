"""What does a request ask the sandbox for, beside its text?

A marker may stand anywhere in the body, so that it passes through a gateway like any other text:

* `sandbox-size: BYTES`: an answer of that size
* `sandbox-gap: SECONDS`: the time between the events of a stream
* `sandbox-cached: TOKENS`: so many tokens of the prompt are reported as read from a cache (not on Gemini's routes)
* `sandbox-task: SECONDS`: the time until a video is made
* `sandbox-fault: SPEC`: misbehaviour (`faults.py`); of a request for a video, `sandbox-poll-fault: SPEC` and
  `sandbox-content-fault: SPEC` are that of each poll and download of its task, which have no body
"""

import re
from collections.abc import Mapping

NAMES = ("size", "gap", "cached", "task", "fault", "poll-fault", "content-fault")
_MARKER = re.compile(rb'sandbox-(%b): ?([^\s"\\]+)' % "|".join(NAMES).encode())


def found(body: bytes) -> Mapping[str, str]:
    """The markers in a body, by a name of `NAMES`."""
    if b"sandbox-" not in body:
        return {}
    return {name.decode(): value.decode(errors="replace") for name, value in _MARKER.findall(body)}
