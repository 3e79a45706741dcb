"""What can be asked in OpenAI's dialect, as the vendor serves it?"""

import re
from collections.abc import Mapping

from gateway.asgi import Request
from gateway.call import Operation
from gateway.errors import BadRequest

ASKED = ("POST",)
MAX_HEADER = 255
CROSS = frozenset({b"openai-beta", b"idempotency-key"})

CHAT_COMPLETIONS = Operation(
    name="chatCompletions", http=ASKED, bills="tokens", expects_usage=True, cacheable=True, upstream_headers=CROSS
)
COMPLETIONS = Operation(
    name="completions", http=ASKED, bills="tokens", expects_usage=True, cacheable=True, upstream_headers=CROSS
)
EMBEDDINGS = Operation(
    name="embeddings", http=ASKED, bills="tokens", expects_usage=True, cacheable=True, upstream_headers=CROSS
)
RESPONSES = Operation(
    name="responses", http=ASKED, bills="tokens", expects_usage=True, cacheable=True, upstream_headers=CROSS
)
COMPACT = Operation(
    name="responsesCompact",
    http=ASKED,
    bills="tokens",
    expects_usage=True,
    optional=True,
    upstream_headers=CROSS,
)

# By the end of the path, the same whatever stands before it.
CHAT_TAILS: Mapping[str, Operation] = {
    "chat/completions": CHAT_COMPLETIONS,
    "completions": COMPLETIONS,
    "embeddings": EMBEDDINGS,
}
RESPONSES_TAILS: Mapping[str, Operation] = {"responses": RESPONSES, "responses/compact": COMPACT}

_PRINTABLE = re.compile(rf"[ -~]{{0,{MAX_HEADER}}}")


def check_headers(operation: Operation, request: Request) -> None:
    """Look at what crosses of a request's headers.  Raises `BadRequest`: dropping one would change what is asked."""
    for name in operation.upstream_headers:
        if not _PRINTABLE.fullmatch(request.headers.get(name)):
            raise BadRequest(f"The header {name.decode()} is at most {MAX_HEADER} printable ASCII characters.")
