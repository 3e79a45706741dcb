"""What does the sandbox say?  Text, reasoning and calls of tools, decided by the request alone."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import msgspec

from gateway.sandbox import speech
from gateway.sandbox.asked import Asked, Tool

Stop = Literal["stop", "length", "tool", "sequence", "filter", "none"]

_MOST_CANDIDATES = 8
_MOST_PIECES = 20  # of a text that is streamed
_SHORTEST_PIECE = 12  # characters
_PER_TOKEN = 4  # characters
_DEEPEST = 5  # levels of a schema that are filled


class ToolCall(NamedTuple):
    """The model wants a function to be called."""

    name: str
    arguments: str  # JSON


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """One candidate."""

    text: str = ""
    sound: bytes = b""  # the text as PCM, where it is spoken
    thinking: str = ""
    tool: ToolCall | None = None
    stop: Stop = "stop"  # "none": it is never said why it ended
    sequence: str | None = None  # the word that ended it


def made(asked: Asked, size: int | None) -> tuple[Reply, ...]:
    """All candidates; `size` asks for a text of so many bytes, whatever the bound.  `ValueError`: too many or none."""
    if not 1 <= asked.candidates <= _MOST_CANDIDATES:
        raise ValueError(f"n must be 1 to {_MOST_CANDIDATES}")
    if size is not None:
        return (Reply(text=filler(size)),) * asked.candidates
    return tuple(_finished(_reply(asked, number), asked) for number in range(asked.candidates))


def greeting(model: str, prompt: str, pictures: int, candidate: int) -> str:
    """What the sandbox says to nearly everything."""
    pictures_seen = f" I also got {pictures} picture{'s' if pictures > 1 else ''}." if pictures else ""
    other = f" (This is answer {candidate + 1}.)" if candidate else ""
    return (
        f"Hello from the sandbox! You asked {model}: “{quoted(prompt)}”.{pictures_seen} "
        f"I stand in for the real model: I cost nothing and I always answer like this.{other}"
    )


def quoted(prompt: str) -> str:
    """The beginning of a prompt."""
    return prompt if len(prompt) <= 300 else f"{prompt[:300]}…"


def filler(size: int) -> str:
    """A text of exactly so many bytes."""
    return ("sandbox " * (size // 8 + 1))[:size]


def pieces(text: str) -> list[str]:
    """A text as it is streamed; at least one piece."""
    length = max(_SHORTEST_PIECE, -(-len(text) // _MOST_PIECES))
    return [text[at : at + length] for at in range(0, len(text) or 1, length)]


def _reply(asked: Asked, number: int) -> Reply:
    thinking = f"I was asked “{quoted(asked.prompt)}”. I will quote it, as always." if asked.thinks else ""
    if asked.tool_result is not None:
        return Reply(text=f"The tool said “{quoted(asked.tool_result)}”. That is all I know.", thinking=thinking)
    if tool := _tool_wanted(asked):
        arguments = msgspec.json.encode(_example(tool.schema, asked.prompt)).decode()
        return Reply(thinking=thinking, tool=ToolCall(tool.name, arguments), stop="tool")
    if asked.schema is not None:
        return Reply(text=msgspec.json.encode(_example(asked.schema, asked.prompt)).decode(), thinking=thinking)
    return Reply(text=greeting(asked.model, asked.prompt, asked.media.pictures, number), thinking=thinking)


def _tool_wanted(asked: Asked) -> Tool | None:
    """The tool that must be called, or that the prompt names; the first one where it just says "tool"."""
    if asked.tool_forced:
        return next((tool for tool in asked.tools if tool.name == asked.tool_forced), None)
    named = next((tool for tool in asked.tools if tool.name in asked.prompt), None)
    meant = asked.tool_forced is not None or "tool" in asked.prompt.lower()
    return named or (asked.tools[0] if asked.tools and meant else None)


def _example(schema: Mapping[str, Any], prompt: str, depth: int = 0) -> Any:
    """A value that fits an ordinary JSON schema; strings are the prompt."""
    if options := schema.get("enum"):
        return options[0]
    match schema.get("type", "object" if "properties" in schema else None):
        case "object":
            inside = schema.get("properties") or {} if depth < _DEEPEST else {}
            return {name: _example(each, prompt, depth + 1) for name, each in inside.items()}
        case "array":
            return [_example(schema.get("items") or {}, prompt, depth + 1)]
        case "integer" | "number":
            return 1
        case kind:
            return True if kind == "boolean" else quoted(prompt)


def _finished(reply: Reply, asked: Asked) -> Reply:
    """A reply as it ends: at a stop word, at the bound, and spoken if that is wanted."""
    reply = _bounded(_stopped(reply, asked), asked.bound)
    return replace(reply, sound=speech.pcm(reply.text, asked.voice)) if asked.voice and reply.text else reply


def _stopped(reply: Reply, asked: Asked) -> Reply:
    found = [(reply.text.find(word), word) for word in asked.stops if word and word in reply.text]
    if not found:
        return reply
    at, word = min(found)
    return Reply(text=reply.text[:at], thinking=reply.thinking, stop="sequence", sequence=word)


def _bounded(reply: Reply, bound: int | None) -> Reply:
    """A reply within so many tokens; thinking counts, and a call of a tool is never cut."""
    if bound is None or reply.tool:
        return reply
    thinking = reply.thinking[: bound * _PER_TOKEN]
    left = (bound - -(-len(thinking) // _PER_TOKEN)) * _PER_TOKEN
    if left >= len(reply.text):
        return reply
    return Reply(text=reply.text[:left], thinking=thinking, stop="length")
