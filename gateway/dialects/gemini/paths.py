"""What does a path ask for, and which model does it name?

One pattern on the raw path, matched in full.  It takes the base URLs that people really configure: no version, a
doubled one, doubled slashes, `%3A` for the colon, a trailing slash.  The path that goes upstream is never made of
these bytes.  Every repetition is possessive, so that no path makes the matching slow.
"""

import re
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import unquote

from gateway.asgi import Request
from gateway.call import Operation
from gateway.dialects.askers import is_anthropics, is_googles, is_openais
from gateway.dialects.gemini.operations import ACTIONS, GET_MODEL, LIST_MODELS
from gateway.errors import BadRequest, GatewayError, ModelMissing

ROOT = "/v1beta/models"

_PATH = re.compile(
    rb"/++(?:(?P<version>v1(?:beta|alpha)?)/++)*+models"
    rb"(?:/++(?P<model>[^/:]*?)(?:(?::|%3[Aa])(?P<action>[A-Za-z]++))?)?/*+"
)
_MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


class Place(NamedTuple):
    """Where a path leads."""

    operation: Operation
    target: str
    model: str | None
    refusal: Callable[[], GatewayError] | None = None


def place_of(request: Request) -> Place | None:
    """Say what the path asks for; None when it is none of ours."""
    found = _parsed(request.raw_path)
    if found is None:
        return None
    version, place = found
    return place if not place.operation.lists or _lists_for_google(version, request) else None


@lru_cache(maxsize=1024)  # most calls go to a few paths, and the pattern is slow beside a look-up
def _parsed(raw_path: bytes) -> tuple[bytes | None, Place] | None:
    match = _PATH.fullmatch(raw_path)
    if match is None:
        return None
    model, action = unquote((match["model"] or b"").decode("latin-1"), encoding="latin-1"), match["action"]
    operation = ACTIONS.get(action.decode()) if action else GET_MODEL if match["model"] else LIST_MODELS
    if operation is None:
        return None
    if action and not model:
        return match["version"], Place(operation, ROOT, None, ModelMissing)
    if model and not _MODEL.fullmatch(model):
        return match["version"], Place(operation, ROOT, None, _bad_name)
    return match["version"], Place(operation, f"{ROOT}/{model}:{operation.name}" if action else ROOT, model or None)


def _bad_name() -> GatewayError:
    return BadRequest("A model name is 1 to 128 letters, digits, dots, dashes and underscores, like gemini-2.5-flash.")


def _lists_for_google(version: bytes | None, request: Request) -> bool:
    """Whether a list, or a model of it, is wanted in Google's shape: other SDKs ask for theirs at the same path."""
    if version is None:
        return is_googles(request) or not (is_openais(request) or is_anthropics(request))
    return version != b"v1" or is_googles(request)
