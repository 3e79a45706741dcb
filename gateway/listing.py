"""Which models may this client use?  Every list and every single model is made from the upstream's own list.

The upstream's pages are kept for a minute, as it wrote them.  Who may use every model is handed them as they are; for
others they are put together, narrowed and cut anew, since Google's SDKs stumble over a page that is empty.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from urllib.parse import parse_qs, quote

from msgspec import structs

from gateway.call import Call
from gateway.dialects.gemini import lists
from gateway.errors import BadRequest, RouteUnknown, UpstreamBroke

KEPT_SECONDS = 60.0
MAX_PAGES = 64
WHOLE_PAGES = "pageSize=1000"
EVERY_MODEL = ("*",)
PAGE_MODELS, MAX_PAGE_MODELS = 50, 1000  # as Google has it

Ask = Callable[[Call], Awaitable[bytes]]


class Listing:
    """The upstream's list of models, page by page."""

    def __init__(self) -> None:
        self._kept: dict[str, tuple[float, lists.Page]] = {}

    async def answer(self, call: Call, ask: Ask, *, openai: bool) -> bytes:
        """Answer a list or a single model.  `ask` fetches from the upstream."""
        if call.method == "getModel":
            pages = [page async for page in self._all(call, ask)]
            found = lists.find(pages, call.model)
            if found is None:
                raise RouteUnknown(
                    f"models/{call.model} is not known to the upstream. List the models to see which are."
                )
            return found
        if openai:
            return lists.openai([page async for page in self._all(call, ask)], call.client)
        if call.client.models == EVERY_MODEL:
            return lists.written(await self._page(call, ask))
        return lists.narrowed([page async for page in self._all(call, ask)], call.client, *wanted(call.query))

    async def _all(self, call: Call, ask: Ask) -> AsyncIterator[lists.Page]:
        query = WHOLE_PAGES
        for _ in range(MAX_PAGES):
            page = await self._page(structs.replace(call, query=query), ask)
            yield page
            if not page.next_page_token:
                return
            query = f"{WHOLE_PAGES}&pageToken={quote(page.next_page_token, safe='')}"

    async def _page(self, call: Call, ask: Ask) -> lists.Page:
        now = asyncio.get_running_loop().time()
        kept_at, page = self._kept.get(call.query, (0.0, None))
        if page is not None and now - kept_at < KEPT_SECONDS:
            return page
        try:
            page = lists.page(await ask(call))
        except ValueError:
            raise UpstreamBroke("The upstream's list of models cannot be read.") from None
        if len(self._kept) >= MAX_PAGES:
            self._kept.clear()
        self._kept[call.query] = now, page
        return page


def wanted(query: str) -> tuple[int, int]:
    """Which models of a narrowed list a query asks for: how many, behind how many.  Raises `BadRequest`."""
    asked = parse_qs(query)
    size, token = int(asked.get("pageSize", ["0"])[0]), asked.get("pageToken", ["0"])[0]
    if not (token.isascii() and token.isdigit() and len(token) < 7):
        raise BadRequest("This page token is unknown. Send nextPageToken of the page before, or none.")
    return min(size or PAGE_MODELS, MAX_PAGE_MODELS), int(token)
