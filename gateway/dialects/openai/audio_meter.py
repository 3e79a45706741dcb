"""What did a transcript or speech cost, and is it complete?

JSON is whole by itself, a stream by its event `*.done`, and bytes and plain text by their clean end.
"""

import msgspec
from msgspec import Raw

from gateway.call import Event, Modality, Source, State, Usage
from gateway.dialects.openai.made import Made, heard, made_of
from gateway.dialects.values import ABSENT, is_empty, number_of
from gateway.framing import ENDED, TooManyObjects, decoded, is_whole, legible, lenient


class Said(msgspec.Struct, gc=False):
    """An answer, or an event of one."""

    type: Raw = ABSENT
    usage: Raw = ABSENT
    duration: Raw = ABSENT  # in seconds: of `verbose_json`
    error: Raw = ABSENT


_SAID = msgspec.json.Decoder(Said)
_TEXT = msgspec.json.Decoder(str)


class AudioMeter:
    """The meter of one call, whose output is text or audio."""

    served_model, storable = "", False

    def __init__(self, output: Modality) -> None:
        self.state: State = "open"
        self._output, self._made, self._exact = output, Made({}), False

    def see(self, event: Event) -> None:
        """See one JSON object of the answer, or its end.  Raises `ValueError` when it is neither."""
        if event == ENDED:
            self.state = "complete"
            return
        try:
            said = decoded(_SAID, legible(event.data).text)
        except TooManyObjects:  # the words of a long recording, each with its time
            if not is_whole(event.data):
                raise
            said = Said()
        kind = lenient(_TEXT, said.type) or event.name.decode("latin-1")
        if (made := made_of(said.usage, self._output)) is not None:
            self._made, self._exact = made, not made.seconds
        elif (made := heard(number_of(said.duration))) is not None and not kind:
            self._made = made
        if kind == "error" or not is_empty(said.error):
            self.state = "failed"
        elif not kind or kind.endswith(".done"):
            self.state = "complete"

    @property
    def usage(self) -> Usage:
        """What has been seen so far; where only seconds are reported, their tokens are an estimate."""
        tokens, total, _, seconds = self._made
        source: Source = "reported" if self._exact else "estimated" if tokens else "none"
        return Usage(tokens=tokens, total=total, seconds=seconds, source=source)
