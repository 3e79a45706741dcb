"""What does a call cost?  CPU time of the worker per call, beside a bare FastAPI handler, all in one run.

    make bench                     every case
    python -m benchmarks.run text-c32 --seconds 5

nginx is the upstream (fixed files: 0.6 kB of text, 2.8 MB of picture) and wrk the load; both are Debian packages.
CPU per call survives a noisy machine, absolute times do not, so ratios within one run are what counts.
"""

import argparse
import base64
import contextlib
import json
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gateway.clients import hash_key, new_key

TEXT = json.dumps({"contents": [{"role": "user", "parts": [{"text": "Describe a lighthouse at dusk, please. " * 2}]}]})
PICTURE = base64.b64encode(secrets.token_bytes(2_000_000)).decode()
EDIT = json.dumps(
    {"contents": [{"parts": [{"text": "Make it blue"}, {"inlineData": {"mimeType": "image/png", "data": PICTURE}}]}]}
)
USAGE = {"promptTokenCount": 20, "candidatesTokenCount": 90, "totalTokenCount": 110}
TEXT_ANSWER = {
    "candidates": [{"content": {"parts": [{"text": "x" * 400}]}, "finishReason": "STOP"}],
    "usageMetadata": USAGE,
}
PICTURE_PART = {
    "inlineData": {"mimeType": "image/png", "data": base64.b64encode(secrets.token_bytes(2_100_000)).decode()}
}
PICTURE_ANSWER = {
    "candidates": [{"content": {"parts": [PICTURE_PART]}, "finishReason": "STOP"}],
    "usageMetadata": USAGE,
}

NEVER_AGAIN = 10**9
# For wrk: the body with a number in it, so that no two calls at once are the same.
VARIED = """
local body, number, run = wrk.body, 0, {kinds} == 1e9 and os.time() or ""
request = function()
  number = number % {kinds} + 1
  return wrk.format(nil, nil, nil, (body:gsub("Describe", "Describe " .. number .. run, 1)))
end"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One kind of load."""

    name: str
    model: str
    body: str
    at_once: int
    kinds: int = 1  # how many calls that differ, in turn
    terms: str = ""  # further lines of the client


PRIVATE = 'cache = "private"'
CASES = (
    Case(name="text-c1", model="gemini-2.5-flash", body=TEXT, at_once=1),
    Case(name="text-c32", model="gemini-2.5-flash", body=TEXT, at_once=32),
    Case(name="image-c8", model="gemini-2.5-flash-image", body=TEXT, at_once=8),
    Case(name="edit-c8", model="gemini-2.5-flash-image", body=EDIT, at_once=8),
    Case(name="text-c32-miss", model="gemini-2.5-flash", body=TEXT, at_once=32, kinds=NEVER_AGAIN, terms=PRIVATE),
    Case(name="text-c32-hit", model="gemini-2.5-flash", body=TEXT, at_once=32, kinds=256, terms=PRIVATE),
    Case(name="image-c8-hit", model="gemini-2.5-flash-image", body=TEXT, at_once=8, kinds=16, terms=PRIVATE),
)


def free_port() -> int:
    """A port nobody listens on right now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@contextlib.contextmanager
def process(*argv: str, env: dict[str, str] | None = None, ready: int) -> Iterator[int]:
    """A process that is there once its port answers; the value is its pid."""
    child = subprocess.Popen(argv, env={**os.environ, **(env or {})}, stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 15
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", ready), 0.2):
                break
            if child.poll() is not None or time.monotonic() > deadline:
                sys.exit(f"{argv[0]} did not start")
            time.sleep(0.05)
        yield child.pid
    finally:
        child.send_signal(signal.SIGINT)
        child.wait(20)


@contextlib.contextmanager
def nginx(folder: Path) -> Iterator[int]:
    """The upstream: fixed files by model."""
    port = free_port()
    for name, answer in (("gemini-2.5-flash", TEXT_ANSWER), ("gemini-2.5-flash-image", PICTURE_ANSWER)):
        (folder / f"{name}.json").write_text(json.dumps(answer))
    (folder / "nginx.conf").write_text(f"""
        daemon off; worker_processes 1; pid {folder}/pid; error_log {folder}/error.log;
        events {{ worker_connections 1024; }}
        http {{ access_log off; default_type application/json; keepalive_requests 10000000; client_max_body_size 64m;
          client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
          uwsgi_temp_path {folder}; scgi_temp_path {folder}; client_body_buffer_size 8m;
          server {{ listen 127.0.0.1:{port}; root {folder}; error_page 405 =200 $uri;
            location ~ ^/v1beta/models/(?<model>[a-z0-9.-]+):generateContent$ {{ rewrite ^ /$model.json break; }} }} }}""")
    folder.chmod(0o755)
    with process("nginx", "-c", str(folder / "nginx.conf"), "-p", str(folder), ready=port):
        yield port


@contextlib.contextmanager
def bare(app: str) -> Iterator[tuple[str, list[int], dict[str, str]]]:
    """A yardstick."""
    port = free_port()
    argv = (
        sys.executable,
        "-m",
        "uvicorn",
        f"benchmarks.bare:{app}",
        "--port",
        str(port),
        "--no-access-log",
        "--loop",
        "uvloop",
    )
    with process(*argv, "--http", "httptools", "--log-level", "warning", ready=port) as pid:
        yield f"http://127.0.0.1:{port}", [pid], {}


@contextlib.contextmanager
def ours(folder: Path, upstream: int, terms: str) -> Iterator[tuple[str, list[int], dict[str, str]]]:
    """The gateway, as `serve` runs it, with one worker."""
    port, key = free_port(), new_key()
    clients = folder / "clients.toml"
    clients.write_text(f'[clients.bench]\nkey_sha256 = ["{hash_key(key)}"]\n{terms}\n')
    env = {
        "GATEWAY_UPSTREAM_URL": f"http://127.0.0.1:{upstream}", "GATEWAY_UPSTREAM_KEY": "sk-bench",
        "GATEWAY_CLIENTS_FILE": str(clients), "GATEWAY_DATA_DIR": str(folder / "data"),
        "GATEWAY_PORT": str(port), "GATEWAY_METRICS_PORT": str(free_port()),
    }  # fmt: skip
    with process(sys.executable, "-m", "gateway", "serve", env=env, ready=port) as parent:
        while not workers_of(parent):
            time.sleep(0.1)
        time.sleep(1.5)
        yield f"http://127.0.0.1:{port}", workers_of(parent), {"x-goog-api-key": key}


def workers_of(parent: int) -> list[int]:
    """The pids of the worker processes."""
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return [int(pid) for pid in children if b"gateway.worker" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def cpu_seconds(pids: list[int]) -> float:
    """User and system time of the processes, by the kernel's accounting."""
    fields = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in pids]
    return sum(int(one[11]) + int(one[12]) for one in fields) / os.sysconf("SC_CLK_TCK")


def measured(case: Case, target: tuple[str, list[int], dict[str, str]], folder: Path, seconds: int) -> dict[str, float]:
    """Load the target with wrk after a warm-up of a second."""
    url, pids, headers = target
    script = folder / "post.lua"
    (folder / "body").write_text(case.body)
    lines = [
        f'wrk.headers["{name}"] = "{value}"' for name, value in {"content-type": "application/json", **headers}.items()
    ]
    lines += [VARIED.format(kinds=case.kinds)] * (case.kinds > 1)
    script.write_text(f'wrk.method = "POST"\nwrk.body = io.open("{folder}/body"):read("*a")\n' + "\n".join(lines))
    wrk = [
        "wrk",
        "-t1",
        f"-c{case.at_once}",
        "--latency",
        "-s",
        str(script),
        f"{url}/v1beta/models/{case.model}:generateContent",
    ]
    subprocess.run([*wrk, "-d1s"], check=True, capture_output=True)
    before = cpu_seconds(pids)
    said = subprocess.run([*wrk, f"-d{seconds}s"], check=True, capture_output=True, text=True).stdout
    spent = cpu_seconds(pids) - before
    if "Non-2xx" in said:
        sys.exit(f"{case.name}: not every answer was a 2xx\n{said}")
    calls = int(re.findall(r"(\d+) requests in", said)[0])
    rss = sum(int(re.findall(r"VmHWM:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[0]) for pid in pids) / 1024
    p50, p99 = (milliseconds(re.findall(rf"{share}%\s+([\d.]+\w+)", said)[0]) for share in (50, 99))
    return {"cpu_us": spent / calls * 1e6, "rps": calls / seconds, "p50_ms": p50, "p99_ms": p99, "rss_mb": rss}


def milliseconds(text: str) -> float:
    """What wrk calls 850.00us, 1.20ms or 1.05s."""
    number, unit = re.fullmatch(r"([\d.]+)(us|ms|s|m)", text).groups()  # type: ignore[union-attr]
    return float(number) * {"us": 0.001, "ms": 1, "s": 1000, "m": 60000}[unit]


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", default=[case.name for case in CASES], help="which cases (default: all)")
    parser.add_argument("--seconds", type=int, default=5, help="how long each is loaded (default: 5)")
    parser.add_argument("--terms", default="", help="further lines of the client in clients.toml, for example limits")
    arguments = parser.parse_args()
    print(
        f"{'case':13} {'target':14} {'CPU us/call':>11} {'x bare':>7} {'rps':>8} {'p50 ms':>8} {'p99 ms':>8} {'RSS MB':>7}"
    )
    with tempfile.TemporaryDirectory() as name, nginx(Path(name)) as upstream:
        folder = Path(name)
        for case in (case for case in CASES if case.name in arguments.cases):
            yardstick = 0.0
            for target, context in (
                ("bare FastAPI", bare("plain")),
                ("the quickest", bare("quick")),
                ("gateway", ours(folder, upstream, case.terms + "\n" + arguments.terms.replace("\\n", "\n"))),
            ):
                with context as started:
                    got = measured(case, started, folder, arguments.seconds)
                yardstick = yardstick or got["cpu_us"]
                print(
                    f"{case.name:13} {target:14} {got['cpu_us']:11.0f} {got['cpu_us'] / yardstick:7.2f} {got['rps']:8.0f} "
                    f"{got['p50_ms']:8.2f} {got['p99_ms']:8.2f} {got['rss_mb']:7.0f}", flush=True,
                )  # fmt: skip


if __name__ == "__main__":
    main()
