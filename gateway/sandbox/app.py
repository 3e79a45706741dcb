"""How does the sandbox run?  The ASGI application and its server.

A call is read whole, answered by pure functions (`vendor.py`, spoiled by `faults.py`), and the answer is sent for as
long as the caller stays connected.  `GET /sandbox/log` shows what was received and sent; `DELETE /sandbox/log` forgets
it.
"""

import socket

import uvicorn

from gateway.sandbox import files, wire
from gateway.sandbox.call import Call
from gateway.sandbox.exchange import Exchange, HungUpError, Receive, Scope, Send
from gateway.sandbox.faults import Faults
from gateway.sandbox.log import Log, Record
from gateway.sandbox.refusals import refusal
from gateway.sandbox.vendor import Vendor
from gateway.sandbox.wire import Answer


class Sandbox:
    """The stand-in upstream.  `key` is the only one it accepts; with `faults` it misbehaves when asked to."""

    def __init__(self, key: str, *, faults: bool = False) -> None:
        self._vendor = Vendor(key)
        self._log = Log()
        self._faults = Faults() if faults else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one call."""
        if scope["type"] != "http":
            raise RuntimeError(f"The sandbox does not speak {scope['type']}.")
        record = Record.of(scope)
        exchange = Exchange(receive, send, record)
        if record.path == "/sandbox/log":
            await exchange.play(self._shown(record))
            return
        if record.path.startswith(files.PATH):
            await exchange.play(self._vendor.file(record))
            return
        self._log.add(record)
        complete = False
        try:
            body = await exchange.read()
            await exchange.play(await self._answer(exchange, record, body))
            complete = True
        except HungUpError:
            return
        finally:
            exchange.close(complete=complete)

    def _shown(self, record: Record) -> Answer:
        if record.method == "DELETE":
            self._log.clear()
            if self._faults:
                self._faults.forget()
        return wire.whole(self._log.shown())

    async def _answer(self, exchange: Exchange, record: Record, body: bytes) -> Answer:
        marks = self._vendor.marks(record, body)
        try:
            fault = self._faults.due(record, marks) if self._faults else None
            call = Call(record=record, body=body, marks=marks, fault=fault)
            if self._vendor.is_quick(call):
                return self._vendor.answer(call)
            return await exchange.beside(lambda: self._spoiled(call))
        except ValueError as error:
            return refusal(400, str(error), record, code="invalid_request")

    def _spoiled(self, call: Call) -> Answer:
        answer = self._vendor.answer(call)
        if call.fault:
            answer = call.fault.change_answer(answer, call.record)
        if answer.status >= 400:
            call.record.made_nothing()
        return answer


def run(key: str, *, fd: int, faults: bool = False) -> None:
    """Serve until SIGTERM or SIGINT.  `fd` is a listening socket, which is taken over."""
    config = uvicorn.Config(
        Sandbox(key, faults=faults),
        loop="uvloop",
        http="httptools",
        ws="none",
        lifespan="off",
        log_level="warning",
        access_log=False,
        proxy_headers=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=1,  # calls that hang on purpose are not waited for
    )
    uvicorn.Server(config).run(sockets=[socket.socket(fileno=fd)])
