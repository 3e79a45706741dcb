"""How many tokens does a text call cost, by kind?  Each dialect writes them in its own words."""

from dataclasses import dataclass, replace

from gateway.sandbox import usage
from gateway.sandbox.asked import Asked
from gateway.sandbox.replies import Reply


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """The cost of a call.  `prompt` and `completion` are sums, the others parts of them."""

    prompt: int
    pictures: int = 0
    sounds: int = 0
    cached: int = 0
    written_5m: int = 0
    written_1h: int = 0
    completion: int = 0
    thoughts: int = 0
    spoken: int = 0
    beside: bool = False  # as xAI counts: `completion` is written without the thoughts, the sum holds them

    @property
    def fresh(self) -> int:
        """Tokens of the prompt that no cache has to do with."""
        return self.prompt - self.cached - self.written_5m - self.written_1h

    @property
    def total(self) -> int:
        return self.prompt + self.completion

    @property
    def reported(self) -> int:
        """The completion as it is written."""
        return self.completion - self.thoughts if self.beside else self.completion

    def kinds(self) -> dict[str, int]:
        """For the log: kinds that do not overlap, their sum, and how much of the input was written to a cache."""
        return {
            "input": self.prompt - self.cached,
            "cached": self.cached,
            "output": self.completion - self.thoughts,
            "thoughts": self.thoughts,
            "total": self.total,
            "cache_written_5m": self.written_5m,
            "cache_written_1h": self.written_1h,
        }


def of_prompt(asked: Asked, cached: int = 0) -> Tokens:
    """What the prompt alone costs; `cached` tokens of it, if it has as many, come from a cache."""
    media = asked.media
    pictures, sounds = media.pictures * usage.INPUT_MEDIA, media.sounds * usage.INPUT_MEDIA
    prompt = _text(media.characters) + pictures + sounds + media.documents * usage.INPUT_MEDIA
    cached = min(cached, prompt)
    written_1h = min(_text(asked.written_1h), prompt - cached)
    return Tokens(
        prompt=prompt,
        pictures=pictures,
        sounds=sounds,
        cached=cached,
        written_1h=written_1h,
        written_5m=min(_text(asked.written_5m), prompt - cached - written_1h),
    )


def of_call(asked: Asked, replies: tuple[Reply, ...], cached: int) -> Tokens:
    """What a call costs as it is answered."""
    spent = of_prompt(asked, cached)
    thoughts = sum(_text(len(reply.thinking)) for reply in replies)
    said = sum(_text(len(reply.text)) for reply in replies)
    called = sum(_text(len(reply.tool.name + reply.tool.arguments)) for reply in replies if reply.tool)
    spoken = sum(usage.tokens("AUDIO", len(reply.sound) // 2) for reply in replies)
    return replace(spent, completion=thoughts + said + called + spoken, thoughts=thoughts, spoken=spoken)


def _text(characters: int) -> int:
    return usage.tokens("TEXT", characters)
