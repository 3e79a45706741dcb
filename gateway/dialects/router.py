"""Where does a request lead?  The first dialect that knows its path says; its operation's row has the HTTP methods."""

import re
from collections.abc import Sequence

from gateway.asgi import Request
from gateway.call import Dialect, Route
from gateway.errors import MethodNotAllowed, RouteUnknown

# What SDKs make of a base URL that names a route, and what those for Azure make of any.
_ROUTES = rb"(?:chat/)?completions|embeddings|responses|messages(?:/count_tokens)?|images/[a-z]+|audio/[a-z]+|videos"
_DOUBLED = re.compile(rb".*/(?:%b)/+(?:v1/+)?(?:%b|models)(?:/.*)?" % (_ROUTES, _ROUTES), re.DOTALL)
_AZURE = re.compile(rb"(?:/.*)?/openai/+deployments/.*", re.DOTALL)

DOUBLED = (
    "The base URL names a route already, and the SDK appends another. End it with /v1 for OpenAI's SDKs, "
    "and with the host for Anthropic's."
)
AZURE = (
    "This is the path of Azure's SDK. Use OpenAI's plain one with a base URL that ends in /v1, and name the model in "
    "the body."
)


def hint_for(path: bytes) -> str:
    """What is wrong with a raw path that is no route, where it shows a usual mistake; else nothing."""
    if _AZURE.fullmatch(path):
        return AZURE
    return DOUBLED if _DOUBLED.fullmatch(path) else ""


class Router:
    """The routes of several dialects, whose paths do not collide."""

    def __init__(self, dialects: Sequence[Dialect]) -> None:
        self._dialects = tuple(dialects)

    def find(self, request: Request) -> Route:
        """Raises `RouteUnknown` or `MethodNotAllowed`."""
        for dialect in self._dialects:
            if (route := dialect.route(request)) is not None:
                if request.http_method not in route.operation.http:
                    raise MethodNotAllowed(", ".join(route.operation.http))
                return route
        raise RouteUnknown(hint_for(request.raw_path))
