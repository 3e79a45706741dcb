"""How are the pictures of a request made?"""

from functools import lru_cache

from PIL import Image, ImageOps

from gateway.sandbox import pictures
from gateway.sandbox.files import PATH, Files, address
from gateway.sandbox.images.gallery import Picture
from gateway.sandbox.images.wanted import Wanted
from gateway.sandbox.log import Record


def drawn(wanted: Wanted, files: Files, record: Record, size: int | None) -> tuple[Picture, ...]:
    """Every picture; `size` asks for so many bytes.  `ValueError` when one that was sent cannot be read."""
    sent = [_seen(source, files) for source in wanted.sources]
    mask = _seen(wanted.mask, files) if wanted.mask else None
    made = (_one(wanted, sent, mask, number, size) for number in range(wanted.count))
    return tuple(_placed(picture, number, wanted, files, record) for number, picture in enumerate(made))


def _one(wanted: Wanted, sent: list[Image.Image], mask: Image.Image | None, number: int, size: int | None) -> Picture:
    if size is not None:
        return Picture(_noise(size), wanted.usual_size)
    seed = f"{wanted.prompt}#{number}"
    picture = _drawn(wanted, sent, mask, seed)
    sketches = [pictures.sketch(picture, step) for step in range(wanted.sketches if wanted.stream else 0)]
    written = [pictures.written(each, wanted.output) for each in (picture, *sketches)]
    return Picture(written[0], picture.size, sketches=tuple(written[1:]))


def _drawn(wanted: Wanted, sent: list[Image.Image], mask: Image.Image | None, seed: str) -> Image.Image:
    if not sent:
        return pictures.generated(wanted.prompt, wanted.model, size=wanted.size or wanted.usual_size, seed=seed)
    if mask:
        picture = pictures.inpainted(sent, mask, wanted.prompt, wanted.model, seed=seed)
    else:
        picture = pictures.edited(sent, wanted.prompt, wanted.model, seed=seed)
    return ImageOps.fit(picture, wanted.size) if wanted.size and wanted.size != picture.size else picture


def _seen(source: bytes | str, files: Files) -> Image.Image:
    """A picture that was sent.  What is said to be elsewhere is not fetched: a landscape stands in for it."""
    if isinstance(source, bytes):
        return pictures.opened(source)
    own = files.get(source.rpartition(PATH)[2])
    return pictures.opened(own) if own else pictures.generated(source, "somebody else", size=(640, 480), seed=source)


def _placed(picture: Picture, number: int, wanted: Wanted, files: Files, record: Record) -> Picture:
    """A picture with its address, if that is what the answer has."""
    if not wanted.as_url:
        return picture
    name = f"{record.nonce}-{number}.{wanted.output}"
    files.keep(name, picture.data)
    return picture._replace(url=address(record, name))


@lru_cache(maxsize=4)  # benchmarks ask for the same one again and again
def _noise(size: int) -> bytes:
    return pictures.noise(size)
