"""Does a store do what calls need?  A health check: a script tries it, on keys of its own that expire at once.

A full or a read-only server still answers PING, and one that forbids a single command might still admit a call whose
lease it could never release.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from redis.exceptions import OutOfMemoryError

from gateway.store.command import Bound, Script
from gateway.store.nodes import Nodes
from gateway.store.pool import deadline

TAG = "gw:probe"  # no client has such a name


@dataclass(frozen=True, slots=True)
class Probe:
    """A script and the keys it is run on, `{}` in them being what decides where on a cluster they live."""

    script: Script
    keys: Sequence[str]

    def on(self, key: str | None = None) -> Bound:
        """The script where this key lives, or anywhere."""
        tag = TAG if key is None else key.partition("{")[2].partition("}")[0] or key
        return self.script.on([name.replace("{}", f"{{{tag}}}") for name in self.keys])


PING = Probe(Script.read("gateway.store", "ping"), ("gw:{}:probe",))


async def run_probe(nodes: Nodes, probe: Bound, seconds: float, *, allow_full: bool) -> None:
    """Run it on a connection of its own.  Raises whatever fails."""
    connection = None
    try:
        async with deadline(asyncio.get_running_loop().time() + seconds):
            await nodes.discover()
            connection = nodes.connect(nodes.home(probe.key))
            for how, script in (("EVAL", probe.script.source), ("EVALSHA", probe.script.sha)):  # calls need both
                await connection.send_command(how, script, *probe.known)
                await connection.read_response()
    except OutOfMemoryError:
        if not allow_full:
            raise
    finally:
        if connection is not None:
            await connection.disconnect(nowait=True)
