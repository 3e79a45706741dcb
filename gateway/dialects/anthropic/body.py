"""What does the body of a message ask for, as far as limits and metrics need it?

Bodies hold the whole history, megabytes at every turn.  Whatever is not media counts as text, with its JSON around it:
system prompt, tools, their inputs and results all cost input.  So does whatever has another shape than Anthropic's:
the upstream will refuse it.
"""

import re
from collections.abc import Mapping
from typing import NamedTuple

import msgspec
from msgspec import Raw

from gateway.call import Demand
from gateway.dialects.values import ABSENT, count_of
from gateway.framing import Legible, TooManyObjects, legible, lenient

MANY_BRACES = 50_000  # of which most stand in texts, or somebody sends millions of `{}`
HOLDS_MEDIA = (b'"source"', b'"redacted_thinking"')  # most histories hold neither, and are not read again
MAX_DEPTH = 2  # of blocks in blocks: a picture in a document in the result of a tool
CLIENT_TOOL = re.compile(rb'(?:null|"(?:custom|(?:bash|computer|memory|text_editor)_\d+)")?')  # any other runs upstream


class Source(msgspec.Struct, gc=False):
    """Where the medium of a block is."""

    type: Raw = ABSENT
    data: Raw = ABSENT
    content: Raw = ABSENT


class Block(msgspec.Struct, gc=False):
    """A piece of a message, of a tool's result or of a document."""

    type: Raw = ABSENT
    source: Raw = ABSENT
    content: Raw = ABSENT
    data: Raw = ABSENT


class Message(msgspec.Struct, gc=False):
    """A turn."""

    content: Raw = ABSENT


class Tool(msgspec.Struct, gc=False):
    """A tool that may be used."""

    type: Raw = ABSENT


_MESSAGES = msgspec.json.Decoder(list[Message])
_BLOCKS = msgspec.json.Decoder(list[Block])
_SOURCE = msgspec.json.Decoder(Source)
_TOOLS = msgspec.json.Decoder(list[Tool])

_TEXT = Source(type=Raw(b'"text"'))  # as is whatever has another shape


class Asked(NamedTuple):
    """What a body asks for."""

    demand: Demand
    repeatable: bool  # asked again, it is answered from the same inputs: no tool runs upstream, nothing is fetched


class Media:
    """What the messages of a body hold beside text."""

    def __init__(self) -> None:
        self.bytes = self.images = self.others = 0
        self.fetched = False  # some stand elsewhere
        self._lean = Legible(b"")

    def read(self, messages: Raw, *, crowded: bool) -> None:
        """Take all messages.  Raises `TooManyObjects`, which can be only where they are `crowded`."""
        if crowded:
            self._lean = legible(bytes(messages))
            messages = Raw(self._lean.text)
        for message in lenient(_MESSAGES, messages) or ():
            self._see(message.content)

    def _see(self, content: Raw, depth: int = 0) -> None:
        """Take a content: blocks, or a string, which is text."""
        if depth > MAX_DEPTH or bytes(memoryview(content)[:1]) != b"[":
            return
        for block in lenient(_BLOCKS, content) or ():
            kind = bytes(block.type)
            if kind == b'"image"':
                self._take(block.source, depth, is_image=True)
            elif kind == b'"document"':
                self._take(block.source, depth, is_image=False)
            elif kind == b'"redacted_thinking"':
                self.bytes += self._lean.size(block.data)
            elif block.content:
                self._see(block.content, depth + 1)

    def _take(self, raw: Raw, depth: int, *, is_image: bool) -> None:
        source = lenient(_SOURCE, raw) or _TEXT
        kind = bytes(source.type)
        if kind == b'"text"':
            return
        if kind == b'"content"':
            self._see(source.content, depth + 1)
            return
        self.bytes += self._lean.size(source.data)
        self.images += is_image
        self.others += not is_image
        self.fetched = self.fetched or kind != b'"base64"'


def read_body(body: bytes, members: Mapping[str, Raw]) -> Asked:
    """Say what a body asks for whose members are known.  Never raises."""
    limit = count_of(members.get("max_tokens", ABSENT))
    media, crowded = Media(), body.count(b"{") > MANY_BRACES
    try:
        if any(name in body for name in HOLDS_MEDIA):
            media.read(members.get("messages", ABSENT), crowded=crowded)
    except TooManyObjects:
        return Asked(Demand(text_chars=len(body), max_output_tokens=limit, unread=True), repeatable=False)
    demand = Demand(
        text_chars=len(body) - media.bytes,
        images=media.images,
        other_media=media.others,
        max_output_tokens=limit,
    )
    return Asked(demand, repeatable=not (crowded or media.fetched) and _runs_nothing(members))


def _runs_nothing(members: Mapping[str, Raw]) -> bool:
    """Whether no tool runs upstream."""
    nothing = {b"", b"null", b"[]"}
    if not {bytes(members.get(name, b"")) for name in ("mcp_servers", "container")} <= nothing:
        return False
    raw = members.get("tools", ABSENT)
    tools = lenient(_TOOLS, raw)
    if tools is None:
        return bytes(raw) in nothing
    return all(CLIENT_TOOL.fullmatch(bytes(tool.type)) for tool in tools)
