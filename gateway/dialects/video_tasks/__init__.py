"""How are videos made?  As tasks: one call creates a task, others ask for it until it has ended, one takes the file.

Two dialects, since the callers of two paths read their errors in two shapes: `GENERATIONS` is the relay's own path,
`VIDEOS` is OpenAI's.  Either path asks for any task.  Whose a task is, the pipeline knows.
"""

import re
from typing import Final

from gateway.asgi import Request
from gateway.call import TASK_ID, Call, Demand, Framing, Meter, Operation, Plan, Route
from gateway.dialects.json_body import members_of, model_of
from gateway.dialects.model_lists import OPENAI_MODELS
from gateway.dialects.multipart import Form
from gateway.dialects.openai.operations import check_headers
from gateway.dialects.paths import pattern_of
from gateway.dialects.video_tasks.body import demand_of, demand_of_form
from gateway.dialects.video_tasks.meter import TaskMeter
from gateway.dialects.video_tasks.operations import CONTENT, CONTENT_HEAD, CREATE, GENERATE, POLL, REMIX
from gateway.errors import TASK, BadRequest, ErrorShape
from gateway.errors import VIDEOS as VIDEOS_SHAPE
from gateway.framing import Whole, is_form

__all__ = ["GENERATIONS", "VIDEOS"]

_BEHIND: Final = rb"(?:/++(?P<task>%b)(?:/++(?P<part>content|remix))?)?" % TASK_ID.encode()
_VARIANT: Final = re.compile(rb"variant=[a-z_]{1,32}")
OTHER_MODEL: Final = "A remix is made by the model of the video it remixes. Leave `model` out."


class Videos:
    """The dialect of one of the paths, as the pipeline uses it."""

    models: Final = OPENAI_MODELS

    def __init__(self, name: str, tail: str, errors: ErrorShape, create: Operation, *, files: bool) -> None:
        """`files`: this path has the files of videos too, and remixes."""
        self.name, self.errors = name, errors
        self._path, self._target, self._create, self._files = pattern_of([tail], _BEHIND), f"/v1/{tail}", create, files

    def route(self, request: Request) -> Route | None:
        """Say what the path asks for; None when it is none of ours."""
        if (found := self._path.fullmatch(request.raw_path)) is None:
            return None
        if found["task"] is None:
            return Route(dialect=self, operation=self._create, target=self._target)
        task, part = found["task"].decode(), (found["part"] or b"").decode()
        if part and not self._files:
            return None
        content = CONTENT_HEAD if request.http_method == "HEAD" else CONTENT
        operation = {"": POLL, "content": content, "remix": REMIX}[part]
        target = f"{self._target}/{task}/{part}" if part else f"{self._target}/{task}"
        return Route(dialect=self, operation=operation, target=target, task=task)

    def plan(self, route: Route, request: Request, body: bytes) -> Plan:
        """Say what the body adds.  Raises `BadRequest` and `ModelMissing`."""
        operation = route.operation
        if operation.task == "reads":
            variant = next(filter(_VARIANT.fullmatch, request.query.split(b"&")), b"") if operation.download else b""
            return Plan(model=route.model or "", stream=operation.download, query=variant.decode(), cacheable=False)
        check_headers(operation, request)
        if operation is REMIX:
            return _remix(route, body)
        content_type = request.headers.get(b"content-type")
        if is_form(content_type):
            form = Form.read(content_type, body)
            return Plan(model=form.model, demand=demand_of_form(form), content_type=form.content_type, cacheable=False)
        members = members_of(body)
        return Plan(model=model_of(members), demand=demand_of(members, body), cacheable=False)

    def framing(self, call: Call, content_type: str) -> Framing:  # noqa: ARG002  files have none
        """Whole JSON."""
        return Whole(content_type)

    def meter(self, call: Call) -> Meter:
        """Make the reader of this call's answer."""
        return TaskMeter(creates=call.operation.task == "creates")


def _remix(route: Route, body: bytes) -> Plan:
    """Another video after one of the client's own, by the same model, whatever readers of the body may find in it."""
    members = members_of(body)
    if any(name.casefold() == "model" for name in members) and model_of(members) != route.model:
        raise BadRequest(OTHER_MODEL)
    return Plan(model=route.model or "", demand=Demand(videos=1), cacheable=False)


GENERATIONS: Final = Videos("video_tasks", "video/generations", TASK, GENERATE, files=False)
VIDEOS: Final = Videos("videos", "videos", VIDEOS_SHAPE, CREATE, files=True)
