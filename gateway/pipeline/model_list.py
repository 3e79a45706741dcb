"""Which models may this client use?  Every list and every single model is made from the upstream's own list.

The upstream's pages are kept for a minute, as it wrote them.  Who may use every model is handed them as they are; for
others they are put together, narrowed and cut anew, since Google's SDKs stumble over a page that is empty.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from urllib.parse import parse_qs, quote

from msgspec import structs

from gateway.call import Call
from gateway.dialects import gemini
from gateway.errors import BadRequest, Failed, RouteUnknown, UpstreamBroke, UpstreamTimeout

KEPT_SECONDS = 60.0
MAX_PAGES = 64
WHOLE_PAGES = "pageSize=1000"
EVERY_MODEL = ("*",)
PAGE_MODELS, MAX_PAGE_MODELS = 50, 1000  # as Google has it

Ask = Callable[[Call], Awaitable[bytes]]


class Listing:
    """The upstream's list of models, page by page."""

    def __init__(self, ask_seconds: float) -> None:
        """`ask_seconds` is how long the upstream is waited for, whoever asks."""
        self._ask_seconds = ask_seconds
        self._kept: dict[str, tuple[float, gemini.lists.Page]] = {}
        self._asked: dict[str, asyncio.Task[gemini.lists.Page]] = {}  # pages on their way, for all who want them
        self._away_until = 0.0  # on the loop's clock; until then nobody asks only to know which models there are

    async def answer(self, call: Call, ask: Ask, *, openai: bool) -> bytes:
        """Answer a list or a single model.  `ask` fetches from the upstream."""
        if call.method == "getModel":
            pages = [page async for page in self._all(call, ask)]
            found = gemini.lists.find(pages, call.model)
            if found is None:
                raise RouteUnknown(
                    f"models/{call.model} is not known to the upstream. List the models to see which are."
                )
            return found
        if openai:
            return gemini.lists.openai([page async for page in self._all(call, ask)], call.client)
        if call.client.models == EVERY_MODEL:
            return gemini.lists.written(await self._page(call, ask))
        return gemini.lists.narrowed([page async for page in self._all(call, ask)], call.client, *wanted(call.query))

    async def names(self, call: Call, ask: Ask) -> frozenset[str] | None:
        """Every model of the upstream's list; None where it cannot be had, which is known for as long as a list is."""
        now = asyncio.get_running_loop().time()
        if now < self._away_until:
            return None
        listing = structs.replace(
            call, method="listModels", model="", path=gemini.ROOT, body=b"", stream=False, sse=False
        )
        try:
            return frozenset([model.name async for page in self._all(listing, ask) for model in page])
        except Failed:
            self._away_until = now + KEPT_SECONDS
            return None

    async def _all(self, call: Call, ask: Ask) -> AsyncIterator[gemini.lists.Page]:
        query = WHOLE_PAGES
        for _ in range(MAX_PAGES):
            page = await self._page(structs.replace(call, query=query), ask)
            yield page
            if not page.next_page_token:
                return
            query = f"{WHOLE_PAGES}&pageToken={quote(page.next_page_token, safe='')}"

    async def _page(self, call: Call, ask: Ask) -> gemini.lists.Page:
        now = asyncio.get_running_loop().time()
        kept_at, page = self._kept.get(call.query, (0.0, None))
        if page is not None and now - kept_at < KEPT_SECONDS:
            return page
        asked = self._asked.get(call.query)
        if asked is None:
            asked = self._asked[call.query] = asyncio.create_task(self._fetched(call, ask))
            asked.add_done_callback(partial(self._came, call.query))
        return await asyncio.shield(asked)

    async def _fetched(self, call: Call, ask: Ask) -> gemini.lists.Page:
        """Ask the upstream; also when who asked first has left, since others may wait."""
        try:
            async with asyncio.timeout(self._ask_seconds):
                return gemini.lists.page(await ask(call))
        except TimeoutError:
            raise UpstreamTimeout from None
        except ValueError:
            raise UpstreamBroke("The upstream's list of models cannot be read.") from None

    def _came(self, query: str, asked: asyncio.Task[gemini.lists.Page]) -> None:
        del self._asked[query]
        if asked.cancelled() or asked.exception() is not None:  # told to those who wait
            return
        if len(self._kept) >= MAX_PAGES:
            self._kept.clear()
        self._kept[query] = asyncio.get_running_loop().time(), asked.result()


def wanted(query: str) -> tuple[int, int]:
    """Which models of a narrowed list a query asks for: how many, behind how many.  Raises `BadRequest`."""
    asked = parse_qs(query)
    size, token = int(asked.get("pageSize", ["0"])[0]), asked.get("pageToken", ["0"])[0]
    if not (token.isascii() and token.isdigit() and len(token) < 7):
        raise BadRequest("This page token is unknown. Send nextPageToken of the page before, or none.")
    return min(size or PAGE_MODELS, MAX_PAGE_MODELS), int(token)
