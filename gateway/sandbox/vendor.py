"""What does the vendor answer to a call?  Its routes, and what it refuses before it looks at the body."""

from collections.abc import Mapping

from gateway.sandbox import catalogue, gemini, markers, model_list, text, wire
from gateway.sandbox.audio import listening, speaking
from gateway.sandbox.call import Call
from gateway.sandbox.files import PATH as FILES
from gateway.sandbox.files import Files, content_type
from gateway.sandbox.images import route as images
from gateway.sandbox.log import Record
from gateway.sandbox.refusals import middleware_refusal
from gateway.sandbox.videos import content
from gateway.sandbox.videos import route as videos
from gateway.sandbox.videos.tasks import Tasks
from gateway.sandbox.wire import Answer

_SMALL = 64 * 1024  # bytes
_OTHER_KEYS = ("/v1/messages", model_list.PATH)  # routes that take the key as `x-api-key` too

_MEDIA = frozenset({*images.PATHS, speaking.PATH, *listening.PATHS})


class Vendor:
    """The vendor's side of a call.  `key` is the only one it accepts."""

    def __init__(self, key: str) -> None:
        self._key = key.encode()
        self._models = catalogue.load()
        self._files = Files()
        self._tasks = Tasks()

    def marks(self, record: Record, body: bytes) -> Mapping[str, str]:
        """What a call asks for beside its text; polls and downloads have no body, so that their task's request does."""
        return markers.found(body) or videos.marks(record, self._tasks)

    def is_quick(self, call: Call) -> bool:
        """Whether the answer is made in microseconds: not with much to read, to draw, to speak, or a fault."""
        if call.record.path in _MEDIA:
            return False
        route = gemini.ROUTE.fullmatch(call.record.path)
        kind = self._models.get(route["model"]) if route else None
        return call.fault is None and len(call.body) <= _SMALL and kind in {None, "text"}

    def answer(self, call: Call) -> Answer:
        """The answer to a request.  `ValueError` when it cannot be understood."""
        record = call.record
        if record.method not in _methods(record.path):
            message = f"Invalid URL ({record.method} {record.path})"
            return middleware_refusal(404, message, record, kind="invalid_request_error")
        if not self._knows(record):
            return middleware_refusal(401, "Invalid token", record)
        if record.path in text.PATHS:
            return text.answer(call)
        if record.path in _MEDIA:
            return self._media(call)
        if videos.methods(record.path):
            return videos.answer(call, self._tasks)
        return gemini.answer(call, self._models) if gemini.ROUTE.fullmatch(record.path) else model_list.answer(record)

    def file(self, record: Record) -> Answer:
        """A result that an answer has named by its URL: no key is needed, as where the vendor keeps them."""
        name = record.path.removeprefix(FILES)
        if (task := self._tasks.get(name.removesuffix(".mp4"))) and task.state(record.started) == "SUCCESS":
            size = task.marks.get("size")
            return content.served(record, task, size=int(size) if size else None, gap=0)
        data = self._files.get(name)
        return wire.whole(b"", status=404) if data is None else wire.whole(data, content_type=content_type(name))

    def _media(self, call: Call) -> Answer:
        if call.record.path in images.PATHS:
            return images.answer(call, self._files)
        return speaking.answer(call) if call.record.path == speaking.PATH else listening.answer(call)

    def _knows(self, record: Record) -> bool:
        if record.path.startswith(_OTHER_KEYS) and not record.header(b"authorization"):
            return record.header(b"x-api-key") == self._key
        return record.header(b"authorization") == b"Bearer " + self._key


def _methods(path: str) -> tuple[str, ...]:
    """The methods of a route; none where there is no route."""
    if path in text.PATHS or path in _MEDIA:
        return ("POST",)
    if path == model_list.PATH or path.startswith(f"{model_list.PATH}/"):
        return ("GET",)
    if route := gemini.ROUTE.fullmatch(path):
        return ("POST",) if route["method"] else ("GET",)
    return videos.methods(path)
