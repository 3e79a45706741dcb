"""How is a task made?  By a request of its own, or as a remix of another; on demand twice, or so that it is lost."""

from dataclasses import replace
from secrets import token_hex

import msgspec

from gateway.sandbox import channel, wire
from gateway.sandbox.body import decoded
from gateway.sandbox.call import Call
from gateway.sandbox.videos import clip, objects, request
from gateway.sandbox.videos.tasks import Task, Tasks
from gateway.sandbox.wire import Answer, Event

_TAKES = "5"  # seconds


class _Remix(msgspec.Struct):
    """What is read of a remix."""

    prompt: str = ""


def created(call: Call, tasks: Tasks) -> Answer:
    """The answer to a request for a video.  `ValueError` when it cannot be understood."""
    wanted = request.read(call.body, call.content_type)
    if refused := channel.refused(call, wanted.model, "video"):
        return refused
    task = Task(
        id=_new_id(),
        model=wanted.model,
        prompt=wanted.prompt,
        seconds=wanted.seconds,
        size=wanted.size,
        resolution=wanted.resolution,
        created=call.record.started,
        takes=_takes(call),
        fails=_told(call, "taskfails"),
        tokens=wanted.tokens,
        marks=call.marks,
    )
    return _kept(call, task, tasks)


def remixed(call: Call, task: Task, tasks: Tasks) -> Answer:
    """The answer to a remix of `task`.  `ValueError` when it cannot be understood."""
    remix = decoded(call.body, _Remix)
    if not remix.prompt:
        raise ValueError("prompt is required")
    call.record.model = task.model
    made = replace(
        task,
        id=_new_id(),
        prompt=remix.prompt,
        created=call.record.started,
        takes=_takes(call),
        fails=_told(call, "taskfails"),
        remixed_from=task.id,
        marks=call.marks,
    )
    return _kept(call, made, tasks)


def _kept(call: Call, task: Task, tasks: Tasks) -> Answer:
    """Keep the task, and name it; the log has the truth, whatever a fault makes of it.  `ValueError` as above."""
    clip.parts(task, call.size)  # refuses a size that no download could have
    twin = [replace(task, id=_new_id())] if _told(call, "twotasks") else []
    second = _new_id() if _told(call, "secondid") else ""
    tasks.add(*twin, task, also=second)
    call.record.created = [each.id for each in (*twin, task)]
    call.record.seconds = task.seconds
    call.record.tokens = _kinds(task, len(call.record.created))
    return wire.unary(_named(call, objects.created(task), second))


def _named(call: Call, event: Event, second: str) -> Event:
    if _told(call, "lostid"):
        return {name: value for name, value in event.items() if name not in {"id", "task_id"}}
    return {**event, "task_id": second} if second else event


def _kinds(task: Task, times: int) -> dict[str, int] | None:
    """What the tasks will have cost at their end, by kind; those that fail cost nothing."""
    if task.tokens is None:
        return None
    spent = 0 if task.fails else task.tokens * times
    return {"input": 0, "cached": 0, "output": spent, "thoughts": 0, "total": spent}


def _new_id() -> str:
    return f"task_{token_hex(16)}"


def _takes(call: Call) -> float:
    return float(call.marks.get("task", _TAKES))


def _told(call: Call, fault: str) -> bool:
    return call.fault is not None and call.fault.name == fault
