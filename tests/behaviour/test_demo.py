"""The first look: does `make run` still give a key that works when its files were lost?"""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import httpx

from tests.deploy.watched import event
from tests.support.gateway import GENERATE, TEXT
from tests.support.waiting import wait_until

DEMO = Path(__file__).parents[2] / "deploy" / "demo.sh"


def first_look(folder: Path) -> int:
    """Run it until the key it prints has been tried; the status of that call."""
    (folder / "bin").mkdir(exist_ok=True)
    command = folder / "bin" / "tokenhot-gateway"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m gateway "$@"\n')
    command.chmod(0o755)
    ports = {"GATEWAY_PORT": "0", "GATEWAY_METRICS_PORT": "0"}
    environment = {**os.environ, **ports, "PATH": f"{folder}/bin:{os.environ['PATH']}"}
    with (folder / "log").open("w+") as log:
        process = subprocess.Popen(["sh", str(DEMO)], cwd=folder, env=environment, stdout=log, stderr=log)
        try:
            url = wait_until(lambda: event(folder / "log", "ready"), 20)["url"]
            said = (folder / "log").read_text()
            key = re.findall(r"^Your key: (thg_\w{38})$", said, re.MULTILINE)[0]
            assert f"-H 'x-goog-api-key: {key}'" in said
            return httpx.post(f"{url}{GENERATE}", json=TEXT, headers={"x-goog-api-key": key}).status_code
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(20)


def test_a_first_look_again_and_again(tmp_path: Path) -> None:
    """Interface: a key is printed at every start and works, also after its file or the clients file was lost."""
    assert 200 == first_look(tmp_path)
    key = tmp_path / ".gateway" / "demo.key"
    assert 0o600 == key.stat().st_mode & 0o777
    first = key.read_text()
    key.unlink()
    assert 200 == first_look(tmp_path)
    assert first != key.read_text()
    (tmp_path / ".gateway" / "clients.toml").unlink()
    assert 200 == first_look(tmp_path)
