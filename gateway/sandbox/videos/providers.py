"""What does the maker of a video say of its task?  new-api shows it inside its own poll, in the maker's words."""

from typing import Any

from gateway.sandbox.videos.report import Report
from gateway.sandbox.wire import Event

_ARK = {"SUCCESS": "succeeded", "FAILURE": "failed", "IN_PROGRESS": "running"}
_DASHSCOPE = {"SUCCESS": "SUCCEEDED", "FAILURE": "FAILED", "IN_PROGRESS": "RUNNING"}
_HAILUO = {"SUCCESS": "Success", "FAILURE": "Fail", "IN_PROGRESS": "Processing"}


def said(report: Report) -> Event:
    """The maker's own answer."""
    model = report.task.model.lower()
    if "seedance" in model:
        return _ark(report)
    if "hailuo" in model:
        return _hailuo(report)
    return _dashscope(report)


def _ark(report: Report) -> Event:
    task = report.task
    told: dict[str, Any] = {
        "id": f"cgt-{task.id.removeprefix('task_')}",
        "model": task.model,
        "status": _ARK.get(report.state, "queued"),
        "created_at": int(task.created),
        "updated_at": int(report.now),
        "resolution": task.resolution,
        "duration": round(task.seconds),
    }
    if report.state == "SUCCESS":
        told |= {"content": {"video_url": report.url}, **({"usage": report.usage} if report.usage else {})}
    return told


def _dashscope(report: Report) -> Event:
    output = {"task_id": report.task.id.removeprefix("task_"), "task_status": _DASHSCOPE.get(report.state, "PENDING")}
    if report.state != "SUCCESS":
        return {"output": output, "request_id": report.nonce}
    usage = {"duration": round(report.task.seconds), "video_count": 1}
    return {"output": {**output, "video_url": report.url}, "usage": usage, "request_id": report.nonce}


def _hailuo(report: Report) -> Event:
    told = {"task_id": report.task.id.removeprefix("task_"), "status": _HAILUO.get(report.state, "Queueing")}
    base = {"status_code": 0, "status_msg": "success"}
    return {**told, "file_id": report.task.id if report.state == "SUCCESS" else "", "base_resp": base}
