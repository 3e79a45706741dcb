"""What did pictures cost, are they complete, and may they be kept?

Three families answer on one route.  OpenAI's list of pictures says by itself that it is whole; in a stream each picture
has an event `*.completed`, and as many are due as were asked for.  Seedream ends with one such event without a picture;
a picture of it that failed is an event, or an entry of the list, with an error that is not the end.  DashScope's
answers give a reason for their end, as chat does.
"""

import msgspec
from msgspec import Raw

from gateway.call import Event, State, Usage
from gateway.dialects.openai.made import Made, made_of
from gateway.dialects.openai.media import first_byte
from gateway.dialects.openai.usage import usage_at_end
from gateway.dialects.values import ABSENT, enum_token, is_empty, plain_text
from gateway.framing import TooManyObjects, decoded, is_whole, legible, lenient

HEAD_BYTES = 16


class Picture(msgspec.Struct, gc=False):
    """One picture, or why there is none."""

    b64_json: Raw = ABSENT
    url: Raw = ABSENT
    image: Raw = ABSENT  # DashScope's
    text: Raw = ABSENT
    type: Raw = ABSENT
    size: Raw = ABSENT
    quality: Raw = ABSENT
    error: Raw = ABSENT


class Said(Picture, gc=False):
    """An answer, or an event of one."""

    data: Raw = ABSENT
    output: Raw = ABSENT
    usage: Raw = ABSENT
    model: Raw = ABSENT


class Output(msgspec.Struct, gc=False):
    """DashScope's answer."""

    choices: Raw = ABSENT
    finished: Raw = ABSENT


class Content(msgspec.Struct, gc=False):
    """The content of a turn of it."""

    content: Raw = ABSENT


class Choice(msgspec.Struct, gc=False):
    """One turn of it."""

    message: Content | None = None
    finish_reason: Raw = ABSENT


_SAID = msgspec.json.Decoder(Said)
_PICTURES = msgspec.json.Decoder(list[Picture])
_OUTPUT = msgspec.json.Decoder(Output)
_CHOICES = msgspec.json.Decoder(list[Choice])
_MESSAGES = msgspec.json.Decoder(list[Content])
_TEXT = msgspec.json.Decoder(str)


class ImagesMeter:
    """The meter of one call, for which so many pictures are due, of this size and quality."""

    def __init__(self, *, due: int = 1, size: str = "", quality: str = "") -> None:
        self.served_model = ""
        self.state: State = "open"
        self._due, self._size, self._quality = due, size, quality
        self._told_size = self._told_quality = ""
        self._made: Made | None = None
        self._seen = set[int]()  # pictures, by what they are or where; some answers repeat them in each event
        self._count = 0  # the same, where each entry is another
        self._doubtful = False  # a picture is not in the answer, or may not be

    def see(self, event: Event) -> None:
        """See one whole JSON object of the answer.  Raises `ValueError` when it is not one."""
        try:
            said = decoded(_SAID, legible(event.data).text)
        except TooManyObjects:
            if not is_whole(event.data):
                raise
            self._doubtful = True
            self._add(made_of(usage_at_end(event.data), "image"))
            return
        self._add(made_of(said.usage, "image"))
        self.served_model = lenient(_TEXT, said.model) or self.served_model
        self._describe(said)
        kind = lenient(_TEXT, said.type) or event.name.decode("latin-1")
        if kind.endswith((".partial_image", ".partial_succeeded", ".partial_failed", ".completed")):
            self._see_event(kind, said)
        elif not is_empty(said.error) or kind == "error":
            self.state = "failed"
        else:
            self._see_answer(said)

    def _see_event(self, kind: str, said: Said) -> None:
        """See one of OpenAI's or Seedream's events."""
        if kind.endswith(".partial_failed"):
            self._doubtful = True
        elif not kind.endswith(".partial_image"):
            self._take(said)
        if kind.endswith(".completed") and (not _is_picture(said) or self._count >= self._due):
            self.state = "complete"

    def _see_answer(self, said: Said) -> None:
        """See a whole answer, or one of DashScope's events."""
        for picture in lenient(_PICTURES, said.data) or ():
            self._describe(picture)
            self._take(picture)
        if said.data:
            self.state = "complete"
        elif said.output:
            self._see_output(said.output)

    def _see_output(self, raw: Raw) -> None:
        flat = lenient(_PICTURES, raw)
        if flat is not None:  # as the vendor's page shows it: the content of one message, or a list of messages
            messages = lenient(_MESSAGES, raw) or []
            self._see_content([picture for one in messages for picture in lenient(_PICTURES, one.content) or ()])
            self._see_content(flat)
            self.state = "complete"
            return
        output = lenient(_OUTPUT, raw) or Output()
        choices = lenient(_CHOICES, output.choices) or []
        for choice in choices:
            self._see_content(lenient(_PICTURES, choice.message.content) or [] if choice.message else [])
        ended = choices and all(enum_token(choice.finish_reason) for choice in choices)
        if ended or bytes(output.finished) == b"true":
            self.state = "complete"

    def _see_content(self, content: list[Picture]) -> None:
        for part in content:
            address = part.image or (part.text if enum_token(part.type) == b"IMAGE" else ABSENT)
            if address:
                self._seen.add(hash(bytes(address)))
                self._doubtful |= not _is_inline(Picture(url=address))

    def _take(self, picture: Picture) -> None:
        if _is_picture(picture):
            self._count += 1
            self._doubtful |= not _is_inline(picture)
        elif picture.error:
            self._doubtful = True

    def _describe(self, picture: Picture) -> None:
        self._told_size = self._told_size or plain_text(picture.size)
        self._told_quality = self._told_quality or plain_text(picture.quality)

    def _add(self, made: Made | None) -> None:
        """Each event's usage may be of all until then: of several the largest counts, and they are never added."""
        if made is not None and (self._made is None or made.total >= self._made.total):
            self._made = made

    @property
    def usage(self) -> Usage:
        """What has been seen so far.  Pictures without a count of tokens are sold by the picture."""
        made, counted = self._made or Made({}), self._count + len(self._seen)
        images = counted if made.images is None else made.images
        return Usage(
            tokens=made.tokens,
            total=made.total,
            images_out=images,
            size=self._told_size or self._size,
            quality=self._told_quality or self._quality,
            source="reported" if self._made is not None or counted else "none",
        )

    @property
    def storable(self) -> bool:
        """Whether every picture is in the answer itself."""
        return self.state == "complete" and self._count + len(self._seen) > 0 and not self._doubtful


def _is_picture(picture: Picture) -> bool:
    return _says(picture.b64_json) or _says(picture.url)


def _is_inline(picture: Picture) -> bool:
    """Whether a picture is here, and not somewhere else from where it will vanish."""
    return _says(picture.b64_json) or bytes(memoryview(picture.url)[:HEAD_BYTES]).startswith(b'"data:')


def _says(raw: Raw) -> bool:
    return len(raw) > len('""') and first_byte(raw) == b'"'
