"""The yardsticks: bare FastAPI handlers that answer a constant, which every figure of ours is a multiple of.

`plain` is written as FastAPI's users write one, `quick` as fast as FastAPI can be; of a stream there is one way.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import Response, StreamingResponse

from benchmarks.cases import CHAT_ROUTE, EVENT_SECONDS, EVENTS, MESSAGES_ROUTE

ANSWER: dict[str, Any] = {"candidates": [{"content": {"parts": [{"text": "x" * 400}]}}]}
WRITTEN = b'{"candidates":[{"content":{"parts":[{"text":"' + b"x" * 400 + b'"}]}}]}'
EVENT = b'data: {"candidates":[{"content":{"parts":[{"text":"a few more words "}]}}]}\r\n\r\n'
plain, quick = FastAPI(), FastAPI()


async def events() -> AsyncIterator[bytes]:
    """One stream."""
    for _ in range(EVENTS):
        yield EVENT
        await asyncio.sleep(EVENT_SECONDS)


@plain.post(CHAT_ROUTE)
@quick.post(CHAT_ROUTE)
@plain.post(MESSAGES_ROUTE)
@quick.post(MESSAGES_ROUTE)
async def other(request: Request) -> Response:
    """Answer in one piece or with events, as the body asks."""
    if b'"stream": true' in await request.body():
        return StreamingResponse(events(), media_type="text/event-stream")
    return Response(WRITTEN, media_type="application/json")


@plain.post("/v1beta/models/{model}:streamGenerateContent")
@quick.post("/v1beta/models/{model}:streamGenerateContent")
async def stream(model: str) -> StreamingResponse:
    """Answer with events, without asking anybody."""
    return StreamingResponse(events(), media_type="text/event-stream")


@plain.post("/v1beta/models/{model}")
async def answer(model: str):  # type: ignore[no-untyped-def]  # noqa: ANN201  an annotation would be a response model
    """Answer without asking anybody."""
    return ANSWER


@quick.post("/v1beta/models/{model}")
async def written(model: str) -> Response:
    """The same, already encoded."""
    return Response(WRITTEN, media_type="application/json")
