"""What does a path ask for, and which model does it name?

One pattern on the raw path, matched in full.  It takes the base URLs that people really configure: no version, a
doubled one, doubled slashes, `%3A` for the colon, a trailing slash.  The path that goes upstream is never made of
these bytes.  Every repetition is possessive, so that no path makes the matching slow.
"""

import re
from functools import lru_cache
from urllib.parse import parse_qs, unquote

from gateway.asgi import Request
from gateway.dialects.dialect import Route
from gateway.errors import BadRequest, MethodNotAllowed, ModelMissing

ACTIONS = frozenset({"generateContent", "streamGenerateContent", "countTokens", "embedContent", "batchEmbedContents"})

_PATH = re.compile(
    rb"/++(?:(?P<version>v1(?:beta|alpha)?)/++)*+models"
    rb"(?:/++(?P<model>[^/:]*?)(?:(?::|%3[Aa])(?P<action>[A-Za-z]++))?)?/*+"
)
_MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


def route(request: Request) -> Route | None:
    """Say what the path asks for; None when it is none of ours.  Raises `MethodNotAllowed`."""
    found = _parsed(request.raw_path)
    if found is None:
        return None
    version, asked = found
    _allow(request, "POST" if asked.method in ACTIONS else "GET, HEAD")
    if asked.method == "listModels" and version == b"v1" and not _from_google(request):
        return Route(method="listModels", openai_list=True)
    return asked


@lru_cache(maxsize=1024)  # most calls go to a few paths, and the pattern is slow beside a look-up
def _parsed(raw_path: bytes) -> tuple[bytes | None, Route] | None:
    match = _PATH.fullmatch(raw_path)
    if match is None:
        return None
    model, action = (match["model"] or b"").decode("latin-1"), (match["action"] or b"").decode()
    if action:
        return (match["version"], Route(method=action, raw_model=model)) if action in ACTIONS else None
    return match["version"], Route(method="getModel" if model else "listModels", raw_model=model)


def model(route: Route) -> str:
    """Decode the model's name, once.  Raises `ModelMissing` or `BadRequest`."""
    name = unquote(route.raw_model, encoding="latin-1")
    if not name and route.method in ACTIONS:
        raise ModelMissing
    if name and not _MODEL.fullmatch(name):
        raise BadRequest(
            "A model name is 1 to 128 letters, digits, dots, dashes and underscores, like gemini-2.5-flash."
        )
    return name


def _allow(request: Request, allowed: str) -> None:
    if request.http_method not in allowed.split(", "):
        raise MethodNotAllowed(allowed)


def _from_google(request: Request) -> bool:
    headers = request.headers
    return (
        b"x-goog-api-key" in headers
        or b"x-goog-api-client" in headers
        or "key" in parse_qs(request.query.decode("latin-1"))
    )
