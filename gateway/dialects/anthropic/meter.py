"""What did an answer cost, is it complete, and may it be kept?

A meter sees a unary answer whole, and a stream event by event, by the names on which Anthropic's SDKs act; some relays
leave the names out, and then the data's own type stands for them.  Events, blocks and members that are not known are
passed over, and so are indices, which relays count in ways of their own.
"""

import msgspec
from msgspec import Raw

from gateway.call import Event, State, Usage
from gateway.dialects.anthropic.usage_reader import UsageReader
from gateway.dialects.links import Links
from gateway.dialects.values import ABSENT, count_of, is_empty
from gateway.framing import Legible, TooManyObjects, decoded, is_whole, legible, lenient

SLICE_CHARS = 16 * 1024
NORMAL_ENDS = frozenset({b"end_turn", b"stop_sequence"})
PLAIN_BLOCKS = frozenset({b"text", b"thinking", b"redacted_thinking"})  # any other says that a tool was used, or more


class Block(msgspec.Struct, gc=False):
    """A block of an answer, or what comes to one."""

    type: Raw = ABSENT
    text: Raw = ABSENT
    thinking: Raw = ABSENT
    partial_json: Raw = ABSENT
    input: Raw = ABSENT


class Message(msgspec.Struct, gc=False):
    """An answer: a unary one as a whole, or how a stream begins."""

    model: Raw = ABSENT
    content: Raw = ABSENT
    stop_reason: Raw = ABSENT
    usage: Raw = ABSENT


class Said(Message, gc=False):
    """Whatever is said: an event, a unary answer or an error."""

    type: Raw = ABSENT
    message: Raw = ABSENT
    content_block: Raw = ABSENT
    delta: Raw = ABSENT
    error: Raw = ABSENT
    input_tokens: Raw = ABSENT

    def is_error(self, kind: bytes) -> bool:
        """Whether it is an error, with its name or as bare JSON."""
        return kind == b"error" or (not kind and bool(self.error) and not is_empty(self.error))


_SAID = msgspec.json.Decoder(Said)
_MESSAGE = msgspec.json.Decoder(Message)
_BLOCK = msgspec.json.Decoder(Block)
_BLOCKS = msgspec.json.Decoder(list[Block])
_TEXT = msgspec.json.Decoder(str)

_NOTHING = Message()
_NO_BLOCK = Block()


class MessageMeter:
    """The meter of one message; `keeps`: the answer may be kept at all."""

    def __init__(self, *, keeps: bool) -> None:
        self.served_model = ""
        self._keeps = keeps
        self._usage = UsageReader()
        self._chars = 0  # answered, thoughts and inputs of tools too
        self._stop_reason = b""
        self._stopped = self._failed = False
        self._plain = True  # for all that is known
        self._links = Links()

    def see(self, event: Event) -> None:
        """See one whole JSON object of the answer.  Raises `ValueError` when it is not one."""
        read = _read(event.data)
        if read is None:
            self._plain = False
            return
        said, lean = read
        self._plain = self._plain and not lean.hides
        kind = event.name or _word(said.type)
        if said.is_error(kind):
            self._failed = True
        elif kind == b"message":
            self._begin(said, lean)
            self._end(said)
        elif kind == b"message_start":
            self._begin(lenient(_MESSAGE, said.message) or _NOTHING, lean)
        elif kind == b"content_block_start":
            self._take(lenient(_BLOCK, said.content_block) or _NO_BLOCK, lean)
        elif kind == b"content_block_delta":
            self._count(lenient(_BLOCK, said.delta) or _NO_BLOCK, lean)
        elif kind == b"message_delta":
            delta = lenient(_MESSAGE, said.delta) or _NOTHING
            self._end(Message(stop_reason=delta.stop_reason, usage=said.usage))
        elif kind == b"message_stop":
            self._stopped = True

    def _begin(self, message: Message, lean: Legible) -> None:
        self.served_model = self.served_model or lenient(_TEXT, message.model) or ""
        self._usage.see(message.usage, at_end=False)
        for block in lenient(_BLOCKS, message.content) or ():
            self._take(block, lean)

    def _take(self, block: Block, lean: Legible) -> None:
        self._plain = self._plain and _word(block.type) in PLAIN_BLOCKS
        self._count(block, lean)

    def _count(self, block: Block, lean: Legible) -> None:
        for raw in (block.text, block.thinking, block.partial_json, block.input):
            if raw:
                self._chars += max(0, lean.size(raw) - 2)  # without its quotes
        text = (lenient(_TEXT, block.text) or "") if self._keeps else ""
        for at in range(0, len(text), SLICE_CHARS):  # each search holds the interpreter until it is done
            self._links.see(text[at : at + SLICE_CHARS])

    def _end(self, message: Message) -> None:
        self._stop_reason = _word(message.stop_reason) or self._stop_reason
        self._usage.see(message.usage, at_end=True)

    @property
    def usage(self) -> Usage:
        """What has been seen so far; an estimate where the upstream says less than it has done."""
        return self._usage.usage(chars_out=self._chars)

    @property
    def state(self) -> State:
        """Complete when the message has stopped or says why it will."""
        if self._failed:
            return "failed"
        return "complete" if self._stopped or self._stop_reason else "open"

    @property
    def storable(self) -> bool:
        """Whether the answer ended normally and is all text, in which no link may be a picture."""
        is_whole_text = self._plain and not self._failed and not self._links.shown
        return self._keeps and is_whole_text and self._stop_reason in NORMAL_ENDS


class CountMeter:
    """The meter of a count of tokens, which costs none; `keeps`: the answer may be kept at all."""

    def __init__(self, *, keeps: bool) -> None:
        self.served_model, self.usage = "", Usage()
        self.state: State = "open"
        self._keeps = keeps

    def see(self, event: Event) -> None:
        """See the answer.  Raises `ValueError` when it is no JSON object."""
        if (read := _read(event.data)) is None:
            return
        said, _ = read
        if said.is_error(event.name or _word(said.type)):
            self.state = "failed"
        elif count_of(said.input_tokens) is not None:
            self.state = "complete"

    @property
    def storable(self) -> bool:
        """Whether there is a count."""
        return self._keeps and self.state == "complete"


def _read(data: bytes) -> tuple[Said, Legible] | None:
    """Read an object; None where it holds more values than are looked at.  Raises `ValueError`."""
    try:
        lean = legible(data, shows=True)
        return decoded(_SAID, lean.text), lean
    except TooManyObjects:
        if not is_whole(data):
            raise
        return None


def _word(raw: Raw) -> bytes:
    """A word of Anthropic's; nothing where it is null."""
    word = bytes(raw).strip(b'"')
    return b"" if word == b"null" else word
