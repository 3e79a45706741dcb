"""How many tokens do pictures cost?  The makers' own figures where they are documented."""

from collections.abc import Sequence

from gateway.sandbox import usage
from gateway.sandbox.images.gallery import Picture
from gateway.sandbox.images.wanted import Wanted
from gateway.sandbox.tokens import Tokens

_GPT = {"low": 272, "medium": 1056, "high": 4160}  # a picture of 1024x1024
_SQUARE = 1024 * 1024
_SKETCH = 100
_SEEDREAM = 256  # pixels a token


def of(wanted: Wanted, made: Sequence[Picture]) -> Tokens | None:
    """What a call costs; None where the maker counts no tokens (DALL-E, Qwen)."""
    match wanted.family:
        case "gpt":
            return Tokens(prompt=_text(wanted) + _sent(wanted), pictures=_sent(wanted), completion=_gpt(wanted, made))
        case "seedream":
            return Tokens(prompt=0, completion=sum(_area(each) // _SEEDREAM for each in made))
        case "wan":
            spent = usage.PICTURE * len(made)
            return Tokens(prompt=_text(wanted) + _sent(wanted), pictures=_sent(wanted), completion=spent)
        case _:
            return None


def _gpt(wanted: Wanted, made: Sequence[Picture]) -> int:
    areas = sum(_GPT[wanted.quality] * _area(each) // _SQUARE for each in made)
    return areas + _SKETCH * sum(len(each.sketches) for each in made)


def _text(wanted: Wanted) -> int:
    return usage.tokens("TEXT", len(wanted.prompt))


def _sent(wanted: Wanted) -> int:
    return usage.INPUT_MEDIA * (len(wanted.sources) + (wanted.mask is not None))


def _area(picture: Picture) -> int:
    return picture.size[0] * picture.size[1]
