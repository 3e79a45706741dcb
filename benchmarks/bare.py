"""The yardsticks: bare FastAPI handlers that answer a constant, which every figure of ours is a multiple of.

`plain` is written as FastAPI's users write one, `quick` as fast as FastAPI can be.
"""

from typing import Any

from fastapi import FastAPI
from fastapi.responses import Response

ANSWER: dict[str, Any] = {"candidates": [{"content": {"parts": [{"text": "x" * 400}]}}]}
WRITTEN = b'{"candidates":[{"content":{"parts":[{"text":"' + b"x" * 400 + b'"}]}}]}'
plain, quick = FastAPI(), FastAPI()


@plain.post("/v1beta/models/{model}")
async def answer(model: str):  # type: ignore[no-untyped-def]  # noqa: ANN201  an annotation would be a response model
    """Answer without asking anybody."""
    return ANSWER


@quick.post("/v1beta/models/{model}")
async def written(model: str) -> Response:
    """The same, already encoded."""
    return Response(WRITTEN, media_type="application/json")
