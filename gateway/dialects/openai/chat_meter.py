"""What did a chat completion cost, is it complete, and may it be kept?

The answer is one JSON object, or one an event.  A shape that is not expected is never an error, since the answer itself
must pass; only what is not a JSON object at all is.  Complete is an answer each of whose choices gives a reason for its
end; `[DONE]` proves nothing, since relays write it behind what was cut, too.
"""

from collections.abc import Iterable, Sequence

import msgspec
from msgspec import Raw

from gateway.call import Event, State, Usage
from gateway.dialects.openai.answered import Answered
from gateway.dialects.openai.usage import Counts, chat_counts, usage_at_end, usage_of
from gateway.dialects.values import ABSENT, count_of, enum_token, is_empty
from gateway.framing import Legible, TooManyObjects, decoded, is_whole, legible, lenient


class Function(msgspec.Struct, gc=False):
    """What a tool is called with."""

    arguments: Raw = ABSENT
    input: Raw = ABSENT


class ToolCall(msgspec.Struct, gc=False):
    """A call of a tool."""

    function: Function | None = None
    custom: Function | None = None


class Message(msgspec.Struct, gc=False):
    """A turn of the model, or what an event adds to it."""

    content: Raw = ABSENT
    reasoning_content: Raw = ABSENT
    reasoning: Raw = ABSENT
    refusal: Raw = ABSENT
    tool_calls: Raw = ABSENT
    function_call: Raw = ABSENT
    images: Raw = ABSENT


class Ending(msgspec.Struct, gc=False):
    """One of the answers asked for, as far as it can mostly be read."""

    index: Raw = ABSENT
    finish_reason: Raw = ABSENT


class Choice(Ending, gc=False):
    """One whose message has the expected shape."""

    delta: Message | None = None
    message: Message | None = None
    text: Raw = ABSENT  # of a completion


class Envelope(msgspec.Struct, gc=False):
    """An answer as far as it can always be read."""

    usage: Raw = ABSENT
    model: Raw = ABSENT
    error: Raw = ABSENT


class Loose(Envelope, gc=False):
    """An answer whose choices are a list, at least."""

    choices: list[Raw] | None = None


class Answer(Envelope, gc=False):
    """An answer whose choices have the expected shape."""

    choices: list[Choice] | None = None


_ANSWER = msgspec.json.Decoder(Answer)
_LOOSE = msgspec.json.Decoder(Loose)
_ENVELOPE = msgspec.json.Decoder(Envelope)
_CHOICE = msgspec.json.Decoder(Choice)
_ENDING = msgspec.json.Decoder(Ending)
_FUNCTION = msgspec.json.Decoder(Function)
_TOOL_CALLS = msgspec.json.Decoder(list[ToolCall])
_LIST = msgspec.json.Decoder(list[Raw])
_TEXT = msgspec.json.Decoder(str)


class ChatMeter:
    """The meter of one call, of chat completions or completions.

    `choices`: so many answers were asked for; `pictures`: each should bring one; `keeps`: they may be kept at all.
    """

    def __init__(self, *, choices: int = 1, pictures: bool = False, keeps: bool = True) -> None:
        self.served_model = ""
        self._asked, self._pictures, self._keeps = choices, pictures, keeps
        self._counts: Counts | None = None
        self._ends: dict[int, bytes] = {}  # reasons by choice; b"" while it goes on
        self._answered: dict[int, Answered] = {}  # by choice
        self._failed = self._doubtful = False

    def see(self, event: Event) -> None:
        """See one whole JSON object of the answer.  Raises `ValueError` when it is not one."""
        try:
            lean = legible(event.data, shows=True)
            answer, choices = _read(lean.text)
        except TooManyObjects:
            if not is_whole(event.data):
                raise
            self._doubtful = True
            self._counts = chat_counts(usage_at_end(event.data)) or self._counts
            return
        self._doubtful |= lean.hides
        if answer.usage:
            self._counts = chat_counts(answer.usage) or self._counts
        if answer.model and not self.served_model:
            self.served_model = lenient(_TEXT, answer.model) or ""
        if answer.error and not is_empty(answer.error):
            self._failed = True
        for position, choice in enumerate(choices):
            self._take(position, choice, lean)

    def _take(self, position: int, choice: Ending, lean: Legible) -> None:
        index = count_of(choice.index)
        key = position if index is None else index
        self._ends[key] = enum_token(choice.finish_reason) or self._ends.get(key, b"")
        if not isinstance(choice, Choice):
            self._doubtful = True
            return
        if (answered := self._answered.get(key)) is None:
            answered = self._answered[key] = Answered(keeps=self._keeps)
        answered.show(choice.text, lean)
        if message := choice.delta or choice.message:
            _take_message(answered, message, lean)

    @property
    def usage(self) -> Usage:
        """What has been seen so far."""
        answered = self._answered.values()
        images, chars = sum(one.images for one in answered), sum(one.chars for one in answered)
        return usage_of(self._counts, images_out=images, chars_out=chars)

    @property
    def state(self) -> State:
        """Complete when every choice has ended."""
        if self._failed:
            return "failed"
        return "complete" if self._ends and all(self._ends.values()) else "open"

    @property
    def storable(self) -> bool:
        """Whether as many choices as were asked for ended normally, and no picture may be a link."""
        normal = self._keeps and len(self._ends) == self._asked and {b"STOP"}.issuperset(self._ends.values())
        return normal and not (self._failed or self._doubtful or any(map(self._may_link, self._answered.values())))

    def _may_link(self, answered: Answered) -> bool:
        return answered.by_reference or answered.links_pictures(expected=self._pictures)


def _take_message(answered: Answered, message: Message, lean: Legible) -> None:
    answered.show(message.content, lean)
    for raw in (message.reasoning_content or message.reasoning, message.refusal, *_arguments(message)):
        if raw:
            answered.count(raw, lean)
    for picture in lenient(_LIST, message.images) or []:
        answered.picture(picture)


def _arguments(message: Message) -> Iterable[Raw]:
    """What the tools of a message are called with."""
    if message.function_call and (function := lenient(_FUNCTION, message.function_call)):
        yield function.arguments
    for call in lenient(_TOOL_CALLS, message.tool_calls) or []:
        if function := call.function or call.custom:
            yield function.arguments or function.input


def _read(text: bytes) -> tuple[Envelope, Sequence[Ending]]:
    """Read what can be read of an answer."""
    try:
        answer = decoded(_ANSWER, text)
    except msgspec.ValidationError:
        pass
    else:
        return answer, answer.choices or []
    try:
        loose = decoded(_LOOSE, text)
    except msgspec.ValidationError:
        return decoded(_ENVELOPE, text), []
    endings = (lenient(_CHOICE, raw) or lenient(_ENDING, raw) for raw in loose.choices or ())
    return loose, [ending for ending in endings if ending]
