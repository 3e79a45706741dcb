"""Errors of the relay's task routes: its own shape with OpenAI's inside, so that plain scripts and SDKs find theirs."""

import json

import msgspec

from gateway.errors.fault import Fault
from gateway.errors.openai import OpenAIShape, error_object, fault_object
from gateway.errors.tree import GatewayError


class TaskShape(OpenAIShape):
    """`{"code", "message", "data": null, "error": {...}}`; headers and endings are OpenAI's.

    What the upstream wrote in either of the two shapes passes as it is: its callers know both.
    """

    def write(self, error: GatewayError, request_id: str = "", client: str | None = None) -> bytes:  # noqa: ARG002
        return json.dumps(_said(error_object(error))).encode()

    def pass_on(self, fault: Fault, request_id: str = "") -> bytes:  # noqa: ARG002  not in this shape
        if fault.shape in {"task", "openai"}:
            return fault.body
        return msgspec.json.encode(_said(fault_object(fault)))


def _said(error: dict[str, object]) -> dict[str, object]:
    return {"code": error["code"], "message": error["message"], "data": None, "error": error}


class VideosShape(OpenAIShape):
    """OpenAI's; to an error in the relay's own shape the object is added that SDKs read."""

    def pass_on(self, fault: Fault, request_id: str = "") -> bytes:
        if fault.shape == "task":
            return msgspec.json.encode(_said(fault_object(fault)))
        return super().pass_on(fault, request_id)


TASK, VIDEOS = TaskShape(), VideosShape()
