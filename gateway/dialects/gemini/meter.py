"""What did an answer cost, is it complete, and may it be kept?

A meter sees an answer as whole JSON objects: the one of a unary answer, or every event of a stream.  A shape that is
not expected is never an error, since the answer itself must pass; only what is not a JSON object at all is.
"""

from collections import defaultdict

import msgspec
from msgspec import Raw

from gateway.call import Usage
from gateway.dialects.gemini.links import Links
from gateway.dialects.gemini.tally import Tally
from gateway.dialects.gemini.wire import ABSENT, Content, decoded, lenient, number, word

NORMAL_ENDS = frozenset({b"STOP", b"MAX_TOKENS", b"1", b"2"})
UNSET = frozenset({b"", b"0", b"FINISH_REASON_UNSPECIFIED", b"BLOCK_REASON_UNSPECIFIED"})


class Candidate(msgspec.Struct, gc=False):
    """One of the answers asked for."""

    index: Raw = ABSENT
    content: Content | None = None
    finish_reason: Raw = ABSENT
    finishReason: Raw = ABSENT


class Envelope(msgspec.Struct, gc=False):
    """An answer as far as it can always be read."""

    usage_metadata: Raw = ABSENT
    usageMetadata: Raw = ABSENT
    prompt_feedback: Raw = ABSENT
    promptFeedback: Raw = ABSENT
    error: Raw = ABSENT


class Answer(Envelope, gc=False):
    """An answer whose candidates have the expected shape."""

    candidates: list[Candidate] | None = None


class Feedback(msgspec.Struct, gc=False):
    """What is said about the prompt."""

    block_reason: Raw = ABSENT
    blockReason: Raw = ABSENT


_ANSWER = msgspec.json.Decoder(Answer)
_ENVELOPE = msgspec.json.Decoder(Envelope)
_FEEDBACK = msgspec.json.Decoder(Feedback)
_TEXT = msgspec.json.Decoder(str)


class GeminiMeter:
    """The meter of one call; `pictures`: each candidate should bring one; `keeps`: the answer may be kept at all."""

    def __init__(self, *, generates: bool, pictures: bool = False, keeps: bool = True) -> None:
        self.errored = False
        self._keeps = keeps
        self._pictures = pictures
        self._generates = generates  # else one whole JSON object is all there is to wait for
        self._seen = False
        self._tally = Tally()
        self._images = 0
        self._ends: dict[int, bytes] = {}  # finish reasons by candidate; b"" while it goes on
        self._blocked = False
        self._by_reference = False
        self._links = defaultdict[tuple[int, bytes], Links](Links)  # by candidate, thoughts apart

    def event(self, data: bytes) -> None:
        """See one whole JSON object of the answer.  Raises `ValueError` when it is not one."""
        answer, candidates = _read(data)
        self._seen = True
        self._tally.see(answer.usage_metadata or answer.usageMetadata)
        self.errored |= word(answer.error) != b""
        feedback = lenient(_FEEDBACK, answer.prompt_feedback or answer.promptFeedback) or Feedback()
        self._blocked |= word(feedback.block_reason or feedback.blockReason) not in UNSET
        for position, candidate in enumerate(candidates):
            self._take(position, candidate)

    def _take(self, position: int, candidate: Candidate) -> None:
        index = number(candidate.index)
        key = position if index is None else index
        end = word(candidate.finish_reason or candidate.finishReason)
        self._ends[key] = self._ends.get(key, b"") if end in UNSET else end
        for part in candidate.content or ():
            if blob := part.inline:
                self._images += blob.is_image
            if self._keeps and (text := lenient(_TEXT, part.text)):
                self._links[key, word(part.thought)].see(text)
            self._by_reference = self._by_reference or bool(part.file_data or part.fileData)

    @property
    def usage(self) -> Usage:
        """What has been seen so far."""
        return self._tally.usage(images_out=self._images)

    @property
    def finished(self) -> bool:
        """Whether the answer said that it is complete."""
        ended = bool(self._ends) and all(self._ends.values())
        return self._seen and (ended or self._blocked or self.errored or not self._generates)

    @property
    def storable(self) -> bool:
        """Whether every candidate ended normally, and no picture may be a link."""
        normal = self._keeps and bool(self._ends) and NORMAL_ENDS.issuperset(self._ends.values())
        return normal and not (self._blocked or self.errored or self._by_reference or self._links_pictures)

    @property
    def _links_pictures(self) -> bool:
        missing = self._pictures and self._images < len(self._ends)
        return any(links.shown or (missing and links.any) for links in self._links.values())


def _read(data: bytes) -> tuple[Envelope, list[Candidate]]:
    try:
        answer = decoded(_ANSWER, data)
    except msgspec.ValidationError:
        return decoded(_ENVELOPE, data), []
    return answer, answer.candidates or []
