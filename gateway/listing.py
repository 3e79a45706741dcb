"""Which models may this client use?  Every list and every single model is made from the upstream's own list.

Pages are kept for a minute, as the upstream wrote them, and narrowed for each client when they are handed out.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from urllib.parse import quote

from msgspec import structs

from gateway.call import Call
from gateway.dialects.gemini import lists
from gateway.errors import RouteUnknown, UpstreamBroke

KEPT_SECONDS = 60.0
MAX_PAGES = 64
WHOLE_PAGES = "pageSize=1000"

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
        return lists.narrowed(await self._page(call, ask), call.client)

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
