"""What does a request body ask for, as far as limits and metrics need it?

The body itself is forwarded as it came.  Whatever is not inline media counts as text, with its JSON around it:
instructions, tools, schemas and history all cost input.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import msgspec
from msgspec import Raw

from gateway.call import Demand, Operation
from gateway.dialects.openai.media import Media, may_hold_media
from gateway.dialects.openai.operations import CHAT_COMPLETIONS, COMPACT, COMPLETIONS, EMBEDDINGS, RESPONSES
from gateway.dialects.values import ABSENT, count_of, enum_token
from gateway.framing import decoded, legible, lenient

MAX_LIST_BYTES = 1024 * 1024  # of tools: a hundred of them with their schemas are a tenth of that
OWN_TOOLS = frozenset({b"FUNCTION", b"CUSTOM"})  # which the caller runs; any other may be run, and billed, by a server


class Terms(NamedTuple):
    """Where the body of an operation says what."""

    said: str  # what goes to the model
    bounds: tuple[str, ...] = ()  # of the output, in tokens: the smallest counts
    answers: tuple[str, ...] = ()  # how many are made: the largest counts


TERMS: Mapping[Operation, Terms] = {
    CHAT_COMPLETIONS: Terms("messages", ("max_completion_tokens", "max_tokens"), ("n",)),
    COMPLETIONS: Terms("prompt", ("max_tokens",), ("n", "best_of")),
    EMBEDDINGS: Terms("input"),
    RESPONSES: Terms("input", ("max_output_tokens",)),
    COMPACT: Terms("input", ("max_output_tokens",)),
}

LISTS = frozenset({COMPLETIONS, EMBEDDINGS})  # take several texts at once, also as tokens


class Tool(msgspec.Struct, gc=False):
    """What a model may call."""

    type: Raw = ABSENT


_MEMBERS = msgspec.json.Decoder(dict[str, Raw])
_LIST = msgspec.json.Decoder(list[Raw])
_TOOL = msgspec.json.Decoder(Tool)


def demand_of(operation: Operation, members: Mapping[str, Raw], body: bytes) -> Demand:
    """Say what a body asks for, whose members these are.  Never raises."""
    terms, media, unread = TERMS[operation], Media(), False
    if operation in LISTS or may_hold_media(body):
        try:
            media = _media_of(terms.said, members, body)
        except ValueError:  # too many values
            unread = True
    prompts = media.texts if operation is COMPLETIONS else 1
    return Demand(
        text_chars=len(body) - media.bytes,
        tokens=media.tokens,
        images=media.images,
        other_media=media.others,
        generates=operation is not EMBEDDINGS,
        max_output_tokens=min(_counts(members, terms.bounds), default=None),
        candidates=max([1, *_counts(members, terms.answers)]) * max(1, prompts),
        image_output=_wants_pictures(members),
        unread=unread,
    )


def serves_tools(members: Mapping[str, Raw]) -> bool:
    """Whether a tool is offered that may not be the caller's to run."""
    return not OWN_TOOLS.issuperset(_tools(members))


def _media_of(name: str, members: Mapping[str, Raw], body: bytes) -> Media:
    lean = legible(body)
    if lean.text is not body:
        read: dict[str, Raw] = decoded(_MEMBERS, lean.text)
        members = read
    media = Media(lean)
    media.take(members.get(name, ABSENT))
    return media


def _wants_pictures(members: Mapping[str, Raw]) -> bool:
    modalities = map(enum_token, _several(members, "modalities"))
    return b"IMAGE" in modalities or b"IMAGE_GENERATION" in _tools(members)


def _tools(members: Mapping[str, Raw]) -> list[bytes]:
    tools = (lenient(_TOOL, raw) for raw in _several(members, "tools"))
    return [enum_token(tool.type) if tool else b"" for tool in tools]


def _several(members: Mapping[str, Raw], name: str) -> list[Raw]:
    """The values of a list; of one that is too large nothing is known."""
    raw = members.get(name, ABSENT)
    return (lenient(_LIST, raw) or []) if len(raw) <= MAX_LIST_BYTES else [ABSENT]


def _counts(members: Mapping[str, Raw], names: Iterable[str]) -> list[int]:
    counts = (count_of(members.get(name, ABSENT)) for name in names)
    return [count for count in counts if count is not None]
