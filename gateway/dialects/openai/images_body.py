"""What does a request for pictures ask for, as far as limits and metrics need it?

OpenAI and Seedream write it at the top of the body, Wan and Qwen in DashScope's `input` and `parameters`.
"""

from collections.abc import Iterator, Mapping

import msgspec
from msgspec import Raw

from gateway.call import Demand
from gateway.dialects.json_body import is_true
from gateway.dialects.multipart import Form
from gateway.dialects.openai.media import first_byte
from gateway.dialects.values import ABSENT, count_of, enum_token, plain_text
from gateway.framing import Legible, TooManyObjects, decoded, legible, lenient

MANY = 15  # pictures, where it is up to the model: the catalogue knows how many it makes at most

Members = Mapping[str, Raw]


class Turn(msgspec.Struct, gc=False):
    """A turn of DashScope's `input`."""

    content: Raw = ABSENT


class Piece(msgspec.Struct, gc=False):
    """A part of it."""

    image: Raw = ABSENT


_MEMBERS = msgspec.json.Decoder(dict[str, Raw])
_LIST = msgspec.json.Decoder(list[Raw])
_TURNS = msgspec.json.Decoder(list[Turn])
_PIECES = msgspec.json.Decoder(list[Piece])


def demand_of(members: Members, body: bytes) -> Demand:
    """Say what a JSON body asks for, whose members these are.  Never raises."""
    try:
        lean = legible(body)
        if lean.text is not body:
            read: dict[str, Raw] = decoded(_MEMBERS, lean.text)
            members = read
        images, size = _pictures(members, lean)
    except (TooManyObjects, ValueError):
        return Demand(text_chars=len(body), image_output=True, unread=True)
    parameters = _within(members, "parameters")
    asked = [max(1, count_of(source.get("n", ABSENT)) or 1) for source in (members, parameters)]
    allowed = list(_allowed(members, parameters))
    return Demand(
        text_chars=len(body) - size,
        images=images,
        candidates=max([*asked, *allowed]),
        up_to=bool(allowed),
        image_output=True,
        size=plain_text(members.get("size", parameters.get("size", ABSENT))),
        quality=plain_text(members.get("quality", ABSENT)),
    )


def demand_of_form(form: Form) -> Demand:
    """Say what a form asks for.  Raises `BadRequest`."""
    return Demand(
        text_chars=form.text_bytes,
        images=len(form.files("image")),
        candidates=max(1, count_of(Raw(form.text("n").encode())) or 1),
        image_output=True,
        size=_word(form.text("size")),
        quality=_word(form.text("quality")),
    )


def streams(members: Members) -> bool:
    """Whether events are asked for."""
    return is_true(members, "stream") or is_true(_within(members, "parameters"), "stream")


def _allowed(members: Members, parameters: Members) -> Iterator[int]:
    """How many a series may have, where Seedream or Wan is to decide it."""
    if enum_token(members.get("sequential_image_generation", ABSENT)) == b"AUTO":
        options = _within(members, "sequential_image_generation_options")
        yield count_of(options.get("max_images", ABSENT)) or MANY
    if is_true(parameters, "enable_interleave"):
        yield count_of(parameters.get("max_images", ABSENT)) or MANY


def _pictures(members: Members, lean: Legible) -> tuple[int, int]:
    """How many are put in, and how much of the body they are."""
    found = [one for name in ("image", "images") for one in _several(members.get(name, ABSENT))]
    turns = lenient(_TURNS, _within(members, "input").get("messages", ABSENT)) or []
    found += [piece.image for turn in turns for piece in lenient(_PIECES, turn.content) or () if piece.image]
    masks = [members["mask"]] if "mask" in members else []
    return len(found), sum(lean.size(raw) for raw in [*found, *masks])


def _several(raw: Raw) -> list[Raw]:
    if first_byte(raw) == b"[":
        return lenient(_LIST, raw) or []
    return [raw] if raw and bytes(raw) != b"null" else []


def _within(members: Members, name: str) -> Members:
    return lenient(_MEMBERS, members.get(name, ABSENT)) or {}


def _word(text: str) -> str:
    return plain_text(Raw(msgspec.json.encode(text)))
