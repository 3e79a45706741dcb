"""What may this client see of the upstream's list of models?

Each model's own bytes pass unchanged; only which of them, and what is written around them, is ours.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import msgspec
from msgspec import Raw

from gateway.config import Client
from gateway.framing import decoded

_PREFIX = "models/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """One model, by the name that paths use."""

    name: str
    written: Raw


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """One page of the upstream's list."""

    models: tuple[Listed, ...]
    next_page_token: str = ""  # "" on the last page

    def __iter__(self) -> Iterator[Listed]:
        return iter(self.models)


class _Page(msgspec.Struct, omit_defaults=True):
    models: list[Raw]
    nextPageToken: str | None = None


class _Model(msgspec.Struct):
    name: str


_PAGE = msgspec.json.Decoder(_Page)
_MODEL = msgspec.json.Decoder(_Model)


def page(body: bytes) -> Page:
    """Read one page.  Raises `ValueError` when it is not one."""
    read = decoded(_PAGE, body)
    return Page(models=tuple(_listed(one) for one in read.models), next_page_token=read.nextPageToken or "")


def written(page: Page) -> bytes:
    """Write a page as it is, in Google's shape."""
    return msgspec.json.encode(_Page(models=[one.written for one in page], nextPageToken=page.next_page_token or None))


def narrowed(pages: Iterable[Page], client: Client, size: int, begin: int) -> bytes:
    """Write so many of the models that the client may use; the next page's token is where it begins."""
    models = [one.written for page in pages for one in page if client.may_use(one.name)]
    end = begin + size
    return msgspec.json.encode(_Page(models=models[begin:end], nextPageToken=str(end) if end < len(models) else None))


def openai(pages: Iterable[Page], client: Client) -> bytes:
    """Write what the client may use, in OpenAI's shape."""
    names = [one.name for page in pages for one in page if client.may_use(one.name)]
    data = [{"id": name, "object": "model", "created": 0, "owned_by": "google"} for name in names]
    return msgspec.json.encode({"object": "list", "data": data})


def find(pages: Iterable[Page], model: str) -> bytes | None:
    """Give one model as the upstream wrote it."""
    return next((bytes(one.written) for page in pages for one in page if one.name == model), None)


def _listed(written: Raw) -> Listed:
    name = decoded(_MODEL, written).name
    return Listed(name=name.removeprefix(_PREFIX), written=written)
