"""The yardstick: a bare FastAPI handler that answers a constant, which every figure of ours is a multiple of."""

from fastapi import FastAPI
from fastapi.responses import Response

ANSWER = b'{"candidates":[{"content":{"parts":[{"text":"' + b"x" * 400 + b'"}]}}]}'
app = FastAPI()


@app.post("/v1beta/models/{model}")
async def generate(model: str) -> Response:
    """Answer without asking anybody."""
    return Response(ANSWER, media_type="application/json")
