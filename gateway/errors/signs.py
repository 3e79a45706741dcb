"""In which shape does somebody read an error whose request has no route: a wrong path, or no request at all?

By what stands on the wire: the path that was tried, and headers that only one family of SDKs sends.
"""

import re
from collections.abc import Iterable

from gateway.errors.anthropic import ANTHROPIC
from gateway.errors.google import GOOGLE
from gateway.errors.openai import OPENAI
from gateway.errors.shape import ErrorShape
from gateway.errors.task import TASK

_GOOGLE_VERSION = re.compile(rb"/v1beta\b(?!/+openai/)")  # but for the path of its own imitation of OpenAI's
_OPENAI_TAIL = re.compile(
    rb".*/(?:(?:chat/)?completions|embeddings|responses(?:/.*)?|images/(?:generations|edits|variations)"
    rb"|audio/(?:transcriptions|translations|speech)|videos(?:/.*)?|dashboard/billing/.*|files|fine_tuning.*|fine-tunes"
    rb"|batches|assistants|threads|vector_stores|uploads|realtime|moderations|rerank|edits|conversations)/*"
)


def shape_for(path: bytes, header_names: Iterable[bytes]) -> ErrorShape:
    """The shape for a raw path, without its query, and the names of the request's headers in lower case."""
    names = frozenset(header_names)
    if b"/messages" in path or b"anthropic-version" in names:
        return ANTHROPIC
    _, _, behind_models = path.partition(b"/models/")
    names_action = b":" in behind_models or b"%3a" in behind_models.lower()
    if names_action or _GOOGLE_VERSION.search(path) or any(name.startswith(b"x-goog-") for name in names):
        return GOOGLE
    if b"/video/generations" in path:
        return TASK
    return OPENAI if path.startswith(b"/v1/") or _OPENAI_TAIL.fullmatch(path) else GOOGLE
