"""What shall the video be, as far as limits need it: how long, and how large?

There are three families of bodies: OpenAI's members, those of the relay with a `metadata` of the maker's, and the
makers' own with `parameters`.  All are read alike, and the body is forwarded as it came.
"""

import re
from collections.abc import Iterator, Mapping

import msgspec
from msgspec import Raw

from gateway.call import Demand
from gateway.dialects.multipart import Form
from gateway.dialects.openai.media import first_byte
from gateway.dialects.values import ABSENT, count_of
from gateway.framing import lenient

WITHIN = ("metadata", "parameters")  # members that hold the same once more
LENGTHS = ("seconds", "duration")
SIZES = ("size", "resolution")
MAX_TEXT_BYTES = 256 * 1024

# Pixels of a frame by the names of resolutions.
PIXELS: Mapping[str, int] = {
    "480p": 864 * 480,
    "512p": 912 * 512,
    "720p": 1280 * 720,
    "768p": 1366 * 768,
    "1080p": 1920 * 1080,
    "2k": 2560 * 1440,
    "4k": 3840 * 2160,
}
_SIZE = re.compile(r"(\d{2,5})\s*[x*]\s*(\d{2,5})", re.IGNORECASE)
_MEMBERS = msgspec.json.Decoder(dict[str, Raw])
_TEXT = msgspec.json.Decoder(str)
_WORDS = re.compile(r"--(dur|duration|rs|resolution)\s+(\w{1,8})")  # options within a prompt


def demand_of(members: Mapping[str, Raw], body: bytes) -> Demand:
    """Say what a JSON body asks for.  Never raises."""
    levels = [members, *filter(None, (_object(members.get(name, ABSENT)) for name in WITHIN))]
    options = dict(_WORDS.findall(body[:MAX_TEXT_BYTES].decode(errors="replace"))) if b"--" in body else {}
    lengths = [count_of(level.get(name, ABSENT)) for level in levels for name in LENGTHS]
    sizes = [_pixels(lenient(_TEXT, level.get(name, ABSENT)) or "") for level in levels for name in SIZES]
    lengths += [count_of(Raw(options[name].encode())) for name in ("dur", "duration") if name in options]
    sizes += [_pixels(options[name]) for name in ("rs", "resolution") if name in options]
    return Demand(videos=1, seconds=next(_known(lengths), None), pixels=next(_known(sizes), None))


def demand_of_form(form: Form) -> Demand:
    """The same of a form.  Raises `BadRequest` for a field that stands there twice."""
    seconds = [count_of(Raw(form.text(name).encode())) for name in LENGTHS]
    sizes = [_pixels(form.text(name)) for name in SIZES]
    images = len(form.files("input_reference")) + len(form.files("image"))
    return Demand(videos=1, images=images, seconds=next(_known(seconds), None), pixels=next(_known(sizes), None))


def _known(values: list[int | None]) -> Iterator[int]:
    return (value for value in values if value)


def _object(raw: Raw) -> Mapping[str, Raw] | None:
    """An object, also one that is written into a string."""
    text = lenient(_TEXT, raw) if first_byte(raw) == b'"' else None
    return lenient(_MEMBERS, Raw(text.encode()) if text else raw)


def _pixels(size: str) -> int | None:
    if found := _SIZE.fullmatch(size.strip()):
        return int(found[1]) * int(found[2])
    return PIXELS.get(size.strip().lower())
