"""What did an answer cost, is it complete, and may it be kept?

A meter sees an answer as whole JSON objects: the one of a unary answer, or every event of a stream.  A shape that is
not expected is never an error, since the answer itself must pass; only what is not a JSON object at all is.  One that
holds too many values passes unread: its usage is not known, and it neither ends a stream nor is kept.
"""

from collections import defaultdict
from collections.abc import Sequence

import msgspec
from msgspec import Raw

from gateway.call import Event, State, Usage
from gateway.dialects.gemini.usage_reader import UsageReader
from gateway.dialects.gemini.wire import Content
from gateway.dialects.inline import Inline
from gateway.dialects.links import Links
from gateway.dialects.values import ABSENT, count_of, enum_token, is_empty
from gateway.framing import Legible, TooManyObjects, decoded, is_whole, legible, lenient

SLICE_CHARS = 16 * 1024
NORMAL_ENDS = frozenset({b"STOP", b"MAX_TOKENS", b"1", b"2"})
TRUE = frozenset({b"TRUE", b"1"})
UNSET = frozenset({b"", b"0", b"FINISH_REASON_UNSPECIFIED", b"BLOCK_REASON_UNSPECIFIED"})


class Ending(msgspec.Struct, gc=False):
    """One of the answers asked for, as far as it can mostly be read."""

    index: Raw = ABSENT
    finish_reason: Raw = ABSENT
    finishReason: Raw = ABSENT


class Candidate(Ending, gc=False):
    """One whose content has the expected shape."""

    content: Content | None = None


class Envelope(msgspec.Struct, gc=False):
    """An answer as far as it can always be read."""

    usage_metadata: Raw = ABSENT
    usageMetadata: Raw = ABSENT
    prompt_feedback: Raw = ABSENT
    promptFeedback: Raw = ABSENT
    model_version: Raw = ABSENT
    modelVersion: Raw = ABSENT
    error: Raw = ABSENT
    errors: Raw = ABSENT
    detail: Raw = ABSENT
    message: Raw = ABSENT
    msg: Raw = ABSENT
    Error: Raw = ABSENT


class Loose(Envelope, gc=False):
    """An answer whose candidates are a list, at least."""

    candidates: list[Raw] | None = None


class Answer(Envelope, gc=False):
    """An answer whose candidates have the expected shape."""

    candidates: list[Candidate] | None = None


class Feedback(msgspec.Struct, gc=False):
    """What is said about the prompt."""

    block_reason: Raw = ABSENT
    blockReason: Raw = ABSENT


_ANSWER = msgspec.json.Decoder(Answer)
_LOOSE = msgspec.json.Decoder(Loose)
_ENVELOPE = msgspec.json.Decoder(Envelope)
_CANDIDATE = msgspec.json.Decoder(Candidate)
_ENDING = msgspec.json.Decoder(Ending)
_FEEDBACK = msgspec.json.Decoder(Feedback)
_TEXT = msgspec.json.Decoder(str)


_NOTHING = Feedback()


class GeminiMeter:
    """The meter of one call; `pictures`: each candidate should bring one; `keeps`: the answer may be kept at all."""

    def __init__(self, *, generates: bool, pictures: bool = False, keeps: bool = True) -> None:
        self.served_model = ""
        self._failed = False
        self._keeps = keeps
        self._pictures = pictures
        self._generates = generates  # else one whole JSON object is all there is to wait for
        self._seen = False
        self._usage = UsageReader()
        self._images = self._chars = 0  # answered, without those of thoughts
        self._ends: dict[int, bytes] = {}  # finish reasons by candidate; b"" while it goes on
        self._blocked = self._crowded = self._by_reference = False
        self._inline = defaultdict[int, Inline](Inline)  # by candidate
        self._links = defaultdict[tuple[int, bool], Links](Links)  # by candidate, thoughts apart

    def see(self, event: Event) -> None:
        """See one whole JSON object of the answer.  Raises `ValueError` when it is not one."""
        data = event.data
        try:
            lean = legible(data, shows=True)
            answer, candidates = _read(lean.text)
        except TooManyObjects:
            if not is_whole(data):
                raise
            self._seen = self._crowded = True
            return
        self._seen = True
        self._by_reference |= lean.hides  # for all that is known
        self._usage.see(answer.usage_metadata or answer.usageMetadata)
        self.served_model = self.served_model or lenient(_TEXT, answer.model_version or answer.modelVersion) or ""
        error = answer.error or (ABSENT if candidates or not self._generates else _other_error(answer))
        if error and not is_empty(error):
            self._failed = True
        feedback = lenient(_FEEDBACK, answer.prompt_feedback or answer.promptFeedback) or _NOTHING
        self._blocked |= enum_token(feedback.block_reason or feedback.blockReason) not in UNSET
        for position, candidate in enumerate(candidates):
            self._take(position, candidate, lean)

    def _take(self, position: int, candidate: Ending, lean: Legible) -> None:
        index = count_of(candidate.index)
        key = position if index is None else index
        end = enum_token(candidate.finish_reason or candidate.finishReason)
        self._ends[key] = self._ends.get(key, b"") if end in UNSET else end
        if not isinstance(candidate, Candidate):
            self._by_reference = True  # for all that is known
            return
        for part in candidate.content or ():
            is_thought = enum_token(part.thought) in TRUE
            if (blob := part.inline) and not is_thought:
                self._images += blob.is_image
            if part.text:
                self._say(key, part.text, lean, is_thought=is_thought)
            self._by_reference = self._by_reference or bool(part.file_data or part.fileData)

    def _say(self, key: int, raw: Raw, lean: Legible, *, is_thought: bool) -> None:
        text = lenient(_TEXT, raw)
        if not text:
            return
        if not is_thought:
            self._chars += lean.size(raw) if lean.mark else len(text)
        # Each search holds the interpreter until it is done.
        short = len(text) <= SLICE_CHARS
        for piece in (text,) if short else (text[at : at + SLICE_CHARS] for at in range(0, len(text), SLICE_CHARS)):
            if not is_thought:
                self._images += self._inline[key].see(piece)
            if self._keeps:
                self._links[key, is_thought].see(piece)

    @property
    def usage(self) -> Usage:
        """What has been seen so far."""
        return self._usage.usage(images_out=self._images, chars_out=self._chars)

    @property
    def state(self) -> State:
        """Complete when every candidate has ended, or the prompt was blocked."""
        if self._failed:
            return "failed"
        ended = self._blocked or not self._generates or (bool(self._ends) and all(self._ends.values()))
        return "complete" if self._seen and ended else "open"

    @property
    def storable(self) -> bool:
        """Whether every candidate ended normally, and no picture may be a link."""
        normal = self._keeps and bool(self._ends) and NORMAL_ENDS.issuperset(self._ends.values())
        doubtful = self._blocked or self._crowded or self._failed or self._by_reference
        return normal and not (doubtful or self._links_pictures)

    @property
    def _links_pictures(self) -> bool:
        missing = self._pictures and self._images < len(self._ends)
        return any(links.shown or (missing and links.any) for links in self._links.values())


def _read(text: bytes) -> tuple[Envelope, Sequence[Ending]]:
    try:
        answer = decoded(_ANSWER, text)
    except msgspec.ValidationError:
        return _partly(text)
    return answer, answer.candidates or []


def _partly(text: bytes) -> tuple[Envelope, Sequence[Ending]]:
    """Read what can be read of an answer of another shape."""
    try:
        answer = decoded(_LOOSE, text)
    except msgspec.ValidationError:
        return decoded(_ENVELOPE, text), []
    endings = (lenient(_CANDIDATE, raw) or lenient(_ENDING, raw) for raw in answer.candidates or ())
    return answer, [ending for ending in endings if ending]


def _other_error(answer: Envelope) -> Raw:
    """What other web servers name an error, where nothing of an answer stands beside it."""
    if answer.usage_metadata or answer.usageMetadata or answer.prompt_feedback or answer.promptFeedback:
        return ABSENT
    return answer.errors or answer.detail or answer.message or answer.msg or answer.Error
