"""What did embeddings cost, and have they come?"""

import msgspec
from msgspec import Raw

from gateway.call import Event, State, Usage
from gateway.dialects.openai.usage import Counts, chat_counts, usage_at_end, usage_of
from gateway.dialects.values import ABSENT, is_empty
from gateway.framing import decoded, is_whole, lenient

LARGE_BYTES = 4 * 1024 * 1024  # of vectors: reading over them would hold the interpreter for too long


class Answer(msgspec.Struct, gc=False):
    """The answer, without its vectors."""

    data: Raw = ABSENT
    usage: Raw = ABSENT
    model: Raw = ABSENT
    error: Raw = ABSENT


_ANSWER = msgspec.json.Decoder(Answer)
_TEXT = msgspec.json.Decoder(str)


class EmbeddingsMeter:
    """The meter of one call.  Of a very large answer it knows the usage alone."""

    def __init__(self) -> None:
        self.served_model = ""
        self.state: State = "open"
        self._counts: Counts | None = None

    def see(self, event: Event) -> None:
        """See the answer.  Raises `ValueError` when it is not one whole JSON object."""
        if len(event.data) > LARGE_BYTES:
            if not is_whole(event.data):
                raise ValueError("cut")
            answer = Answer(data=Raw(b"[]"), usage=usage_at_end(event.data))
        else:
            answer = decoded(_ANSWER, event.data)
        self._counts = chat_counts(answer.usage) or self._counts
        self.served_model = lenient(_TEXT, answer.model) or self.served_model
        if answer.error and not is_empty(answer.error):
            self.state = "failed"
        elif answer.data:
            self.state = "complete"

    @property
    def usage(self) -> Usage:
        """What has been seen so far."""
        return usage_of(self._counts)

    @property
    def storable(self) -> bool:
        """Whether there are vectors."""
        return self.state == "complete"
