"""Where are the results that an answer names by URL?  In the sandbox's own memory, for a while, and without a key."""

from collections import OrderedDict
from threading import Lock

from gateway.sandbox.log import Record

PATH = "/sandbox/files/"
_MOST_BYTES = 256 * 1024 * 1024
_TYPES = {"png": b"image/png", "jpeg": b"image/jpeg", "webp": b"image/webp", "mp4": b"video/mp4"}


class Files:
    """The last results; the oldest are forgotten when there are too many bytes."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, bytes] = OrderedDict()
        self._bytes = 0
        self._lock = Lock()

    def keep(self, name: str, data: bytes) -> None:
        """Serve a result."""
        with self._lock:
            self._bytes += len(data) - len(self._kept.pop(name, b""))
            self._kept[name] = data
            while self._bytes > _MOST_BYTES and len(self._kept) > 1:
                self._bytes -= len(self._kept.popitem(last=False)[1])

    def get(self, name: str) -> bytes | None:
        """A result, while it is kept."""
        return self._kept.get(name)


def address(record: Record, name: str) -> str:
    """The URL of a result, at the host where the sandbox was called."""
    return f"http://{record.header(b'host').decode('latin-1')}{PATH}{name}"


def content_type(name: str) -> bytes:
    """What a result is, by the end of its name."""
    return _TYPES.get(name.rpartition(".")[2], b"application/octet-stream")
