"""Which address does a listener bind to, and which URL reaches it?  On `::` it is dual-stack, where it can be."""

import ipaddress
import socket

BACKLOG = 2048


def listen(host: str, port: int) -> socket.socket:
    """Bind and listen at once, so that two gateways cannot both think that the port is theirs.

    `::` and its other spellings take both families, as in other servers; the system's own default would decide
    otherwise.  Brackets, as of a URL, are taken off.  Raises `OSError` with one line.
    """
    host = host.removeprefix("[").removesuffix("]")
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, *_, address = min(found, key=lambda one: one[0] != socket.AF_INET)  # of a name its IPv4 address first
        six = family == socket.AF_INET6
        return socket.create_server(address, family=family, backlog=BACKLOG, dualstack_ipv6=six)
    except (OSError, UnicodeError) as error:
        why = str(getattr(error, "strerror", error)).partition(" (while")[0]  # create_server repeats the address there
        raise OSError(f"cannot listen on {host} port {port}: {why}") from error


def url_of(listener: socket.socket) -> str:
    """A URL that works when pasted on this machine: any address is reached by the loopback one."""
    host, port = listener.getsockname()[:2]
    address = ipaddress.ip_address(host)
    if address.is_unspecified:
        return f"http://127.0.0.1:{port}"  # of both families, see above
    if address.version == 4:
        return f"http://{host}:{port}"
    return f"http://[{host.replace('%', '%25')}]:{port}"  # the zone of a link-local one, RFC 6874
