"""What does a JSON body say that names its model itself, if all its readers must read the same?

The relay behind us reads a body twice: its router takes the first `model` and minds case, what stands behind that takes
the last one and does not.  So a body passes only where nobody can read another model in it than we do: one object, each
member once, one `model` in whatever case, text that is UTF-8 and nothing around it.
"""

import re
from collections.abc import Mapping

import msgspec
from msgspec import Raw

from gateway.errors import BadRequest, ModelMissing
from gateway.framing import whole_characters

_MEMBERS = msgspec.json.Decoder(dict[str, Raw])
_TEXT = msgspec.json.Decoder(str)
_NAME = re.compile(rb'[ \t\r\n]*+("(?:[^"\\]|\\.)*+")[ \t\r\n]*+:[ \t\r\n]*+')
_NEXT = re.compile(rb"[ \t\r\n]*+[,}]")
_MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+\[\]-]{0,127}")

MAX_MEMBERS = 1000
NO_OBJECT = "The body is not one JSON object in UTF-8. Send {...} with nothing before or behind it."


def members_of(body: bytes) -> Mapping[str, Raw]:
    """The members of a body, each as it stands there.  Raises `BadRequest`."""
    try:
        if not body.isascii():
            body.decode()
        text, members = _decoded(body)
    except (UnicodeDecodeError, msgspec.MsgspecError, RecursionError):
        raise BadRequest(NO_OBJECT) from None
    if len(members) > MAX_MEMBERS:
        raise BadRequest(f"The body has more than {MAX_MEMBERS} members. No API has as many.")
    if not _stand_once(text, members):
        raise BadRequest("A member stands twice in the body, so that two readers could read two things. Send it once.")
    return members


def model_of(members: Mapping[str, Raw]) -> str:
    """The one model that a body names.  Raises `ModelMissing` or `BadRequest`."""
    named = [name for name in members if name.casefold() == "model"]
    if len(named) > 1:
        raise BadRequest("The body names a model twice, in two spellings. Send one member `model`.")
    if not named or bytes(members[named[0]]) in {b"null", b'""'}:
        raise ModelMissing("The body names no model. Add `model`; GET /v1/models lists the names.")
    if named != ["model"]:  # some readers mind case, and would find none
        raise BadRequest("Write the member `model` in small letters.")
    try:
        model = _TEXT.decode(members[named[0]])
    except msgspec.MsgspecError:
        raise BadRequest("The member `model` is not a string.") from None
    if not is_model_name(model):
        raise wrong_name()
    return model


def is_model_name(name: str) -> bool:
    """Whether a model can be called so."""
    return _MODEL.fullmatch(name) is not None


def wrong_name() -> BadRequest:
    """The refusal of a name that no model can have."""
    return BadRequest("A model name is 1 to 128 letters, digits and ._:/@+[]- and begins with a letter or a digit.")


def is_true(members: Mapping[str, Raw], name: str) -> bool:
    """Whether a member is there and `true`; nothing else counts as that."""
    return bytes(members.get(name, b"")) == b"true"


def _decoded(body: bytes) -> tuple[bytes, dict[str, Raw]]:
    """The members, and the text they stand in: halves of surrogate pairs, which JavaScript writes, are replaced."""
    try:
        return body, _MEMBERS.decode(body)
    except msgspec.DecodeError:
        text = whole_characters(body)
        return text, _MEMBERS.decode(text)


def _stand_once(body: bytes, members: Mapping[str, Raw]) -> bool:
    """Whether the members are all there is, one behind the other: of two of a name the decoder keeps but one."""
    at = body.index(b"{") + 1
    for name, value in members.items():
        written = _NAME.match(body, at)
        if written is None or _TEXT.decode(written[1]) != name or not body.startswith(bytes(value), written.end()):
            return False
        behind = _NEXT.match(body, written.end() + len(value))
        if behind is None:
            return False
        at = behind.end()
    return not members or not body[at:].strip(b" \t\r\n")
