"""Which models may this client use?  Every list and every single model is made from the upstream's own list.

The upstream's pages are kept for a minute, as it wrote them.  Who may use every model is handed them as they are; for
others they are put together, narrowed and cut anew, since Google's SDKs stumble over a page that is empty.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from urllib.parse import parse_qs, quote

from msgspec import structs

from gateway.call import Call, Plan, Route, Sink, UpstreamRequest
from gateway.dialects import gemini
from gateway.errors import BadRequest, Failed, RouteUnknown, UpstreamBroke, UpstreamTimeout
from gateway.framing import JSON
from gateway.upstream import Attempts

MAX_PAGES = 64
WHOLE_PAGES = "pageSize=1000"
EVERY_MODEL = ("*",)
PAGE_MODELS, MAX_PAGE_MODELS = 50, 1000  # as Google has it

Fetch = Callable[[Call, Attempts], Awaitable[bytes]]


@dataclass(slots=True, kw_only=True)
class ListedModels:
    """What a list or a single model is answered with."""

    models: "ModelList"
    call: Call
    attempts: Attempts
    saved_tokens: int = 0

    async def play(self, sink: Sink) -> None:
        """Pass it on."""
        await sink.whole(200, JSON, await self.models.body_for(self.call, self.attempts))


class ModelList:
    """The upstream's list of models, page by page."""

    def __init__(self, fetch: Fetch, ask_seconds: float, kept_seconds: float) -> None:
        """`fetch` asks the upstream for a page, which is waited for and then kept for so long, whoever asks."""
        self._fetch, self._ask_seconds, self._kept_seconds = fetch, ask_seconds, kept_seconds
        self._kept: dict[str, tuple[float, gemini.lists.Page]] = {}
        self._asked: dict[str, asyncio.Task[gemini.lists.Page]] = {}  # pages on their way, for all who want them
        self._away_until = 0.0  # on the loop's clock; until then nobody asks only to know which models there are

    def answer(self, call: Call, attempts: Attempts) -> ListedModels:
        """The answer to a list or a single model, to be asked for on the bill of `attempts`."""
        return ListedModels(models=self, call=call, attempts=attempts)

    async def body_for(self, call: Call, attempts: Attempts) -> bytes:
        """What the client may see of it.  Raises `RouteUnknown`, `BadRequest` and what asking raises."""
        if call.model:
            pages = [page async for page in self._all(call, attempts)]
            found = gemini.lists.find(pages, call.model)
            if found is None:
                raise RouteUnknown(
                    f"models/{call.model} is not known to the upstream. List the models to see which are."
                )
            return found
        if call.operation is gemini.LIST_FOR_OPENAI:
            return gemini.lists.openai([page async for page in self._all(call, attempts)], call.client)
        if call.client.models == EVERY_MODEL:
            return gemini.lists.written(await self._page(asked_for(call, call.plan.query), attempts))
        return gemini.lists.narrowed(
            [page async for page in self._all(call, attempts)], call.client, *wanted(call.plan.query)
        )

    async def names(self, call: Call, attempts: Attempts) -> frozenset[str] | None:
        """Every model of the upstream's list; None where it cannot be had, which is known for as long as a list is."""
        now = asyncio.get_running_loop().time()
        if now < self._away_until:
            return None
        route = Route(dialect=gemini.GEMINI, operation=gemini.LIST_MODELS, target=gemini.ROOT)
        listing = structs.replace(call, route=route, plan=Plan(model=""))
        try:
            return frozenset([model.name async for page in self._all(listing, attempts) for model in page])
        except Failed:
            self._away_until = now + self._kept_seconds
            return None

    async def _all(self, call: Call, attempts: Attempts) -> AsyncIterator[gemini.lists.Page]:
        query = WHOLE_PAGES
        for _ in range(MAX_PAGES):
            page = await self._page(asked_for(call, query), attempts)
            yield page
            if not page.next_page_token:
                return
            query = f"{WHOLE_PAGES}&pageToken={quote(page.next_page_token, safe='')}"

    async def _page(self, call: Call, attempts: Attempts) -> gemini.lists.Page:
        now = asyncio.get_running_loop().time()
        kept_at, page = self._kept.get(call.upstream.target, (0.0, None))
        if page is not None and now - kept_at < self._kept_seconds:
            return page
        asked = self._asked.get(call.upstream.target)
        if asked is None:
            asked = self._asked[call.upstream.target] = asyncio.create_task(self._fetched(call, attempts))
            asked.add_done_callback(partial(self._came, call.upstream.target))
        return await asyncio.shield(asked)

    async def _fetched(self, call: Call, attempts: Attempts) -> gemini.lists.Page:
        """Ask the upstream; also when who asked first has left, since others may wait."""
        try:
            async with asyncio.timeout(self._ask_seconds):
                return gemini.lists.page(await self._fetch(call, attempts))
        except TimeoutError:
            raise UpstreamTimeout from None
        except ValueError:
            raise UpstreamBroke("The upstream's list of models cannot be read.") from None

    def _came(self, query: str, asked: asyncio.Task[gemini.lists.Page]) -> None:
        del self._asked[query]
        if asked.cancelled() or asked.exception() is not None:  # those who wait receive it
            return
        if len(self._kept) >= MAX_PAGES:
            self._kept.clear()
        self._kept[query] = asyncio.get_running_loop().time(), asked.result()


def asked_for(call: Call, query: str) -> Call:
    """The same for a page of the upstream's list."""
    target = f"{gemini.ROOT}?{query}" if query else gemini.ROOT
    asked = UpstreamRequest(method="GET", target=target, headers=(("accept", "*/*"),))
    return structs.replace(call, upstream=asked)


def wanted(query: str) -> tuple[int, int]:
    """Which models of a narrowed list a query asks for: how many, behind how many.  Raises `BadRequest`."""
    asked = parse_qs(query)
    size, token = int(asked.get("pageSize", ["0"])[0]), asked.get("pageToken", ["0"])[0]
    if not (token.isascii() and token.isdigit() and len(token) < 7):
        raise BadRequest("This page token is unknown. Send nextPageToken of the page before, or none.")
    return min(size or PAGE_MODELS, MAX_PAGE_MODELS), int(token)
