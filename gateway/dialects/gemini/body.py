"""What does a request body ask for, as far as limits and metrics need it?

The body itself is forwarded as it came, also when it is not JSON: the upstream answers that.  Whatever is not inline
media counts as text, with its JSON around it: system instruction, tools, schemas and history all cost input.
"""

import re

import msgspec
from msgspec import Raw

from gateway.call import Asked
from gateway.dialects.gemini.wire import ABSENT, Content, decoded, many, number

MAX_OBJECTS = 20_000  # beyond, nothing is looked at: ten million `{}` would stall the loop and fill the memory


class Generation(msgspec.Struct, gc=False):
    """How the answer shall be."""

    max_output_tokens: Raw = ABSENT
    maxOutputTokens: Raw = ABSENT
    candidate_count: Raw = ABSENT
    candidateCount: Raw = ABSENT
    response_modalities: Raw = ABSENT
    responseModalities: Raw = ABSENT


class Body(msgspec.Struct, gc=False):
    """The body of any action: countTokens wraps one, batchEmbedContents holds several."""

    contents: list[Content] | Content | None = None
    content: Content | None = None
    system_instruction: Content | None = None
    systemInstruction: Content | None = None
    generation_config: Generation | None = None
    generationConfig: Generation | None = None
    generate_content_request: "Body | None" = None
    generateContentRequest: "Body | None" = None
    requests: "list[Body] | None" = None


_BODY = msgspec.json.Decoder(Body)
_IMAGE_OUTPUT = re.compile(rb'"image"|\b2\b', re.IGNORECASE)  # 2 is IMAGE in Google's enum


def read_body(body: bytes) -> Asked:
    """Say what a body asks for; one that cannot be read is all text."""
    try:
        read = Body() if crowded(body) else decoded(_BODY, body)
    except ValueError:
        read = Body()
    wrapped = read.generate_content_request or read.generateContentRequest or read
    media_bytes = images = other_media = 0
    for one in (wrapped, *(read.requests or ())):
        for part in (part for content in _contents(one) for part in content):
            media_bytes += len(part.thought_signature or part.thoughtSignature)
            if blob := part.inline:
                media_bytes += len(blob.data)
                images += blob.is_image
                other_media += not blob.is_image
    config = wrapped.generation_config or wrapped.generationConfig or Generation()
    return Asked(
        text_chars=len(body) - media_bytes,
        images=images,
        other_media=other_media,
        max_output_tokens=number(config.max_output_tokens or config.maxOutputTokens) or None,
        candidates=number(config.candidate_count or config.candidateCount) or 1,
        image_output=bool(_IMAGE_OUTPUT.search(config.response_modalities or config.responseModalities, 0, 256)),
    )


def crowded(body: bytes) -> bool:
    """Whether there may be more objects than are looked at.  `find` leaps over pictures; `count` sees each byte."""
    at = -1
    for _ in range(MAX_OBJECTS + 1):
        at = body.find(b"{", at + 1)
        if at < 0:
            return False
    return True


def _contents(body: Body) -> list[Content]:
    single = (body.content, body.system_instruction, body.systemInstruction)
    return [*many(body.contents), *(content for content in single if content)]
