"""Is a data folder refused that others may have laid out, without touching what it leads to?"""

import asyncio
import os
import socket
import stat
from pathlib import Path

import pytest

from gateway.store.embedded import Embedded, StoreError
from tests.support.processes import Serve

LOCKS = ("lock", "users", "workers", "state/lock", "cache/lock")
SOMEBODY = 12345


def trap(kind: str, path: Path, victim: Path) -> None:
    """Lay something out in the place of a file or a folder."""
    match kind:
        case "link":
            path.symlink_to(victim)
        case "link to nowhere":
            path.symlink_to(victim.with_name("made"))
        case "hard link":
            os.link(victim, path)
        case "pipe":
            os.mkfifo(path)
        case "socket":
            with socket.socket(socket.AF_UNIX) as one:
                one.bind(str(path))
        case "folder":
            path.mkdir()
        case "open to a group":
            path.touch()
            path.chmod(0o660)
        case "somebody's":
            path.touch()
            os.chown(path, SOMEBODY, SOMEBODY)


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """A file that must stay as it is."""
    path = tmp_path / "victim"
    path.write_text("precious\n")
    return path


async def refused(folder: Path) -> str:
    """The one line of a refusal."""
    with pytest.raises(StoreError) as refusal:
        async with Embedded(folder):
            pass
    assert str(refusal.value).startswith(f"the embedded store cannot use {folder}: ")
    assert 1 == len(str(refusal.value).splitlines())
    return str(refusal.value)


@pytest.mark.parametrize("name", LOCKS)
@pytest.mark.parametrize(
    "kind", ["link", "link to nowhere", "hard link", "pipe", "folder", "open to a group", "somebody's"]
)
def test_no_lock_is_taken_that_others_laid_out(tmp_path: Path, victim: Path, name: str, kind: str) -> None:
    """S8: what stands in the place of a lock is neither followed nor emptied, and named."""
    if kind == "somebody's" and os.getuid():
        pytest.skip("only root gives files away")
    folder = tmp_path / "d"
    (folder / name).parent.mkdir(mode=0o700, parents=True)
    folder.chmod(0o700)
    trap(kind, folder / name, victim)
    asyncio.run(refused(folder))
    assert "precious\n" == victim.read_text()
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("mode", [0o777, 0o775, 0o770, 0o1777, 0o702, 0o2770])
def test_a_folder_that_others_may_write_is_refused(tmp_path: Path, victim: Path, mode: int) -> None:
    """S8: the mode is enough, before anything in the folder is looked at; the line says what to do."""
    folder = tmp_path / "d"
    folder.mkdir()
    (folder / "lock").symlink_to(victim)
    folder.chmod(mode)
    assert "chmod go-w" in asyncio.run(refused(folder))
    assert "precious\n" == victim.read_text()
    assert ["lock"] == [path.name for path in folder.iterdir()]


@pytest.mark.parametrize("mode", [0o700, 0o750, 0o755, 0o711])
async def test_a_folder_that_others_may_only_read_is_taken(tmp_path: Path, mode: int) -> None:
    """What is secret lies in folders of its own, which nobody else may enter; also behind a link of ours."""
    (tmp_path / "real").mkdir()
    (tmp_path / "real").chmod(mode)
    (tmp_path / "d").symlink_to(tmp_path / "real")
    async with Embedded(tmp_path / "d"):
        assert mode == stat.S_IMODE((tmp_path / "real").stat().st_mode)
        assert {0o700} == {stat.S_IMODE((tmp_path / "real" / name).stat().st_mode) for name in ("state", "cache")}


async def test_a_folder_of_somebody_else_is_refused(tmp_path: Path) -> None:
    """S8: its owner could change all of it."""
    if os.getuid():
        pytest.skip("only root gives folders away")
    (tmp_path / "d").mkdir(mode=0o700)
    os.chown(tmp_path / "d", SOMEBODY, SOMEBODY)
    assert f"belongs to user {SOMEBODY}" in await refused(tmp_path / "d")


@pytest.mark.parametrize("name", ["state", "cache"])
@pytest.mark.parametrize("kind", ["link", "link to a folder", "pipe", "open to a group", "open to read"])
async def test_the_folders_within_are_ours_alone(tmp_path: Path, victim: Path, name: str, kind: str) -> None:
    """S8: also those that hold the data are no links, and closed to others."""
    folder = tmp_path / "d"
    folder.mkdir(mode=0o700)
    if kind == "link to a folder":
        (tmp_path / "elsewhere").mkdir(mode=0o700)
        (folder / name).symlink_to(tmp_path / "elsewhere")
    elif kind == "open to read":
        (folder / name).mkdir()
        (folder / name).chmod(0o750)
    else:
        trap(kind, folder / name, victim)
    assert "private folder" in await refused(folder)


def test_serve_says_it_in_one_line(tmp_path: Path, victim: Path) -> None:
    """S8: exit 1, one event, and what the link leads to is whole."""
    (tmp_path / "data").mkdir(mode=0o700)
    (tmp_path / "data" / "lock").symlink_to(victim)
    with Serve(tmp_path) as gateway:
        assert 1 == gateway.process.wait(20)
        assert "lock is a link; remove it" in gateway.event("failed")["problem"]
        assert [] == gateway.noise
    assert "precious\n" == victim.read_text()
