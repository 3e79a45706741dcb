"""How is the body of a request read?

It is bounded by its own size limit, by the memory budget of the worker, and by a deadline.
"""

import asyncio
import io

from gateway.asgi.request import Message, Receive, Request
from gateway.errors import BodyTimeout, BodyTooLarge, ClientGone
from gateway.memory import MemoryLease

BODY_BYTES_PER_SECOND = 50 * 1024  # a body that keeps arriving at this pace has more time


async def read_body(
    request: Request,
    receive: Receive,
    memory: MemoryLease,
    limit: int,
    *,
    seconds: float,
    arrived: bool = False,
) -> bytes:
    """Read a whole body into the budget, within `seconds`; one that has `arrived` comes as one message, at once.

    A declared length must find room now, but only bytes that have arrived are counted.  It has been checked against the
    limit before.  Raises `BodyTooLarge` at the first byte beyond, `BodyTimeout`, `Overloaded` and `ClientGone`; then
    nothing of the body is held.
    """
    memory.check_room(request.content_length or 0)
    if arrived:
        return _arrived(await receive(), memory, limit)
    with io.BytesIO() as body:  # grows in place and gives its bytes away uncopied: a list and a join hold them twice
        try:
            return await _read(body, receive, memory, limit, seconds)
        except BaseException:
            memory.resize(0)
            raise


def _arrived(message: Message, memory: MemoryLease, limit: int) -> bytes:
    if message["type"] != "http.request":
        raise ClientGone
    body: bytes = message.get("body", b"")
    if len(body) > limit:
        raise BodyTooLarge(limit)
    memory.reserve(len(body))
    return body


async def _read(body: io.BytesIO, receive: Receive, memory: MemoryLease, limit: int, seconds: float) -> bytes:
    started = asyncio.get_running_loop().time()
    try:
        async with asyncio.timeout_at(started + seconds) as deadline:
            while (message := await receive())["type"] == "http.request":
                body.write(chunk := message.get("body", b""))
                if body.tell() > limit:
                    raise BodyTooLarge(limit)
                memory.reserve(len(chunk))
                if not message.get("more_body"):
                    return body.getvalue()
                deadline.reschedule(started + seconds + body.tell() / BODY_BYTES_PER_SECOND)
    except TimeoutError:
        raise BodyTimeout(f"The request body did not arrive within {seconds:g} seconds.") from None
    raise ClientGone
