"""What may a text answer say that is not so?  Pure functions from turn to turn, by the fault's name (`faults.py`)."""

from collections.abc import Callable, Mapping
from dataclasses import replace

from gateway.sandbox.replies import Reply, filler
from gateway.sandbox.turn import Turn

_LINK = "![image](http://169.254.169.254/picture.png)"


def _blocked(turn: Turn, _argument: str) -> Turn:
    return replace(turn, replies=tuple(Reply(stop="filter") for _ in turn.replies))


def _safety(turn: Turn, _argument: str) -> Turn:
    return replace(turn, replies=tuple(replace(reply, stop="filter") for reply in turn.replies))


def _nofinish(turn: Turn, _argument: str) -> Turn:
    return replace(turn, replies=tuple(replace(reply, stop="none") for reply in turn.replies))


def _nousage(turn: Turn, _argument: str) -> Turn:
    return replace(turn, tokens=None)


def _link(turn: Turn, _argument: str) -> Turn:
    return replace(turn, replies=tuple(Reply(text=_LINK) for _ in turn.replies), tokens=None)


def _toolong(turn: Turn, argument: str) -> Turn:
    return replace(turn, replies=(Reply(text=filler(int(argument))), *turn.replies[1:]))


def _othermodel(turn: Turn, argument: str) -> Turn:
    return replace(turn, model=argument or "another-model")


def _moretokens(turn: Turn, argument: str) -> Turn:
    more = int(argument or "1000")
    return replace(turn, tokens=turn.tokens and replace(turn.tokens, completion=turn.tokens.completion + more))


def _beside(turn: Turn, _argument: str) -> Turn:
    return replace(turn, tokens=turn.tokens and replace(turn.tokens, beside=True))


TURNS: Mapping[str, Callable[[Turn, str], Turn]] = {
    "blocked": _blocked,
    "safety": _safety,
    "nofinish": _nofinish,
    "nousage": _nousage,
    "link": _link,
    "toolong": _toolong,
    "othermodel": _othermodel,
    "moretokens": _moretokens,
    "beside": _beside,
}
