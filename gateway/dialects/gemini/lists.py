"""What may this client see of the upstream's list of models, in Google's shape?

Each model's own bytes pass unchanged; only which of them, and what is written around them, is ours.  Who may use every
model is handed the upstream's pages as they are; for others they are put together, narrowed and cut anew, since
Google's SDKs stumble over a page that is empty.
"""

from collections.abc import Iterable, Sequence
from typing import Final
from urllib.parse import parse_qs, quote

import msgspec
from msgspec import Raw

from gateway.call import Call, ListedModel, ModelPage
from gateway.config import Client
from gateway.dialects.gemini.paths import ROOT
from gateway.errors import BadRequest, RouteUnknown
from gateway.framing import decoded

EVERY_MODEL = ("*",)
PAGE_MODELS, MAX_PAGE_MODELS = 50, 1000  # as Google has it

_PREFIX = "models/"


class _Page(msgspec.Struct, omit_defaults=True):
    models: list[Raw]
    nextPageToken: str | None = None


class _Model(msgspec.Struct):
    name: str


_PAGE = msgspec.json.Decoder(_Page)
_MODEL = msgspec.json.Decoder(_Model)


class GeminiModels:
    """The list under /v1beta/models."""

    target: Final = ROOT
    query: Final = f"pageSize={MAX_PAGE_MODELS}"

    def read(self, body: bytes) -> ModelPage:
        read = decoded(_PAGE, body)
        token = read.nextPageToken
        following = f"{self.query}&pageToken={quote(token, safe='')}" if token else ""
        return ModelPage([_listed(one) for one in read.models], following)

    def page_wanted(self, call: Call) -> str | None:
        return call.plan.query if not call.model and call.client.models == EVERY_MODEL else None

    def answer(self, call: Call, pages: Sequence[ModelPage]) -> bytes:
        if call.model:
            return find(pages, call.model)
        if call.client.models == EVERY_MODEL:
            return written(pages[0])
        return narrowed(pages, call.client, *wanted(call.plan.query))


def written(page: ModelPage) -> bytes:
    """Write a page as it is."""
    token = parse_qs(page.next_query).get("pageToken", [None])[0]
    return msgspec.json.encode(_Page(models=[one.entry for one in page.models], nextPageToken=token))


def narrowed(pages: Iterable[ModelPage], client: Client, size: int, begin: int) -> bytes:
    """Write so many of the models that the client may use; the next page's token is where it begins."""
    models = [one.entry for page in pages for one in page.models if client.may_use(one.name)]
    end = begin + size
    return msgspec.json.encode(_Page(models=models[begin:end], nextPageToken=str(end) if end < len(models) else None))


def find(pages: Iterable[ModelPage], model: str) -> bytes:
    """Give one model as the upstream wrote it.  Raises `RouteUnknown`."""
    for page in pages:
        for one in page.models:
            if one.name == model:
                return bytes(one.entry)
    raise RouteUnknown(f"models/{model} is not known to the upstream. List the models to see which are.")


def wanted(query: str) -> tuple[int, int]:
    """Which models of a narrowed list a query asks for: how many, behind how many.  Raises `BadRequest`."""
    asked = parse_qs(query)
    size, token = int(asked.get("pageSize", ["0"])[0]), asked.get("pageToken", ["0"])[0]
    if not (token.isascii() and token.isdigit() and len(token) < 7):
        raise BadRequest("This page token is unknown. Send nextPageToken of the page before, or none.")
    return min(size or PAGE_MODELS, MAX_PAGE_MODELS), int(token)


def _listed(entry: Raw) -> ListedModel:
    return ListedModel(decoded(_MODEL, entry).name.removeprefix(_PREFIX), entry)


GEMINI_MODELS: Final = GeminiModels()
