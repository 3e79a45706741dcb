"""What does the vendor answer on the routes of pictures?"""

from collections.abc import Callable, Mapping

from gateway.sandbox import channel, wire
from gateway.sandbox.call import Call
from gateway.sandbox.files import Files
from gateway.sandbox.images import costs, dashscope, drawing, openai, request, seedream
from gateway.sandbox.images.gallery import Gallery, Picture
from gateway.sandbox.images.wanted import Wanted
from gateway.sandbox.refusals import middleware_refusal
from gateway.sandbox.wire import Answer, Event, Frame

EDITS = "/v1/images/edits"
PATHS = frozenset({"/v1/images/generations", EDITS})
_WHOLE: Mapping[str, Callable[[Gallery], Event]] = {
    "gpt": openai.whole,
    "dalle": openai.whole,
    "seedream": seedream.whole,
    "wan": dashscope.whole,
    "qwen": dashscope.whole,
}
_FRAMES: Mapping[str, Callable[[Gallery], list[Frame]]] = {"gpt": openai.frames, "seedream": seedream.frames}


def answer(call: Call, files: Files) -> Answer:
    """The answer to a request on one of `PATHS`.  `ValueError` when it cannot be understood."""
    wanted = request.read(call.body, call.content_type, edits=call.record.path == EDITS)
    if refused := channel.refused(call, wanted.model, "image"):
        return refused
    call.record.stream = wanted.stream
    if call.fault and call.fault.name == "blocked":
        message = "Your request was rejected by the safety system."
        return middleware_refusal(
            400, message, call.record, code="moderation_blocked", kind="image_generation_user_error"
        )
    return _written(call, _gallery(call, wanted.checked(), files))


def _gallery(call: Call, wanted: Wanted, files: Files) -> Gallery:
    """What is shown, and what it costs; the log has the true cost, whatever a fault makes of it."""
    shown: list[Picture | None] = list(drawing.drawn(wanted, files, call.record, call.size))
    if call.fault and call.fault.name == "onefails":
        shown[int(call.fault.argument or "-1") % len(shown)] = None
    gallery = Gallery(
        wanted=wanted,
        pictures=tuple(shown),
        tokens=costs.of(wanted, [picture for picture in shown if picture]),
        nonce=call.record.nonce,
        created=int(call.record.started),
    )
    call.record.pictures = len(gallery.made)
    call.record.tokens = gallery.tokens.kinds() if gallery.tokens else None
    return call.fault.change_gallery(gallery) if call.fault else gallery


def _written(call: Call, gallery: Gallery) -> Answer:
    wanted = gallery.wanted
    if call.fault.streams(asked=wanted.stream) if call.fault else wanted.stream:
        if frames := _FRAMES.get(wanted.family):
            return wire.framed(frames(gallery), call.gap)
        if wanted.family in {"wan", "qwen"} and call.record.header(b"x-dashscope-sse") == b"enable":
            return dashscope.stream(gallery, call.gap)
    event = _WHOLE[wanted.family](gallery)
    return wire.unary(event, usage=event.get("usage"))
