"""Is the image built from what is locked, and does it hold nothing but what serves?"""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
STAGES = {
    name: (base, body)
    for base, name, body in re.findall(r"^FROM (\S+) AS (\w+)\n(.*?)(?=^FROM |\Z)", TEXT, re.MULTILINE | re.DOTALL)
}


def lineage(stage: str) -> str:
    """All instructions of a stage and of those it continues."""
    base, body = STAGES.get(stage, ("", ""))
    return lineage(base) + body if base else ""


def test_z2_images_are_made_in_stages() -> None:
    """Z2: what is shipped continues the bare base, and takes over what was installed elsewhere."""
    assert re.match(r"(#.*\n)*ARG PYTHON=python:3\.[0-9]+\.[0-9]+-slim-[a-z]+\n", TEXT)
    for image in ("gateway", "sandbox"):
        assert STAGES[image][0] == "bare"
        assert " install " not in lineage(image)
        assert "COPY --from=" in STAGES[image][1]
    assert "rm -rf /usr/local/bin/pip*" in STAGES["bare"][1]
    assert {base for base, _ in STAGES.values()} == {"${PYTHON}", "installed", "bare"}


def test_z4_only_locked_wheels_are_installed() -> None:
    """Z4: every installation checks hashes and takes no source that would run at build time."""
    installs = re.findall(r"pip \S+ \S+ install[^&\n]*", TEXT)
    assert len(installs) == TEXT.count(" install ")
    assert all("--require-hashes" in each and "--only-binary :all:" in each for each in installs)


def test_z1_images_do_not_run_as_root_and_tell_their_health() -> None:
    """Z1: the user is a number above 0, and there is a health check that starts no shell."""
    for image in ("gateway", "sandbox"):
        user = re.findall(r"^USER ([0-9]+):", lineage(image), re.MULTILINE)
        assert user, image
        assert int(user[-1]) > 0
        assert re.search(r"^HEALTHCHECK .*CMD \[\"python\", ", lineage(image), re.MULTILINE)


def test_what_the_sandbox_adds_is_in_the_lock() -> None:
    """The stand-in's only further package is Pillow, and the lock has it in the form that the Dockerfile cuts out."""
    lock = (ROOT / "requirements-dev.lock").read_text()
    (block,) = re.findall(r"^pillow==.*?[^\\]$", lock, re.MULTILINE | re.DOTALL)
    assert block.count("--hash=sha256:") > 1
    assert block.count("==") == 1


def test_nothing_else_is_sent_to_the_builder() -> None:
    """S1: no .env, no key and no clients file can get into a layer: all is left out but what is copied."""
    assert (ROOT / ".dockerignore").read_text().split() == [
        "*", "!gateway", "!requirements.lock", "!requirements-dev.lock", "**/__pycache__",
    ]  # fmt: skip
