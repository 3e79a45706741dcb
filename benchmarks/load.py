"""What does one load of one target cost?  wrk or our readers load it, the kernel's accounting says what it took."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from benchmarks import tree
from benchmarks.cases import NEVER_AGAIN, Case
from benchmarks.processes import BenchError
from benchmarks.targets import ROOT, Running

WARM_UP_SECONDS = 1
SETTLE_SECONDS = 0.2  # calls that wrk cuts at its end are still being counted by the gateway
PATIENCE_SECONDS = 60  # beyond the load itself
SCRIPT = """
wrk.method = "POST"
wrk.body = io.open("{body}"):read("*a")
{headers}
done = function(all, latency)
  local e = all.errors
  io.write(string.format('{{"calls": %d, "wrong": %d, "seconds": %f, "p50_ms": %f, "p99_ms": %f}}', all.requests,
    e.connect + e.read + e.write + e.status + e.timeout, all.duration / 1e6,
    latency:percentile(50) / 1e3, latency:percentile(99) / 1e3))
end"""
# The body with a number in it, so that no two calls at once are the same.
VARIED = """
local body, number, run = wrk.body, 0, {kinds} == {never_again} and os.time() or ""
request = function()
  number = number % {kinds} + 1
  return wrk.format(nil, nil, nil, (body:gsub("Describe", "Describe " .. number .. run, 1)))
end"""

Sample = Mapping[str, float]


def warm_up(case: Case, target: Running, folder: Path) -> None:
    """Load for a moment, so that what is done once has been done."""
    run(command(case, target, folder, WARM_UP_SECONDS), WARM_UP_SECONDS)


def measured(case: Case, target: Running, folder: Path, seconds: int) -> Sample:
    """Load, and tell what a call has cost."""
    argv = command(case, target, folder, seconds)
    began, machine, bench = time.monotonic(), tree.machine_seconds(), tree.snapshot(os.getpid())
    before = tree.snapshot(target.pid)
    said = run(argv, seconds)
    spent = tree.cpu_seconds(before, tree.snapshot(target.pid))
    by_us = sum(tree.cpu_seconds(bench, tree.snapshot(os.getpid())).values())
    by_all = tree.machine_seconds() - machine
    there_was = (time.monotonic() - began) * (os.cpu_count() or 1)
    return {
        "cpu_us": sum(spent.values()) / said["calls"] * 1e6,
        **{f"{role}_us": took / said["calls"] * 1e6 for role, took in spent.items()},
        "rps": said["calls"] / said["seconds"],
        "p50_ms": said["p50_ms"],
        "p99_ms": said["p99_ms"],
        "peak_mb": tree.peak_megabytes(target.pid),
        # The share of the machine that went to those who have nothing to do with us: the less, the better.
        "strangers": max(0.0, (by_all - by_us) / there_was),
    }


def command(case: Case, target: Running, folder: Path, seconds: int) -> list[str]:
    """The command line of one load; what it sends is written into the folder."""
    headers = {"content-type": "application/json", **target.headers}
    if case.events > 1:
        head = {"host": f"127.0.0.1:{target.port}", "content-length": len(case.body), **headers}
        lines = [f"POST {case.path} HTTP/1.1", *[f"{name}: {value}" for name, value in head.items()], "", case.body]
        (folder / "request").write_text("\r\n".join(lines))
        sent = (str(target.port), str(case.at_once), str(seconds), str(folder / "request"))
        return [sys.executable, "-m", "benchmarks.readers", "127.0.0.1", *sent]
    (folder / "body").write_text(case.body)
    written = "\n".join(f'wrk.headers["{name}"] = "{value}"' for name, value in headers.items())
    script = SCRIPT.format(body=folder / "body", headers=written)
    script += VARIED.format(kinds=case.kinds, never_again=NEVER_AGAIN) * (case.kinds > 1)
    (folder / "post.lua").write_text(script)
    how = ("-t1", f"-c{case.at_once}", f"-d{seconds}s", "--timeout", "30s", "-s", str(folder / "post.lua"))
    return ["wrk", *how, f"http://127.0.0.1:{target.port}{case.path}"]


def run(argv: list[str], seconds: int) -> dict[str, float]:
    """Load, and give the target a moment to count what was cut.  Raises `BenchError` unless every call went well."""
    try:
        said = subprocess.run(
            argv, check=True, capture_output=True, text=True, timeout=seconds + PATIENCE_SECONDS, cwd=ROOT
        )
    except subprocess.SubprocessError as error:
        raise BenchError(f"the load failed: {error}") from error
    found: dict[str, float] = json.loads(said.stdout.splitlines()[-1])
    if found["wrong"] or not found["calls"]:
        raise BenchError(f"of {found['calls']} calls {found['wrong']} went wrong: {' '.join(argv)}")
    time.sleep(SETTLE_SECONDS)
    return found
