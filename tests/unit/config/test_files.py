"""Files that change while we run: what a reader takes, and what a writer leaves."""

import os
import resource
import signal
import stat
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from gateway.config.watched_file import Fixed, Watched, replace
from tests.support.waiting import wait_until

WAIT_SECONDS = 10
EDITOR = (
    "from gateway.config.watched_file import replace; from pathlib import Path; import sys; path = Path(sys.argv[1])\n"
)


def number(content: bytes) -> int:
    """A parser that refuses whatever is not a whole number between brackets, as a half-written one is not."""
    if not (content.startswith(b"[") and content.endswith(b"]")):
        raise ValueError("not closed")
    return int(content[1:-1])


def looked(watched: Watched[int]) -> str:
    """Look until something else than "same" is said."""

    def said() -> str | None:
        found = watched.refresh()
        return None if found == "same" else found

    return wait_until(said, WAIT_SECONDS)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A good file."""
    path = tmp_path / "number"
    path.write_bytes(b"[1]")
    return path


@pytest.fixture
def watched(path: Path) -> Watched[int]:
    """The good file, read."""
    return Watched(path, number)


def test_the_first_reading_is_final(path: Path, tmp_path: Path) -> None:
    """A missing or bad file at start raises, since there is no last good value."""
    path.write_bytes(b"[1")

    with pytest.raises(ValueError, match="not closed"):
        Watched(path, number)
    with pytest.raises(FileNotFoundError):
        Watched(tmp_path / "missing", number)
    with pytest.raises(IsADirectoryError):
        Watched(tmp_path, number)


def test_an_unchanged_file_is_left_alone(watched: Watched[int]) -> None:
    """As long as nothing changes, nothing is said and the value stays."""
    assert {"same"} == {watched.refresh() for _ in range(10)}
    assert (1, None) == (watched.value, watched.problem)


def test_a_replaced_file_is_taken(watched: Watched[int], path: Path) -> None:
    """K8: a file renamed into place is taken, also one of the same size and with an older time."""
    other = path.with_name("other")
    other.write_bytes(b"[2]")
    os.utime(other, (0, 0))
    other.rename(path)

    assert "changed" == looked(watched)
    assert 2 == watched.value


def test_a_file_written_over_is_taken(watched: Watched[int], path: Path) -> None:
    """K8: the same size in the same file, with its time put back, is a change all the same."""
    before = path.stat()
    path.write_bytes(b"[3]")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

    assert "changed" == looked(watched)
    assert 3 == watched.value


def test_a_half_written_file_leaves_the_last_good_value(watched: Watched[int], path: Path) -> None:
    """A writer that stops in the middle is one failure, and the value stays; when it goes on, the rest is taken."""
    with path.open("wb", buffering=0) as file:
        file.write(b"[4")

        assert "failed" == looked(watched)
        assert (1, "not closed") == (watched.value, watched.problem)
        assert {"same"} == {watched.refresh() for _ in range(10)}

        file.write(b"4]")
    assert "changed" == looked(watched)
    assert (44, None) == (watched.value, watched.problem)


def test_a_file_is_not_read_while_it_is_being_written(watched: Watched[int], path: Path) -> None:
    """A beginning that would pass for the whole is not taken while the writer is at it."""
    seen = set()
    with path.open("wb", buffering=0) as file:
        for piece in [b"[5]", *[b" "] * 100]:
            began = time.monotonic()
            file.write(piece)
            said = watched.refresh()
            if time.monotonic() - began < 0.04:  # else this machine stood still, and so did the writer
                seen.add(said)

    assert {"same"} == seen


def test_an_emptied_file_leaves_the_last_good_value(watched: Watched[int], path: Path) -> None:
    """An empty file is a failure, not nothing."""
    path.write_bytes(b"")

    assert "failed" == looked(watched)
    assert 1 == watched.value


def test_a_removed_file_is_told_once_and_taken_when_it_is_back(watched: Watched[int], path: Path) -> None:
    """Without its file the last good value stays; the same file back in its place ends the problem."""
    aside = path.rename(path.with_name("aside"))

    assert "failed" == looked(watched)
    assert {"same"} == {watched.refresh() for _ in range(10)}
    assert 1 == watched.value
    assert "No such file" in str(watched.problem)

    aside.rename(path)
    assert "changed" == looked(watched)
    assert (1, None) == (watched.value, watched.problem)


def test_a_file_that_cannot_be_read_is_tried_again(watched: Watched[int], path: Path) -> None:
    """A change that was there but could not be read is not lost when it can be read again."""
    path.unlink()
    path.mkdir()

    assert "failed" == looked(watched)
    assert "Is a directory" in str(watched.problem)
    assert {"same"} == {watched.refresh() for _ in range(10)}

    path.rmdir()
    path.write_bytes(b"[6]")
    wait_until(lambda: watched.refresh() == "changed", WAIT_SECONDS)
    assert 6 == watched.value


def test_a_change_met_without_descriptors_is_not_lost(watched: Watched[int], path: Path) -> None:
    """A change that came while the process had no descriptor to spare is taken when it has one again."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    replace(path, lambda _: b"[7]")
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        failed = looked(watched), watched.problem
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    assert "failed" == failed[0]
    assert "Too many open files" in str(failed[1])
    assert ("changed", 7) == (watched.refresh(), watched.value)


def test_a_swapped_link_is_followed(tmp_path: Path) -> None:
    """A link that is pointed elsewhere, as Kubernetes does with `..data`, is a change at once."""
    for version in ("1", "2"):
        (tmp_path / version).mkdir()
        (tmp_path / version / "number").write_text(f"[{version}]")
    (tmp_path / "data").symlink_to("1")
    watched = Watched(tmp_path / "data" / "number", number)

    (tmp_path / "next").symlink_to("2")
    (tmp_path / "next").rename(tmp_path / "data")

    assert "changed" == looked(watched)
    assert 2 == watched.value


def test_a_fixed_value_never_changes() -> None:
    """What stands in for a watched file says the same for ever."""
    fixed = Fixed("value")

    assert ("value", "same", None) == (fixed.value, fixed.refresh(), fixed.problem)


def test_a_reader_never_sees_a_half(path: Path) -> None:
    """While a file is replaced over and over, each reading is one whole version."""
    versions = [b"[%d]" % (10**size) for size in range(40)]

    def write() -> None:
        for version in versions * 5:
            replace(path, lambda _, new=version: new)  # type: ignore[misc]

    writer = threading.Thread(target=write)
    writer.start()
    while writer.is_alive():
        number(path.read_bytes())
    writer.join()

    assert versions[-1] == path.read_bytes()
    assert [path] == list(path.parent.iterdir())


def test_a_new_file_is_its_owners_alone(tmp_path: Path) -> None:
    """S3: what is made new has mode 0600, whatever the umask says."""
    before = os.umask(0)
    try:
        replace(tmp_path / "new", lambda content: repr(content).encode())
    finally:
        os.umask(before)

    assert b"None" == (tmp_path / "new").read_bytes()
    assert 0o600 == stat.S_IMODE((tmp_path / "new").stat().st_mode)


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o600, 0o444])
def test_the_mode_is_kept(path: Path, mode: int) -> None:
    """A file that others may read stays so, and one they may not stays so too."""
    path.chmod(mode)
    replace(path, lambda content: (content or b"") + b"more")

    assert (b"[1]more", mode) == (path.read_bytes(), stat.S_IMODE(path.stat().st_mode))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a file away")
def test_the_owner_is_kept(path: Path) -> None:
    """A file edited by root is still readable by the gateway's user that owns it."""
    os.chown(path, 12345, 23456)
    replace(path, lambda _: b"[2]")

    assert (12345, 23456) == (path.stat().st_uid, path.stat().st_gid)


def test_a_link_is_followed(path: Path, tmp_path: Path) -> None:
    """Replacing through a link replaces what it points to; the link stays."""
    (tmp_path / "links").mkdir()
    link = tmp_path / "links" / "number"
    link.symlink_to("../number")
    replace(link, lambda _: b"[7]")

    assert link.is_symlink()
    assert (b"[7]", False) == (path.read_bytes(), path.is_symlink())
    assert [link] == list(link.parent.iterdir())


def test_a_change_that_fails_leaves_all_as_it_was(path: Path) -> None:
    """When the change raises, the file keeps its bytes and its inode, and no draft is left."""
    before = path.stat()
    with pytest.raises(ZeroDivisionError):
        replace(path, lambda _: bytes(1 // 0))

    assert (b"[1]", before.st_ino) == (path.read_bytes(), path.stat().st_ino)
    assert [path] == list(path.parent.iterdir())


def test_a_missing_folder_is_said(tmp_path: Path) -> None:
    """No folder is made up."""
    with pytest.raises(FileNotFoundError):
        replace(tmp_path / "missing" / "file", lambda _: b"")


def test_an_editor_killed_half_way_holds_nobody_up(path: Path) -> None:
    """Killed with -9 in the middle of an edit, it leaves the file as it was, and the next edit takes the draft over."""
    stuck = EDITOR + "def change(content):\n print(flush=True); sys.stdin.read()\nreplace(path, change)"
    with subprocess.Popen(
        [sys.executable, "-c", stuck, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as editor:
        assert editor.stdout is not None
        assert b"\n" == editor.stdout.readline()
        draft = path.with_name(".number.draft")
        draft.write_bytes(b"a longer rest than what comes next")
        editor.send_signal(signal.SIGKILL)
        assert -signal.SIGKILL == editor.wait(WAIT_SECONDS)

    assert b"[1]" == path.read_bytes()
    assert draft.exists()
    replace(path, lambda _: b"[8]")
    assert b"[8]" == path.read_bytes()
    assert [path] == list(path.parent.iterdir())


def test_no_edit_is_lost_among_many(path: Path) -> None:
    """Four processes that each count up a hundred times end at four hundred."""
    path.write_bytes(b"0")
    count = EDITOR + "for _ in range(100): replace(path, lambda content: b'%d' % (int(content) + 1))"
    with ExitStack() as stack:
        editors = [stack.enter_context(subprocess.Popen([sys.executable, "-c", count, str(path)])) for _ in range(4)]
        for editor in editors:
            stack.callback(editor.kill)
        assert [0] * 4 == [editor.wait(WAIT_SECONDS * 4) for editor in editors]

    assert b"400" == path.read_bytes()
    assert [path] == list(path.parent.iterdir())
