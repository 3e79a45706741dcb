"""What does a request for text ask for, whatever dialect it is written in?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple


class Tool(NamedTuple):
    """One function that the model may call."""

    name: str
    schema: Mapping[str, Any]  # of its arguments


@dataclass(frozen=True, slots=True, kw_only=True)
class Media:
    """What stands in the messages: text in characters, the rest in pieces."""

    characters: int = 0
    pictures: int = 0
    sounds: int = 0
    documents: int = 0

    def __add__(self, other: "Media") -> "Media":
        return Media(
            characters=self.characters + other.characters,
            pictures=self.pictures + other.pictures,
            sounds=self.sounds + other.sounds,
            documents=self.documents + other.documents,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One request, understood.  Each dialect reads its own fields into it."""

    model: str
    prompt: str  # the text of the user's last turn
    media: Media
    stream: bool = False
    usage_wanted: bool = True  # in a stream
    candidates: int = 1
    bound: int | None = None  # output tokens at most
    stops: Sequence[str] = ()  # words before which the answer ends
    thinks: bool = False
    voice: str | None = None  # the answer shall be spoken
    tools: Sequence[Tool] = ()
    tool_forced: str | None = None  # a name, or "" for any
    tool_result: str | None = None  # what the last turn brings back
    schema: Mapping[str, Any] | None = None  # the answer shall be JSON like this
    written_5m: int = 0  # characters to be kept in a cache for five minutes
    written_1h: int = 0
