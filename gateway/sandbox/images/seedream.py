"""How does Seedream write pictures?  One that failed is an error in its place, and no end of the answer."""

from gateway.sandbox.images.gallery import Gallery, Picture
from gateway.sandbox.wire import DONE, Event, Frame

_ERROR = {
    "code": "OutputImageSensitiveContentDetected",
    "message": "The request failed because the output image may contain sensitive information.",
}


def whole(gallery: Gallery) -> Event:
    """The answer in one piece."""
    data = [_shown(picture) for picture in gallery.pictures]
    answer = {"model": gallery.wanted.model, "created": gallery.created, "data": data}
    return answer if gallery.reported is None else {**answer, "usage": _usage(gallery)}


def frames(gallery: Gallery) -> list[Frame]:
    """The answer as a stream: an event a picture, then the usage, then `[DONE]`."""
    shared = {"model": gallery.wanted.model, "created": gallery.created}
    events: list[Event] = [
        {
            "type": f"image_generation.partial_{'succeeded' if picture else 'failed'}",
            **shared,
            "image_index": number,
            **_shown(picture),
        }
        for number, picture in enumerate(gallery.pictures)
    ]
    usage = None if gallery.reported is None else _usage(gallery)
    last: Event = {"type": "image_generation.completed", **shared, **({"usage": usage} if usage else {})}
    framed = [Frame(event, name=event["type"]) for event in events]
    return [*framed, Frame(last, name=last["type"], usage=usage, ends=True), DONE]


def _shown(picture: Picture | None) -> Event:
    if picture is None:
        return {"error": _ERROR}
    return {**picture.shown, "size": f"{picture.size[0]}x{picture.size[1]}"}


def _usage(gallery: Gallery) -> Event:
    spent = gallery.reported.total if gallery.reported else 0
    return {"generated_images": len(gallery.made), "output_tokens": spent, "total_tokens": spent}
