"""Which models may this client use?  Every list and every single model is made from the upstream's own list.

The upstream's pages are kept for a minute, as its dialects read them; the dialect that was asked writes the answer.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass
from functools import partial

from msgspec import structs

from gateway.call import Call, ModelLister, ModelPage, Sink, UpstreamRequest
from gateway.errors import Failed, UpstreamBroke, UpstreamTimeout
from gateway.framing import JSON
from gateway.upstream import Attempts

MAX_PAGES = 64

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
    """The upstream's lists of models, page by page."""

    def __init__(
        self, fetch: Fetch, ask_seconds: float, kept_seconds: float, seen: Callable[[Iterable[str]], None]
    ) -> None:
        """`fetch` asks the upstream for a page, which is waited for and then kept for so long, whoever asks.

        `seen` receives the names of each page.
        """
        self._fetch, self._ask_seconds, self._kept_seconds, self._seen = fetch, ask_seconds, kept_seconds, seen
        self._kept: dict[str, tuple[float, ModelPage]] = {}  # by target and query
        self._asked: dict[str, asyncio.Task[ModelPage]] = {}  # pages on their way, for all who want them
        self._unavailable_until = 0.0  # on the loop's clock; until then nobody asks only to know which models there are

    def answer(self, call: Call, attempts: Attempts) -> ListedModels:
        """The answer to a list or a single model, to be asked for on the bill of `attempts`."""
        return ListedModels(models=self, call=call, attempts=attempts)

    async def body_for(self, call: Call, attempts: Attempts) -> bytes:
        """What the client may see of it.  Raises `RouteUnknown`, `BadRequest` and what asking raises."""
        lister = call.route.dialect.models
        assert lister is not None  # noqa: S101  its operation lists
        query = lister.page_wanted(call)
        if query is not None:
            return lister.answer(call, [await self._page(lister, query, call, attempts)])
        return lister.answer(call, [page async for page in self._all(lister, call, attempts)])

    async def names(self, call: Call, attempts: Attempts) -> frozenset[str] | None:
        """Every model that the upstream lists for a call's dialect; None where it cannot be had, for as long."""
        now, lister = asyncio.get_running_loop().time(), call.route.dialect.models
        if lister is None or now < self._unavailable_until:
            return None
        try:
            return frozenset([one.name async for page in self._all(lister, call, attempts) for one in page.models])
        except Failed:
            self._unavailable_until = now + self._kept_seconds
            return None

    async def _all(self, lister: ModelLister, call: Call, attempts: Attempts) -> AsyncIterator[ModelPage]:
        query = lister.query
        for _ in range(MAX_PAGES):
            page = await self._page(lister, query, call, attempts)
            yield page
            if not (query := page.next_query):
                return

    async def _page(self, lister: ModelLister, query: str, call: Call, attempts: Attempts) -> ModelPage:
        now, target = asyncio.get_running_loop().time(), f"{lister.target}?{query}" if query else lister.target
        kept_at, page = self._kept.get(target, (0.0, None))
        if page is not None and now - kept_at < self._kept_seconds:
            return page
        asked = self._asked.get(target)
        if asked is None:
            asked = self._asked[target] = asyncio.create_task(self._fetched(lister, asked_for(call, target), attempts))
            asked.add_done_callback(partial(self._came, target))
        return await asyncio.shield(asked)

    async def _fetched(self, lister: ModelLister, call: Call, attempts: Attempts) -> ModelPage:
        """Ask the upstream; also when who asked first has left, since others may wait."""
        try:
            async with asyncio.timeout(self._ask_seconds):
                return lister.read(await self._fetch(call, attempts))
        except TimeoutError:
            raise UpstreamTimeout from None
        except ValueError:
            raise UpstreamBroke("The upstream's list of models cannot be read.") from None

    def _came(self, target: str, asked: asyncio.Task[ModelPage]) -> None:
        del self._asked[target]
        if asked.cancelled() or asked.exception() is not None:  # those who wait receive it
            return
        if len(self._kept) >= MAX_PAGES:
            self._kept.clear()
        self._kept[target] = asyncio.get_running_loop().time(), asked.result()
        self._seen(model.name for model in asked.result().models)


def asked_for(call: Call, target: str) -> Call:
    """The call that asks for a page of the upstream's list."""
    operation = structs.replace(call.operation, lists=True, repeatable=True)
    return structs.replace(
        call,
        route=structs.replace(call.route, operation=operation),
        plan=structs.replace(call.plan, stream=False),
        upstream=UpstreamRequest(method="GET", target=target, headers=(("accept", "*/*"),)),
    )
