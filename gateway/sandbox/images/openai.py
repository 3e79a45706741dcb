"""How does OpenAI write pictures?  GPT Image's answers and streams, and DALL-E's."""

from collections.abc import Iterator

from gateway.sandbox.images import costs
from gateway.sandbox.images.gallery import Gallery, Picture
from gateway.sandbox.tokens import Tokens
from gateway.sandbox.wire import Event, Frame


def whole(gallery: Gallery) -> Event:
    """The answer in one piece; a picture that failed is missing."""
    answer: Event = {"created": gallery.created, "data": [_entry(picture, gallery) for picture in gallery.made]}
    if gallery.wanted.family == "gpt":
        answer |= _options(gallery, gallery.made[0] if gallery.made else None)
    return answer if gallery.reported is None else {**answer, "usage": usage(gallery.reported)}


def frames(gallery: Gallery) -> list[Frame]:
    """The answer as a stream: of each picture its sketches, then itself; usage stands in the last event."""
    events = [event for picture in gallery.made for event in _events(picture, gallery)]
    if gallery.reported is not None and events:
        if gallery.usage_each:
            events = [_with_own_usage(event, gallery) for event in events]
        else:
            events[-1] |= {"usage": usage(gallery.reported)}
    last = len(events) - 1
    return [
        Frame(event, name=event["type"], usage=event.get("usage"), ends=number == last)
        for number, event in enumerate(events)
    ]


def usage(tokens: Tokens) -> Event:
    """`usage` of an answer with pictures."""
    return {
        "total_tokens": tokens.total,
        "input_tokens": tokens.prompt,
        "output_tokens": tokens.completion,
        "input_tokens_details": {"text_tokens": tokens.prompt - tokens.pictures, "image_tokens": tokens.pictures},
    }


def _entry(picture: Picture, gallery: Gallery) -> Event:
    revised = {"revised_prompt": gallery.wanted.prompt} if gallery.wanted.model == "dall-e-3" else {}
    return {**picture.shown, **revised}


def _options(gallery: Gallery, picture: Picture | None) -> Event:
    width, height = picture.size if picture else gallery.wanted.usual_size
    return {
        "background": "opaque",
        "output_format": gallery.wanted.output,
        "quality": gallery.wanted.quality,
        "size": f"{width}x{height}",
    }


def _events(picture: Picture, gallery: Gallery) -> Iterator[Event]:
    word = "image_edit" if gallery.wanted.edits else "image_generation"
    shared = {"created_at": gallery.created, **_options(gallery, picture)}
    for number, sketch in enumerate(picture.sketches):
        shown = picture._replace(data=sketch, url="").shown
        yield {"type": f"{word}.partial_image", **shown, **shared, "partial_image_index": number}
    yield {"type": f"{word}.completed", **picture.shown, **shared}


def _with_own_usage(event: Event, gallery: Gallery) -> Event:
    """A completed picture with its own part of the usage."""
    if not event["type"].endswith(".completed"):
        return event
    own = costs.of(gallery.wanted, gallery.made[:1])
    return {**event, "usage": own and usage(own)}
