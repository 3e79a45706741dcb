"""Where does a request lead?  The first dialect that knows its path says; its operation's row has the HTTP methods."""

from collections.abc import Sequence

from gateway.asgi import Request
from gateway.call import Dialect, Route
from gateway.errors import MethodNotAllowed, RouteUnknown


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
        raise RouteUnknown
