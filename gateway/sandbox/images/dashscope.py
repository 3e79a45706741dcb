"""How does DashScope write pictures?  Wan's flat `output`, Qwen's `choices`, and its own frames of a stream."""

from collections.abc import Iterator

import msgspec

from gateway.sandbox.images.gallery import Gallery
from gateway.sandbox.replies import quoted
from gateway.sandbox.wire import SSE, Answer, Event

_encode = msgspec.json.encode


def whole(gallery: Gallery) -> Event:
    """The answer in one piece; a picture that failed is missing."""
    usage = {} if _usage(gallery) is None else {"usage": _usage(gallery)}
    return {"output": _output(list(_content(gallery)), gallery), **usage, "request_id": gallery.nonce}


def stream(gallery: Gallery, gap: float) -> Answer:
    """The answer as events as Alibaba frames them: an id, a status in a comment, no blanks behind the colons."""
    content = list(_content(gallery))
    events = [_event([block], gallery, last=number == len(content) - 1) for number, block in enumerate(content)]
    chunks = [
        b"id:%d\nevent:result\n:HTTP_STATUS/200\ndata:%b\n\n" % (number + 1, _encode(event))
        for number, event in enumerate(events)
    ]
    usages = [event.get("usage") for event in events]
    return Answer(content_type=SSE, chunks=chunks, usages=usages, whole_at=len(chunks) - 1, gap=gap)


def _content(gallery: Gallery) -> Iterator[Event]:
    for picture in gallery.made:
        if gallery.wanted.with_texts:
            yield {"type": "text", "text": f"Here is “{quoted(gallery.wanted.prompt)}”."}
        yield {"type": "image", "image": picture.url}


def _output(content: list[Event], gallery: Gallery, reason: str = "stop") -> Event | list[Event]:
    if gallery.wanted.family == "wan":
        flat = [{"type": block["type"], "text": block.get("image") or block["text"]} for block in content]
        return [{"type": "message", "content": flat}]
    shown = [{name: value for name, value in block.items() if name != "type"} for block in content]
    return {"choices": [{"finish_reason": reason, "message": {"role": "assistant", "content": shown}}]}


def _event(content: list[Event], gallery: Gallery, *, last: bool) -> Event:
    message = {"role": "assistant", "content": content}
    choices = [{"finish_reason": "stop" if last else "null", "message": message}]
    usage = {"usage": _usage(gallery)} if last and _usage(gallery) else {}
    return {"output": {"choices": choices, "finished": last}, **usage, "request_id": gallery.nonce}


def _usage(gallery: Gallery) -> Event | None:
    """`usage`: Qwen's has the pictures alone, Wan's the tokens too; None where it is kept back."""
    if gallery.usage_hidden:
        return None
    width, height = gallery.made[0].size if gallery.made else gallery.wanted.usual_size
    counted: Event = {"image_count": len(gallery.made), "width": width, "height": height}
    if (tokens := gallery.tokens) is None:
        return counted
    return {
        "total_tokens": tokens.total,
        "input_tokens": tokens.prompt,
        "output_tokens": tokens.completion,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens_details": {"reasoning_tokens": 0},
        "image_count": len(gallery.made),
    }
