"""Does `init.sh` make what is missing, for nobody else's eyes, and leave what is there as it is?"""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCKER = "#!/bin/sh\ncase $* in *'clients add demo') echo thg_shown-once;; esac\n"
READ = ("alertmanager/alertmanager.yml", "prometheus/prometheus.yml", "egress/relay.py", "grafana/dashboards")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """What a checkout under umask 022 has; and a program that stands where Docker would."""
    checkout = tmp_path / "checkout"
    shutil.copytree(ROOT / "deploy", checkout / "deploy", ignore=shutil.ignore_patterns("state", "secrets", "config"))
    shutil.copy(ROOT / ".env.example", checkout / ".env.example")
    for path in checkout.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "docker").write_text(DOCKER)
    (tmp_path / "bin" / "docker").chmod(0o755)
    return checkout


def init(checkout: Path, umask: int = 0o022) -> str:
    """Run it, and return its stderr."""
    path = f"{checkout.parent / 'bin'}:{os.environ['PATH']}"
    argv = ["sh", "-c", f"umask {umask:04o}; exec sh deploy/init.sh"]
    done = subprocess.run(
        argv, cwd=checkout, env={**os.environ, "PATH": path}, capture_output=True, text=True, check=True
    )
    return done.stderr


def modes(checkout: Path) -> dict[str, tuple[int, int]]:
    """Mode and owner of everything there."""
    return {str(path.relative_to(checkout)): (path.stat().st_mode, path.stat().st_uid) for path in checkout.rglob("*")}


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_what_it_makes_is_its_owners_alone(checkout: Path, umask: int) -> None:
    """S5: whatever the umask; and what came with the checkout keeps its mode."""
    before = modes(checkout)
    assert "" == init(checkout, umask)
    made = {name: mode for name, mode in modes(checkout).items() if name not in before}
    assert {".env", "deploy/config/clients.toml", "deploy/secrets", "deploy/demo.key", "deploy/state"} <= set(made)
    assert not [name for name, (mode, _) in made.items() if mode & 0o077]
    assert before == {name: mode for name, mode in modes(checkout).items() if name in before}


@pytest.mark.parametrize("closed", READ)
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o700])
def test_what_is_closed_stays_closed_and_is_said(checkout: Path, closed: str, mode: int) -> None:
    """S8: a file that holds a secret of its owner's is not opened to others, but named."""
    path = checkout / "deploy" / closed
    path.chmod(mode)
    secret = path.parent / "webhook.secret"
    secret.write_text("s3cret")
    secret.chmod(0o600)
    before = modes(checkout)
    said = init(checkout)
    assert before == {name: mode for name, mode in modes(checkout).items() if name in before}
    assert f"deploy/{closed}" in said
    assert str(secret.relative_to(checkout)) in said
    assert "chmod go+rX" in said


@pytest.mark.parametrize("mode", [0o600, 0o644, 0o640])
def test_an_env_file_keeps_its_mode_and_its_lines(checkout: Path, mode: int) -> None:
    """X3: what is empty in `.env` is filled in, nothing else of it changes; a second run changes nothing."""
    env = checkout / ".env"
    env.write_text("STORE_PASSWORD=\nGRAFANA_PASSWORD=mine\n# RUN_AS= is below\nRUN_AS=7:7\nPORT=9090\n")
    env.chmod(mode)
    inode = None
    for _ in range(2):
        init(checkout)
        assert mode == env.stat().st_mode & 0o777
        lines = env.read_text().splitlines()
        assert re.fullmatch("STORE_PASSWORD=[0-9a-f]{48}", lines[0])
        assert ["GRAFANA_PASSWORD=mine", "# RUN_AS= is below", "RUN_AS=7:7", "PORT=9090"] == lines[1:]
        assert inode in {None, env.stat().st_ino}
        inode = env.stat().st_ino
