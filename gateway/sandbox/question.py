"""What does a request body in Gemini's dialect ask for?

Snake and camel case may be mixed inside one object and mean the same (snake wins, as at the vendor), both base64
alphabets are taken, unknown fields are skipped.
"""

import re
from typing import Any

import msgspec

from gateway.sandbox import usage

_SNAKE = re.compile(r"_([a-z])")


class _Read(msgspec.Struct, rename="camel"):
    """What is read of a Gemini request; every other field is skipped."""


class Blob(_Read):
    """Media inside the request."""

    data: str = ""  # base64, either alphabet
    mime_type: str = ""


class Part(_Read):
    """Text or media."""

    text: str = ""
    inline_data: Blob | None = None


class Content(_Read):
    """One turn."""

    parts: list[Part] = []

    @property
    def text(self) -> str:
        return " ".join(part.text for part in self.parts if part.text)


class ImageConfig(_Read):
    """The picture's options."""

    aspect_ratio: str = "1:1"
    image_size: str = "1K"


class PrebuiltVoiceConfig(_Read):
    """A voice by name."""

    voice_name: str = "Kore"


class VoiceConfig(_Read):
    """Which voice."""

    prebuilt_voice_config: PrebuiltVoiceConfig = msgspec.field(default_factory=PrebuiltVoiceConfig)


class SpeechConfig(_Read):
    """The speech options."""

    voice_config: VoiceConfig = msgspec.field(default_factory=VoiceConfig)


class GenerationConfig(_Read):
    """The answer's options."""

    candidate_count: int = 1
    response_modalities: list[str | int] = []
    image_config: ImageConfig = msgspec.field(default_factory=ImageConfig)
    speech_config: SpeechConfig = msgspec.field(default_factory=SpeechConfig)


class Question(_Read):
    """A request of any method; each method reads its own fields."""

    contents: list[Content] = []
    system_instruction: Content | None = None
    generation_config: GenerationConfig = msgspec.field(default_factory=GenerationConfig)
    generate_content_request: "Question | None" = None  # some clients wrap countTokens in it
    content: Content | None = None  # embedContent
    output_dimensionality: int = 3072  # embedContent
    requests: list["Question"] = []  # batchEmbedContents

    @property
    def prompt(self) -> str:
        """The text of the last turn."""
        return self.contents[-1].text if self.contents else ""

    @property
    def pictures(self) -> list[str]:
        """The base64 of every picture, in order."""
        return [blob.data for blob in self._blobs() if blob.mime_type.startswith("image/")]

    @property
    def wants_text(self) -> bool:
        """Whether text may stand beside a picture: asked for in any case, or nothing was asked (1 is TEXT)."""
        wanted = self.generation_config.response_modalities
        return not wanted or any(each == 1 or str(each).upper() == "TEXT" for each in wanted)

    def tokens(self) -> dict[str, int]:
        """What the prompt costs, by modality."""
        turns = [*self.contents, self.system_instruction] if self.system_instruction else self.contents
        counted = {"TEXT": usage.tokens("TEXT", sum(len(part.text) for turn in turns for part in turn.parts))}
        for blob in self._blobs():
            modality = {"image": "IMAGE", "audio": "AUDIO", "video": "VIDEO"}.get(
                blob.mime_type.split("/")[0], "DOCUMENT"
            )
            counted[modality] = counted.get(modality, 0) + usage.INPUT_MEDIA
        return counted

    def _blobs(self) -> list[Blob]:
        return [part.inline_data for turn in self.contents for part in turn.parts if part.inline_data]


def read(body: bytes) -> Question:
    """Understand a request body.  `ValueError` when it is not JSON of this shape."""
    try:
        value = msgspec.json.decode(body)
        return msgspec.convert(_camel(value) if b"_" in body else value, Question)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise ValueError(str(error)) from None


def _camel(value: Any) -> Any:
    if isinstance(value, list):
        return [_camel(each) for each in value]
    if not isinstance(value, dict):
        return value
    named = {name: _camel(each) for name, each in value.items() if "_" not in name}
    for name, each in value.items():
        if "_" in name:
            named[_SNAKE.sub(lambda letter: letter[1].upper(), name)] = _camel(each)
    return named
