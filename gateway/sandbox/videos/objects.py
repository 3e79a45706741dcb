"""How is a task written?  As OpenAI's video object, and as new-api's own answer to a poll."""

from gateway.sandbox.videos import providers
from gateway.sandbox.videos.report import Report
from gateway.sandbox.videos.tasks import Task
from gateway.sandbox.wire import Event

_REASON = "The sandbox was told to fail."
_OPENAI = {"IN_PROGRESS": "in_progress", "SUCCESS": "completed", "FAILURE": "failed"}


def created(task: Task) -> Event:
    """The answer to the request that made it, the same on both routes."""
    return {
        "id": task.id,
        "task_id": task.id,
        "object": "video",
        "model": task.model,
        "status": "queued",
        "progress": 0,
        "created_at": int(task.created),
        **_asked(task),
    }


def video(report: Report) -> Event:
    """The poll of /v1/videos."""
    task, state = report.task, report.state
    told = {**created(task), "status": _OPENAI.get(state, "queued"), "progress": task.progress(report.now)}
    if state == "SUCCESS":
        told |= {"completed_at": int(task.ended), "metadata": {"url": report.url}}
    if state == "FAILURE":
        told["error"] = {"code": "task_failed", "message": _REASON}
    return {**told, **({"usage": report.usage} if report.usage else {})}


def polled(report: Report) -> Event:
    """The poll of /v1/video/generations; it shows more of the account than callers need, as new-api does."""
    task, state, done = report.task, report.state, report.task.progress(report.now) == 100
    data = {
        "task_id": task.id,
        "user_id": 1,
        "group": "default",
        "channel_id": 1,
        "quota": 0 if state == "FAILURE" else task.quota,
        "action": "generate",
        "status": state,
        "fail_reason": _REASON if state == "FAILURE" else "",
        "result_url": report.url if state == "SUCCESS" else "",
        "submit_time": int(task.created),
        "start_time": int(task.created),
        "finish_time": int(task.ended) if done else 0,
        "progress": f"{task.progress(report.now)}%",
        "data": providers.said(report),
    }
    return {"code": "success", "message": "", "data": data}


def _asked(task: Task) -> Event:
    asked = {"seconds": f"{task.seconds:g}", "size": f"{task.size[0]}x{task.size[1]}"}
    return {**asked, "remixed_from_video_id": task.remixed_from} if task.remixed_from else asked
