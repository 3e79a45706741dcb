"""Does the upstream take this key?  A new one is tried before it takes the place of one that works.

A worker asks with the cheapest question there is.  A key that is refused, or cannot be tried, leaves the one before it
in force, and is tried again: it may not be known to the upstream yet.  The first key of a worker is taken as it is.
"""

import asyncio
import random
import time
from typing import Literal
from urllib.parse import urlsplit

import httpx

from gateway import __version__
from gateway.config import Fixed, Watched
from gateway.errors import GatewayError, UpstreamError
from gateway.memory import MemoryBudget
from gateway.upstream.answer import read
from gateway.upstream.fault import fault_of
from gateway.upstream.seam import Outgoing, Transport

PATH = "/v1beta/models?pageSize=1"
MAX_BYTES = 4 * 2**20
JITTER_SECONDS = 0.3  # the workers of all gateways see a new file at once
PROXY_REFUSES = 407  # the proxy's own word; the upstream has not been asked
KEPT = "the one before it stays in force, and this one is tried again"
PROBLEMS = {
    "refused": f"the upstream refuses this key or its balance; {KEPT}",
    "unreached": f"the upstream cannot be reached to try this key; {KEPT}",
}


class Trial:
    """Asks the upstream with a key, and waits for its answer for so many seconds."""

    def __init__(self, transport: Transport, origin: str, seconds: float) -> None:
        self._transport, self._origin, self._seconds = transport, origin, seconds

    async def __call__(self, key: str) -> Literal["taken", "refused", "unreached"]:
        """What came of it: any answer that does not refuse the key has let it in."""
        headers = [
            ("host", urlsplit(self._origin).netloc),
            ("authorization", f"Bearer {key}"),
            ("accept-encoding", "identity"),
            ("user-agent", f"tokenhot-gateway/{__version__}"),
        ]
        body, unreadable = b"", False
        try:
            async with asyncio.timeout(self._seconds):
                incoming = await self._transport.send(Outgoing("GET", self._origin + PATH, headers, b""))
                body = (
                    await read(incoming, stream=False, limit=MAX_BYTES, memory=MemoryBudget(MAX_BYTES).lease())
                ).body
        except (httpx.TransportError, TimeoutError):
            return "unreached"
        except UpstreamError:  # longer than anybody reads: it has a status all the same
            pass
        except GatewayError:  # it broke off, or nobody can read it
            unreadable = True
        if incoming.status >= 400 and fault_of(incoming.status, "", body, key).kind in {"key", "balance"}:
            return "refused"
        return "unreached" if unreadable or incoming.status == PROXY_REFUSES else "taken"


class UpstreamKey:
    """The key in force, which follows its file.

    A key of the file that is not taken is tried again after `refused_seconds`, or `unreached_seconds` where the
    upstream could not be asked.
    """

    def __init__(
        self, file: Watched[str] | Fixed[str], trial: Trial, *, refused_seconds: float, unreached_seconds: float
    ) -> None:
        self.value, self.path = file.value, file.path
        self._file, self._trial = file, trial
        self._again_seconds = {"refused": refused_seconds, "unreached": unreached_seconds}
        self._untaken: str | None = None  # why the file's key is not in force
        self._again_at = 0.0

    @property
    def problem(self) -> str | None:
        """Why the file's newest content was not taken."""
        return self._file.problem or self._untaken

    async def refresh(self) -> Literal["same", "changed", "failed"]:
        """Look whether the file has changed, and take its key if the upstream does.  A failure is reported once."""
        change = self._file.refresh()
        if change == "changed":
            self._untaken, self._again_at = None, 0.0
        if self._file.problem is not None or self._file.value == self.value:
            self._untaken = None
            return change
        if time.monotonic() < self._again_at:
            return "same"
        await asyncio.sleep(random.uniform(0, JITTER_SECONDS))
        key = self._file.value
        verdict = await self._trial(key)
        if verdict == "taken":
            self.value, self._untaken = key, None
            return "changed"
        before, seconds = self._untaken, self._again_seconds[verdict]
        self._untaken = f"{PROBLEMS[verdict]} every {seconds:g} seconds"
        self._again_at = time.monotonic() + seconds
        return "same" if before == self._untaken else "failed"
