"""What can be asked in OpenAI's dialect, as the vendor serves it?"""

import re
from collections.abc import Mapping

from gateway.asgi import Request
from gateway.call import Operation
from gateway.errors import BadRequest

ASKED = ("POST",)
MAX_HEADER = 255
DASHSCOPE_EVENTS = b"x-dashscope-sse"
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

# These are paid for as soon as they are sent.  Those sold by the picture or the second report no usage.
IMAGES_GENERATIONS = Operation(
    name="imagesGenerations",
    http=ASKED,
    bills="tokens",
    cacheable=True,
    repeatable=False,
    upstream_headers=CROSS | {DASHSCOPE_EVENTS},
)
IMAGES_EDITS = Operation(
    name="imagesEdits",
    http=ASKED,
    takes="either",
    bills="tokens",
    cacheable=True,
    repeatable=False,
    upstream_headers=CROSS,
)
TRANSCRIPTIONS = Operation(
    name="audioTranscriptions",
    http=ASKED,
    takes="multipart",
    bills="tokens",
    pictures=False,
    repeatable=False,
    upstream_headers=CROSS,
)
TRANSLATIONS = Operation(
    name="audioTranslations",
    http=ASKED,
    takes="multipart",
    bills="tokens",
    pictures=False,
    repeatable=False,
    upstream_headers=CROSS,
)
SPEECH = Operation(
    name="audioSpeech", http=ASKED, bills="tokens", pictures=False, repeatable=False, upstream_headers=CROSS
)

# By the end of the path, the same whatever stands before it.
CHAT_TAILS: Mapping[str, Operation] = {
    "chat/completions": CHAT_COMPLETIONS,
    "completions": COMPLETIONS,
    "embeddings": EMBEDDINGS,
}
RESPONSES_TAILS: Mapping[str, Operation] = {"responses": RESPONSES, "responses/compact": COMPACT}
IMAGES_TAILS: Mapping[str, Operation] = {"images/generations": IMAGES_GENERATIONS, "images/edits": IMAGES_EDITS}
AUDIO_TAILS: Mapping[str, Operation] = {
    "audio/transcriptions": TRANSCRIPTIONS,
    "audio/translations": TRANSLATIONS,
    "audio/speech": SPEECH,
}

_PRINTABLE = re.compile(rf"[ -~]{{0,{MAX_HEADER}}}")


def check_headers(operation: Operation, request: Request) -> None:
    """Look at what crosses of a request's headers.  Raises `BadRequest`: dropping one would change what is asked."""
    for name in operation.upstream_headers:
        if not _PRINTABLE.fullmatch(request.headers.get(name)):
            raise BadRequest(f"The header {name.decode()} is at most {MAX_HEADER} printable ASCII characters.")
    if DASHSCOPE_EVENTS in operation.upstream_headers and request.headers.get(DASHSCOPE_EVENTS) not in {"", "enable"}:
        raise BadRequest("The header x-dashscope-sse is `enable`, or it is left out.")
