"""What stands in the content of a message?  A string, or blocks of the kinds that OpenAI and Anthropic have."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

from gateway.sandbox.asked import Media

Block = Mapping[str, Any]
Content = str | list[dict[str, Any]] | None

_TEXTS = frozenset({"text", "input_text", "output_text", "summary_text", "refusal"})
_PICTURES = frozenset({"image", "image_url", "input_image"})
_DOCUMENTS = frozenset({"document", "file", "input_file"})


def blocks(content: Content) -> Iterator[Block]:
    """The blocks of a message; those inside a tool's result too."""
    if isinstance(content, str):
        yield {"type": "text", "text": content}
        return
    for block in content or ():
        yield block
        if block.get("type") == "tool_result":
            yield from blocks(block.get("content"))


def text(content: Content) -> str:
    """What was said in a message, without the results of tools."""
    own = [{"type": "text", "text": content}] if isinstance(content, str) else content or []
    return " ".join(str(block.get("text") or "") for block in own if block.get("type", "text") in _TEXTS)


def counted(found: Iterable[Block]) -> Media:
    """What blocks hold.  What the model itself has written before (calls of tools, thinking) counts as text."""
    characters = pictures = sounds = documents = 0
    for block in found:
        kind = block.get("type", "text")
        pictures += kind in _PICTURES
        sounds += kind == "input_audio"
        documents += kind in _DOCUMENTS
        characters += len(str(block.get("text") or block.get("thinking") or ""))
        characters += length(block.get("input")) if kind == "tool_use" else 0
    return Media(characters=characters, pictures=pictures, sounds=sounds, documents=documents)


def length(value: Any) -> int:
    """Characters of a value as JSON; of nothing 0."""
    return len(msgspec.json.encode(value)) if value else 0
