"""What does the vendor answer on the routes of videos?"""

import re
from collections.abc import Mapping

from gateway.sandbox import wire
from gateway.sandbox.call import Call
from gateway.sandbox.files import address
from gateway.sandbox.log import Record
from gateway.sandbox.refusals import middleware_refusal, task_refusal
from gateway.sandbox.videos import content, creating, objects
from gateway.sandbox.videos.report import Report
from gateway.sandbox.videos.tasks import Task, Tasks
from gateway.sandbox.wire import Answer

_PATH = re.compile(
    r"/v1/(?:video/generations(?:/(?P<task>[\w-]+))?|videos(?:/(?P<video>[\w-]+)(?P<part>/content|/remix)?)?)"
)


def methods(path: str) -> tuple[str, ...]:
    """The methods of a route; none where there is no route."""
    if not (match := _PATH.fullmatch(path)):
        return ()
    if match["part"] == "/content":
        return ("GET", "HEAD")
    return ("GET",) if _task_id(match) and not match["part"] else ("POST",)


def marks(record: Record, tasks: Tasks) -> Mapping[str, str]:
    """The markers of a poll or a download: those of the request that made the task, and the fault it asked for."""
    match = _PATH.fullmatch(record.path)
    task = tasks.get(_task_id(match)) if match and record.method != "POST" else None
    if not match or not task:
        return {}
    fault = task.marks.get("content-fault" if match["part"] else "poll-fault")
    kept = {name: value for name, value in task.marks.items() if name != "fault"}
    return {**kept, "fault": fault} if fault else kept


def answer(call: Call, tasks: Tasks) -> Answer:
    """The answer to a call on one of these routes.  `ValueError` when it cannot be understood."""
    match = _PATH.fullmatch(call.record.path)
    if not match or not (task_id := _task_id(match)):
        return creating.created(call, tasks)
    call.record.task = task_id
    task = tasks.get(task_id)
    if match["part"] == "/content":
        return _content(call, task)
    if task is None:
        return task_refusal(400, "task_not_exist", call.record, code="task_not_exist")
    return creating.remixed(call, task, tasks) if match["part"] else _polled(call, task)


def _task_id(match: re.Match[str]) -> str:
    return match["task"] or match["video"] or ""


def _content(call: Call, task: Task | None) -> Answer:
    if task is None:
        return middleware_refusal(404, "Task not found", call.record, kind="invalid_request_error")
    if (state := task.state(call.record.started)) != "SUCCESS":
        message = f"Task is not completed yet, current status: {state}"
        return middleware_refusal(400, message, call.record, kind="invalid_request_error")
    ranges = call.fault is None or call.fault.name != "norange"
    return content.served(call.record, task, size=call.size, gap=call.content_gap, ranges=ranges)


def _polled(call: Call, task: Task) -> Answer:
    report = Report(
        task=task,
        now=call.record.started,
        url=_url(call.record, task),
        usage=_usage(task) if task.state(call.record.started) == "SUCCESS" else None,
        nonce=call.record.nonce,
    )
    report = call.fault.change_report(report) if call.fault else report
    is_video = call.record.path.startswith("/v1/videos/")
    return wire.unary(objects.video(report) if is_video else objects.polled(report), usage=report.usage)


def _usage(task: Task) -> dict[str, int] | None:
    return None if task.tokens is None else {"completion_tokens": task.tokens, "total_tokens": task.tokens}


def _url(record: Record, task: Task) -> str:
    """Where the result is: of Sora behind the vendor's key, of all others at an address that needs none."""
    if task.model.startswith("sora"):
        return f"http://{record.header(b'host').decode('latin-1')}/v1/videos/{task.id}/content"
    return address(record, f"{task.id}.mp4")
