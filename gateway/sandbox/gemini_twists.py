"""What may an answer in Gemini's dialect say that is not so?  By the fault's name (`faults.py`)."""

from collections.abc import Callable, Mapping

from gateway.sandbox.replies import filler
from gateway.sandbox.wire import Event


def _blocked(events: list[Event], _argument: str) -> list[Event]:
    last = {name: value for name, value in events[-1].items() if name != "candidates"}
    prompt = {name: value for name, value in last["usageMetadata"].items() if name.startswith("prompt")}
    prompt["totalTokenCount"] = prompt["promptTokenCount"]
    return [{"promptFeedback": {"blockReason": "SAFETY"}, **last, "usageMetadata": prompt}]


def _safety(events: list[Event], _argument: str) -> list[Event]:
    for candidate in events[-1]["candidates"]:
        candidate["finishReason"] = "SAFETY"
    return events


def _nousage(events: list[Event], _argument: str) -> list[Event]:
    return [{name: value for name, value in event.items() if name != "usageMetadata"} for event in events]


def _link(events: list[Event], _argument: str) -> list[Event]:
    _say(events, "![image](http://169.254.169.254/picture.png)")
    return _nousage(events, "")


def _toolong(events: list[Event], argument: str) -> list[Event]:
    _say(events, filler(int(argument)))
    return events


def _say(events: list[Event], text: str) -> None:
    events[-1]["candidates"][0]["content"]["parts"] = [{"text": text}]


EVENTS: Mapping[str, Callable[[list[Event], str], list[Event]]] = {
    "blocked": _blocked,
    "safety": _safety,
    "nousage": _nousage,
    "link": _link,
    "toolong": _toolong,
}
