"""What may an answer with pictures say that is not so?  From gallery to gallery, by the fault's name (`faults.py`)."""

from collections.abc import Callable, Mapping
from dataclasses import replace

from gateway.sandbox.images.gallery import Gallery

_LINK = "http://169.254.169.254/picture.png"


def _link(gallery: Gallery, _argument: str) -> Gallery:
    linked = tuple(picture and picture._replace(url=_LINK) for picture in gallery.pictures)
    return replace(gallery, pictures=linked, usage_hidden=True)


def _nousage(gallery: Gallery, _argument: str) -> Gallery:
    return replace(gallery, usage_hidden=True)


def _moretokens(gallery: Gallery, argument: str) -> Gallery:
    more = int(argument or "1000")
    return replace(
        gallery, tokens=gallery.tokens and replace(gallery.tokens, completion=gallery.tokens.completion + more)
    )


def _usageall(gallery: Gallery, _argument: str) -> Gallery:
    return replace(gallery, usage_each=True)


GALLERIES: Mapping[str, Callable[[Gallery, str], Gallery]] = {
    "link": _link,
    "nousage": _nousage,
    "moretokens": _moretokens,
    "usageall": _usageall,
}
