"""What does a request body ask for, as far as limits and metrics need it?

The body itself is forwarded as it came, also when it is not JSON: the upstream answers that.  Whatever is not inline
media counts as text, with its JSON around it: system instruction, tools, schemas and history all cost input.

Where both spellings of a member, or one several times, say different things, nobody knows which of them the upstream
takes: what costs more is assumed.
"""

import re
from collections.abc import Sequence

import msgspec
from msgspec import Raw

from gateway.call import Demand
from gateway.dialects.gemini.wire import Content
from gateway.dialects.values import ABSENT, count_of, many
from gateway.framing import Legible, decoded, legible

MIN_MEDIA_BYTES = 512  # of a string that nobody could read around: less is no medium
SLICE_BYTES = 64 * 1024
HEAD_BYTES = 256


class Generation(msgspec.Struct, gc=False):
    """How the answer shall be."""

    max_output_tokens: Raw = ABSENT
    maxOutputTokens: Raw = ABSENT
    candidate_count: Raw = ABSENT
    candidateCount: Raw = ABSENT


class Configured(msgspec.Struct, gc=False):
    """The body of any action as far as it can mostly be read."""

    generation_config: Generation | None = None
    generationConfig: Generation | None = None

    generate_content_request: "Configured | None" = None
    generateContentRequest: "Configured | None" = None


class Body(Configured, gc=False):
    """The body of any action: countTokens wraps one, batchEmbedContents holds several."""

    contents: list[Content] | Content | None = None
    content: Content | None = None
    system_instruction: Content | None = None
    systemInstruction: Content | None = None
    generate_content_request: "Body | None" = None
    generateContentRequest: "Body | None" = None
    requests: "list[Body] | None" = None


_BODY = msgspec.json.Decoder(Body)
_CONFIGURED = msgspec.json.Decoder(Configured)
_ANY = msgspec.json.Decoder(Raw)

_MODALITIES = re.compile(
    rb'(?<!\\)"response_?modalities"\s*:\s*(?!\{)(\[(?:[^]"]|"(?:[^"\\]|\\.)*")*\]|"[^"]*"|[^],}\s]*)', re.DOTALL
)
_WORD = re.compile(rb'[^]\[\s",]+')
_NO_PICTURE = frozenset({b"text", b"audio", b"modality_unspecified", b"0", b"1", b"3", b"null"})  # also Google's enum
_LETTER = re.compile(rb"\\u00(4[1-9a-f]|5[0-9af]|6[1-9a-f]|7[0-9a])")
_LONG_S = re.compile(rb"\xc5\xbf|\\u017f")  # the one other letter that some readers of names take for one of ours
_MEDIUM = re.compile(rb'"(?:data|thought_?signature)"\s*+:\s*+"(?=[^"]{%d})' % MIN_MEDIA_BYTES, re.IGNORECASE)
_NO_IMAGE = re.compile(rb"(?:audio|video|application|text)(?:/|\\/)", re.IGNORECASE)


def read_body(body: bytes) -> Demand:
    """Say what a body asks for.  Never raises."""
    try:
        lean = legible(body)
        read = decoded(_BODY, lean.text)
    except msgspec.ValidationError:
        return _partly(body, lean)
    except ValueError:
        return _unread(body)
    media_bytes = images = other_media = 0
    several = _with_wrapped(read)
    for one in [*several, *read.requests] if read.requests else several:
        for content in _contents(one):
            for part in content:
                if signature := part.thought_signature or part.thoughtSignature:
                    media_bytes += lean.size(signature)
                if blob := part.inline:
                    media_bytes += lean.size(blob.data)
                    images += blob.is_image
                    other_media += not blob.is_image
    limit, candidates = _counts(several)
    return Demand(
        text_chars=len(body) - media_bytes,
        images=images,
        other_media=other_media,
        max_output_tokens=limit,
        candidates=candidates,
        image_output=asks_for_pictures(lean.text),
    )


def asks_for_pictures(text: bytes) -> bool:
    """Whether a body names pictures among what it wants back, in whatever spelling and wherever in it."""
    lowered = text.lower()
    if rb"\u00" in lowered:
        lowered = _LETTER.sub(lambda found: bytes((int(found[1], 16),)).lower(), lowered)
    if b"modalitie" not in lowered:
        return False
    return not all(
        _NO_PICTURE.issuperset(_WORD.findall(value)) for value in _MODALITIES.findall(_LONG_S.sub(b"s", lowered))
    )


def _partly(body: bytes, lean: Legible) -> Demand:
    """What a body asks for that is JSON, but not of the expected shape."""
    try:
        decoded(_ANY, lean.text)
    except ValueError:
        return _unread(body)
    try:
        read = decoded(_CONFIGURED, lean.text)
    except ValueError:
        read = Configured()
    demand = _unread(body)
    limit, candidates = _counts(
        [one for one in (read, read.generate_content_request, read.generateContentRequest) if one is not None]
    )
    return msgspec.structs.replace(
        demand,
        max_output_tokens=limit,
        candidates=candidates,
        image_output=asks_for_pictures(lean.text),
        unread=False,
    )


def _unread(body: bytes) -> Demand:
    """What can be said of a body that cannot be read: its media are still no text."""
    media_bytes = images = other_media = at = 0
    while at < len(body):
        found = _MEDIUM.search(body, at, at + SLICE_BYTES)
        if found is None:
            at += SLICE_BYTES - 2 * MIN_MEDIA_BYTES  # one may begin at the end of what was searched
            continue
        end = body.find(b'"', found.end())
        at = len(body) if end < 0 else end
        media_bytes += at - found.end()
        around = body[max(0, found.start() - HEAD_BYTES) : found.start()], body[at : at + HEAD_BYTES]
        other = any(_NO_IMAGE.search(text) for text in around)
        images += not other
        other_media += other
    return Demand(text_chars=len(body) - media_bytes, images=images, other_media=other_media, unread=True)


def _counts(several: Sequence[Configured]) -> tuple[int | None, int]:
    """The longest answer that is allowed, and how many are wanted."""
    limit, candidates = 0, 1
    for one in several:
        for config in (one.generation_config, one.generationConfig):
            if config is None:
                continue
            if raw := config.max_output_tokens:
                limit = max(limit, count_of(raw) or 0)
            if raw := config.maxOutputTokens:
                limit = max(limit, count_of(raw) or 0)
            if raw := config.candidate_count:
                candidates = max(candidates, count_of(raw) or 1)
            if raw := config.candidateCount:
                candidates = max(candidates, count_of(raw) or 1)
    return limit or None, candidates


def _with_wrapped(read: Body) -> list[Body]:
    if read.generate_content_request is read.generateContentRequest:  # none of the two
        return [read]
    return [one for one in (read, read.generate_content_request, read.generateContentRequest) if one is not None]


def _contents(body: Body) -> list[Content]:
    if body.content is body.system_instruction is body.systemInstruction:  # none of the three
        return many(body.contents)
    single = (body.content, body.system_instruction, body.systemInstruction)
    return [*many(body.contents), *(content for content in single if content)]
