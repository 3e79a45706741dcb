"""What did a response cost, is it complete, and may it be kept?

A stream's last event holds the whole response once more, and its type says how that ended; a unary answer is the
response itself.  Other events are read for what they add, in case that the last one never comes.
"""

import re

import msgspec
from msgspec import Raw

from gateway.call import Event, State, Usage
from gateway.dialects.openai.answered import Answered
from gateway.dialects.openai.media import is_picture_call
from gateway.dialects.openai.usage import Counts, responses_counts, usage_at_end, usage_of
from gateway.dialects.values import ABSENT, is_empty
from gateway.framing import Legible, TooManyObjects, decoded, is_whole, legible, lenient


class Response(msgspec.Struct, gc=False):
    """A response, as far as it has been made."""

    output: Raw = ABSENT
    status: Raw = ABSENT
    usage: Raw = ABSENT
    model: Raw = ABSENT
    error: Raw = ABSENT


class Said(Response, gc=False):
    """An event, or a response by itself."""

    type: Raw = ABSENT
    response: Raw = ABSENT
    delta: Raw = ABSENT
    item: Raw = ABSENT


class Item(msgspec.Struct, gc=False):
    """One thing that the model has made."""

    type: Raw = ABSENT
    content: Raw = ABSENT
    summary: Raw = ABSENT
    arguments: Raw = ABSENT
    input: Raw = ABSENT
    result: Raw = ABSENT  # a picture


_SAID = msgspec.json.Decoder(Said)
_RESPONSE = msgspec.json.Decoder(Response)
_ITEM = msgspec.json.Decoder(Item)
_ITEMS = msgspec.json.Decoder(list[Item])
_TEXT = msgspec.json.Decoder(str)
_TYPE = re.compile(rb'\s*+\{\s*+"type"\s*+:\s*+"([a-z_.]{1,64})"')

ENDS: dict[str, State] = {
    "response.completed": "complete",
    "response.incomplete": "complete",
    "response.failed": "complete with error",
    "error": "complete with error",
}
NO_TEXT = frozenset({"response.audio.delta", "response.output_audio.delta"})


class ResponsesMeter:
    """The meter of one call; `pictures`: it should bring one; `keeps`: the answer may be kept at all."""

    def __init__(self, *, pictures: bool = False, keeps: bool = True) -> None:
        self.served_model = ""
        self.state: State = "open"
        self._pictures, self._keeps = pictures, keeps
        self._counts: Counts | None = None
        self._completed = self._doubtful = False
        self._whole = Answered(keeps=keeps)  # by the response
        self._so_far = Answered(keeps=False)  # by the events before it

    def see(self, event: Event) -> None:
        """See one whole JSON object of the answer.  Raises `ValueError` when it is not one."""
        try:
            lean = legible(event.data, shows=True)
            said = decoded(_SAID, lean.text)
        except TooManyObjects:
            if not is_whole(event.data):
                raise
            self._see_large(event)
            return
        self._doubtful |= lean.hides
        kind = lenient(_TEXT, said.type) or event.name.decode("latin-1")
        if not kind:
            self._see_bare(said, lean)
        elif kind.endswith(".delta") and kind not in NO_TEXT:
            self._so_far.count(said.delta, lean)
        elif kind == "response.output_item.done":
            _take_item(self._so_far, lenient(_ITEM, said.item) or Item(), lean, texts=False)
        elif response := lenient(_RESPONSE, said.response):
            self._take(response, lean, ended=kind in ENDS)
            self._completed |= kind == "response.completed"
        self.state = ENDS.get(kind, self.state)

    def _see_bare(self, said: Said, lean: Legible) -> None:
        """See what is no event: the response of a unary call, or an error as other servers write it."""
        failed = not is_empty(said.error) or lenient(_TEXT, said.status) == "failed"
        if said.output or said.status:
            self._take(said, lean, ended=True)
            self._completed |= lenient(_TEXT, said.status) == "completed"
            self.state = "complete with error" if failed else "complete"
        elif failed:
            self.state = "failed"

    def _see_large(self, event: Event) -> None:
        """See one that holds too many values to be looked into: how it ends the stream, and what it cost."""
        kind = _TYPE.match(event.data)
        self._doubtful = True
        self._counts = responses_counts(usage_at_end(event.data)) or self._counts
        self.state = ENDS.get(kind[1].decode() if kind else event.name.decode("latin-1"), self.state)

    def _take(self, response: Response, lean: Legible, *, ended: bool) -> None:
        self._counts = responses_counts(response.usage) or self._counts
        self.served_model = lenient(_TEXT, response.model) or self.served_model
        for item in (lenient(_ITEMS, response.output) or []) if ended else []:
            _take_item(self._whole, item, lean)

    @property
    def usage(self) -> Usage:
        """What has been seen so far."""
        return usage_of(
            self._counts,
            images_out=max(self._whole.images, self._so_far.images),
            chars_out=max(self._whole.chars, self._so_far.chars),
        )

    @property
    def storable(self) -> bool:
        """Whether it ended normally, all of it has been seen, and no picture may be a link."""
        answered = self._whole
        seen = self._completed and not self._doubtful and bool(answered.chars or answered.images)
        linked = answered.by_reference or answered.links_pictures(expected=self._pictures)
        return self._keeps and self.state == "complete" and seen and not linked


def _take_item(answered: Answered, item: Item, lean: Legible, *, texts: bool = True) -> None:
    if is_picture_call(item.type) and len(item.result) > len(b"null"):
        answered.picture(item.result)
    if texts:
        answered.show(item.content, lean)
        answered.show(item.summary, lean)
        answered.count(item.arguments, lean)
        answered.count(item.input, lean)
