"""The command line, and the commands that edit the clients file."""

import datetime as dt
import signal
import subprocess
import sys
import tomllib
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway import __version__
from gateway.cli import main
from gateway.commands import CommandError
from gateway.commands.clients import add, revoke, rotate
from gateway.config.clients import Clients, hash_key, well_formed
from tests.support.valkey import free_port
from tests.support.waiting import wait_until

GATEWAY = (sys.executable, "-m", "gateway")
WAIT_SECONDS = 60
A, B, C = ("a1" * 32, "b2" * 32, "c3" * 32)
LIVED_IN = f"""\
# Ours; ask before you edit.

[defaults]
concurrent = 10  # be kind

# ------------- the design team
[clients.design]   # since spring
key_sha256 = [     # two, for now
    "{A}",  # the laptop's
    "{B}",  # the server's
]
requests_per_minute = 1_000

# ------------- nights
# see the wiki
[clients.nightly]
key_sha256 = ['{C}'] # the batch job's

disabled = false  # on again
# the end
"""
ROTATED = LIVED_IN.replace(f'    "{A}",  # the laptop\'s\n', "").replace(
    "# the server's\n", '# the server\'s\n    "{}",\n'
)


@pytest.fixture(autouse=True)
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The clients file of these settings, which does not exist yet."""
    path = tmp_path / "clients.toml"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GATEWAY_CLIENTS_FILE", str(path))
    return path


@pytest.fixture
def lived_in(path: Path) -> Path:
    """A clients file with comments, which somebody laid out by hand."""
    path.write_text(LIVED_IN)
    return path


def clients(path: Path) -> Clients:
    """The file as the gateway reads it."""
    return Clients.parse(path.read_bytes())


def test_add_makes_the_file_and_prints_the_key_alone(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """K1, K2: stdout is the key and nothing else, the file has its hash alone, is private, and explains itself."""
    assert 0 == main(["clients", "add", "design"])
    key, note = capsys.readouterr()

    assert well_formed(key.removesuffix("\n"))
    assert key.strip() not in note + path.read_text()
    assert (hash_key(key.strip()),) == clients(path).by_name["design"].key_sha256
    assert 0o100600 == path.stat().st_mode
    commented = [line.removeprefix("# ") for line in path.read_text().splitlines() if line.startswith(("# [", "# "))][
        3:
    ]
    explained = tomllib.loads("\n".join(commented).replace("NAME", "name"))
    assert {*clients(path).by_name["design"].model_dump()} - {"name"} == {*explained["clients"]["name"]}


def test_add_takes_every_key_of_the_file(path: Path) -> None:
    """There is an option for each key; what is given is in the file, and what is not given is not in it."""
    line = """--requests-per-minute 120 --burst 20 --tokens-per-minute 500000 --tokens-per-day 20000000
        --images-per-day 2000 --concurrent 8 --cache private --cache-ttl 60 --expires 2027-06-30
        --models gemini-2.5-* veo-3 --disabled"""

    assert [0, 0] == [main(["clients", "add", *words]) for words in (["design", *line.split()], ["plain"])]
    written = tomllib.loads(path.read_text())["clients"]
    assert ["key_sha256"] == list(written["plain"])
    del written["design"]["key_sha256"]
    assert """{'models': ['gemini-2.5-*', 'veo-3'], 'requests_per_minute': 120, 'burst': 20, \
'tokens_per_minute': 500000, 'tokens_per_day': 20000000, 'images_per_day': 2000, 'concurrent': 8, 'cache': 'private', \
'cache_ttl_seconds': 60, 'expires': datetime.date(2027, 6, 30), \
'disabled': True}""" == str(written["design"])


def test_an_added_client_stands_at_the_end(lived_in: Path) -> None:
    """What was there stays byte for byte."""
    key = add(lived_in, "third", {"concurrent": 2})

    assert f'{LIVED_IN}\n[clients.third]\nkey_sha256 = ["{hash_key(key)}"]\nconcurrent = 2\n' == lived_in.read_text()


def test_rotate_keeps_the_newest_two_and_every_comment(lived_in: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """K8: the oldest hash goes, the newest comes last, and nothing else in the file moves."""
    assert 0 == main(["clients", "rotate", "design"])
    first = capsys.readouterr().out.strip()

    assert ROTATED.format(hash_key(first)) == lived_in.read_text()
    second = rotate(lived_in, "design")
    assert (hash_key(first), hash_key(second)) == clients(lived_in).by_name["design"].key_sha256
    assert (C, hash_key(rotate(lived_in, "nightly"))) == clients(lived_in).by_name["nightly"].key_sha256


def test_revoke_disables_and_keeps_every_comment(lived_in: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """K8: one line is new in the client's own table, or changed where it stood; twice is once."""
    expected = LIVED_IN.replace("1_000\n", "1_000\ndisabled = true\n").replace("disabled = false", "disabled = true")

    assert [0] * 4 == [main(["clients", "revoke", name]) for name in ("design", "nightly") * 2]
    assert expected == lived_in.read_text()
    capsys.readouterr()
    assert 0 == main(["clients", "rotate", "design"])
    assert "But design is disabled: none of its keys opens anything." in capsys.readouterr().err


@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("ends", ["\n", "\r\n"])
def test_an_edit_keeps_the_manner_of_the_file(path: Path, mark: str, ends: str) -> None:
    """X11: byte order mark and line ends stay those of the editor that made the file, also in new lines."""

    def saved(text: str) -> bytes:
        return (mark + text.replace("\n", ends)).encode()

    path.write_bytes(saved(LIVED_IN))
    first = hash_key(rotate(path, "design"))
    assert saved(ROTATED.format(first)) == path.read_bytes()
    third = hash_key(add(path, "third", {}))
    assert saved(f'{ROTATED.format(first)}\n[clients.third]\nkey_sha256 = ["{third}"]\n') == path.read_bytes()
    revoke(path, "third")
    assert clients(path).by_name["third"].disabled
    assert (b"\r\n" in path.read_bytes()) == (ends == "\r\n")


def test_mixed_line_ends_stay_mixed(path: Path) -> None:
    """All else in the file stays as it is: only the new lines are new."""
    path.write_bytes(mixed := LIVED_IN.replace("\n", "\r\n", 3).encode())
    add(path, "third", {})
    assert path.read_bytes().startswith(mixed)


def test_list_shows_what_each_client_may(lived_in: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """K2: defaults are applied, states are shown, and of a hash only its beginning is shown."""
    add(lived_in, "late", {"models": ["x", "y-*"], "cache": "shared", "expires": dt.date(2020, 1, 1)})
    revoke(lived_in, "nightly")
    late = clients(lived_in).by_name["late"].key_sha256[0]

    assert 0 == main(["clients", "list"])
    shown = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "name keys models limits cache expires state" == shown[0]
    assert "design a1a1a1a1 b2b2b2b2 * 1000 requests/min, 10 at once off never active" == shown[1]
    assert "nightly c3c3c3c3 * 10 at once off never disabled" == shown[2]
    assert f"late {late[:8]} x y-* 10 at once shared, 3600 s 2020-01-01 expired" == shown[3]
    assert not any(one[:12] in " ".join(shown) for one in (A, B, C, late))


@pytest.mark.parametrize(
    ("line", "status", "complaint"),
    [
        ("clients add design", 1, "design is in "),
        ("clients rotate nobody", 1, "nobody is not in "),
        ("clients revoke nobody", 1, "nobody is not in "),
        ("clients add Design", 2, "clients.Design.name: String should match"),
        ("clients add shared", 2, "clients.shared: the name 'shared' is reserved"),
        ("clients add x\n[clients.y]", 2, r"'clients.x\n[clients.y].name': "),
        ("clients add x --models a/b", 2, "clients.x.models.0: String should match"),
        ("clients add x --burst 3", 2, "clients.x: burst needs requests_per_minute"),
        ("clients add x --concurrent 1000000000001", 2, "clients.x.concurrent: Input should be less"),
        ("clients add x --concurrent 0", 2, "argument --concurrent: '0' is not a whole number above 0; see `"),
        ("clients add x --concurrent \u0663", 2, "argument --concurrent: "),
        ("clients add x --expires tomorrow", 2, "argument --expires: 'tomorrow' is not a date like 2027-06-30; "),
        ("clients add x --cache on", 2, "argument --cache: invalid choice: 'on'"),
        ("clients add", 2, "the following arguments are required: NAME; see `tokenhot-gateway clients add --help`"),
        ("clients", 2, "the following arguments are required: COMMAND; see `tokenhot-gateway clients --help`"),
        ("sandbox --port 99999", 2, "argument --port: '99999' is not a port, a number up to 65535; see `"),
        ("serve --wor 2", 2, "unrecognized arguments: --wor 2; see `tokenhot-gateway --help`"),
        ("serve --port 65536", 2, "GATEWAY_PORT: Input should be less than or equal to 65535; see the settings table"),
        ("serve", 2, "no upstream key; set GATEWAY_UPSTREAM_KEY"),
        ("usage --by hour", 2, "argument --by: invalid choice: 'hour'"),
        ("", 2, "the following arguments are required: COMMAND; see `tokenhot-gateway --help`"),
    ],
)
def test_what_goes_wrong_is_one_line(
    lived_in: Path, capsys: pytest.CaptureFixture[str], line: str, status: int, complaint: str
) -> None:
    """1 is what failed and 2 is wrong use; stderr has one line, stdout nothing, and the file is as it was."""
    try:
        said = main(line.split(" ") if line else [])
    except SystemExit as end:  # argparse's own way to refuse
        said = int(str(end.code))
    out, err = capsys.readouterr()

    assert (status, "") == (said, out)
    assert err.startswith(f"tokenhot-gateway: {complaint}")
    assert "; " in err
    assert [err] == err.splitlines(keepends=True)
    assert LIVED_IN == lived_in.read_text()


@pytest.mark.parametrize("action", ["add x", "rotate x", "revoke x", "list"])
@pytest.mark.parametrize("content", ["", "[clients", "[clients.x]\n", "\0", None])
def test_a_broken_file_is_left_alone(
    path: Path, capsys: pytest.CaptureFixture[str], action: str, content: str | None
) -> None:
    """Whatever is wrong with the file is reported, and nothing is written; only `add` does without one."""
    if content is not None:
        path.write_text(content)
    if (content, action) != (None, "add x"):
        assert 1 == main(["clients", *action.split()])
        assert capsys.readouterr().err.startswith(f"tokenhot-gateway: {path}: ")
        assert [path] * (content is not None) == list(path.parent.iterdir())
        assert content is None or content == path.read_text()


def test_a_missing_folder_is_the_operators_to_make(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A mistyped path fails with its own name, not with that of a draft."""
    monkeypatch.setenv("GATEWAY_CLIENTS_FILE", str(path / "clients.toml"))

    assert 1 == main(["clients", "add", "design"])
    assert f"tokenhot-gateway: {path}/clients.toml: No such file or directory; " in capsys.readouterr().err


LAYOUTS = (
    "[clients.{0}]\n{1} # a\n# b\n\n[clients.{2}] # c\n{3}\n",
    "[clients]\n# a\n[clients.{0}]\n{1}\n[defaults]\nconcurrent = 1\n\n# b\n[clients.{2}]\n{3}\n# c",
    "[clients]\n{0} = {{{1}}} # a\n\n{2} = {{ {3} }} # b\n[defaults]",
    "clients.{0}.{1} # a\nclients.{2}.{3} # b\n[defaults]\n# c\n",
    "[clients]\n{0}.{1} # a\n{2}.{3} # b\n",
    "clients = {{{0} = {{{1}}}, {2} = {{{3}}}}} # a\n",
    "# a\r\n[ clients . '{0}' ]\r\n{1}\r\n[clients.\"{2}\"]\r\n{3}\r\n# b",
)
names = st.from_regex(r"[a-z0-9][a-z0-9_-]{0,5}", fullmatch=True).filter(lambda name: name != "shared")


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(LAYOUTS),
    st.lists(names, min_size=3, max_size=3, unique=True),
    st.sampled_from([[A, B], [B]]),
    st.data(),
)
def test_any_layout_is_edited_exactly_or_not_at_all(layout: str, three: list[str], held: list[str], data: Any) -> None:
    """However the file is laid out, an edit changes what it should and keeps every comment, or leaves it alone."""
    path = Path("layout.toml")
    text = layout.format(three[0], f"key_sha256 = {held!r}", three[1], f'key_sha256 = ["{C}"]')
    path.write_text(text, newline="")
    wanted = tomllib.loads(text)
    name = data.draw(st.sampled_from(three[:2]))
    old = wanted["clients"][name]["key_sha256"]
    edit = data.draw(st.sampled_from([add, rotate, revoke]))
    try:
        if edit is add:
            wanted["clients"][three[2]] = {"key_sha256": [hash_key(add(path, three[2], {}))]}
        elif edit is rotate:
            wanted["clients"][name]["key_sha256"] = [*old, hash_key(rotate(path, name))][-2:]
        else:
            revoke(path, name)
            wanted["clients"][name]["disabled"] = True
    except CommandError:
        assert (text, True) == (path.read_text(), layout.startswith("clients = {"))
        return

    written = path.read_bytes().decode()
    assert wanted == tomllib.loads(written)
    assert [layout.count(f"# {mark}") for mark in "abc"] == [written.count(f"# {mark}") for mark in "abc"]


@pytest.mark.parametrize(
    "odd", [f"'{A}', '{B}' # two\n ", f"'{A}'\n# one\n", f"'{A}'\n, # one\n'{B}' # two\n# three\n"]
)
def test_what_an_editor_would_garble_is_left_to_a_person(path: Path, odd: str) -> None:
    """K8: tomlkit would comment the new hash out here; a key that opens nothing is never handed over."""
    path.write_text(f"[clients.design]\nkey_sha256 = [{odd}]\n")

    with pytest.raises(CommandError, match="laid out so that only a person can edit it"):
        rotate(path, "design")
    assert f"[clients.design]\nkey_sha256 = [{odd}]\n" == path.read_text()


def test_no_client_is_lost_among_many_editors(path: Path) -> None:
    """Eight processes that add five clients each end at forty, and each key that was printed opens its own."""
    adding = "import sys\nfrom gateway.cli import main\nfor n in '12345': main(['clients', 'add', sys.argv[1] + n])"
    with ExitStack() as stack:
        editors = [
            stack.enter_context(subprocess.Popen([sys.executable, "-c", adding, f"c{number}"], stdout=subprocess.PIPE))
            for number in range(8)
        ]
        for editor in editors:
            stack.callback(editor.kill)
        printed = [key for editor in editors for key in editor.communicate(timeout=WAIT_SECONDS)[0].decode().split()]

    assert [0] * 8 == [editor.returncode for editor in editors]
    assert 40 == len(clients(path).by_name)
    assert {hash_key(key) for key in printed} == {*clients(path).by_hash}
    assert [path] == list(path.parent.iterdir())


def test_modules_are_loaded_when_their_command_runs() -> None:
    """Help needs no pydantic, and nothing loads prometheus_client before its folder is set."""
    probe = "import sys; from gateway.cli import main, parser; parser().format_help(); early = {*sys.modules}\n"
    probe += "main(['clients', 'add', 'x']); print('pydantic' in early, 'prometheus_client' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, check=True, timeout=WAIT_SECONDS)

    assert b"False False" == done.stdout.splitlines()[-1]


@pytest.mark.parametrize(
    "line",
    [
        *("", "serve", "sandbox", "check", "usage", "clients"),
        *(f"clients {action}" for action in ("add", "list", "rotate", "revoke")),
    ],
)
def test_help_of_every_command_has_an_example(capsys: pytest.CaptureFixture[str], line: str) -> None:
    """Each command says what it does and how it is typed."""
    with pytest.raises(SystemExit) as end:
        main([*line.split(), "--help"])

    assert 0 == end.value.code
    assert (f"  tokenhot-gateway {line}" if line else "GATEWAY_ variables") in capsys.readouterr().out


@pytest.mark.parametrize("port", ["65536", "-1", "http", "\u0661"])
def test_a_port_is_a_number(capsys: pytest.CaptureFixture[str], port: str) -> None:
    """X3: a port that cannot be one is refused with exit status 2, and named."""
    with pytest.raises(SystemExit) as end:
        main(["sandbox", f"--port={port}"])

    assert 2 == end.value.code
    assert f"{port!r} is not a port" in capsys.readouterr().err


def test_the_sandbox_stands_alone() -> None:
    """`sandbox` prints its key and answers to it; Ctrl-C ends it as shells expect; a port that is taken is one line."""
    port = free_port()
    argv = [*GATEWAY, "sandbox", "--port", str(port), "--key", "sk-mine"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as sandbox:
        url, headers = f"http://127.0.0.1:{port}/v1beta/models", {"authorization": "Bearer sk-mine"}
        answer = wait_until(lambda: answered(url, headers), WAIT_SECONDS)
        second = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=WAIT_SECONDS)
        sandbox.send_signal(signal.SIGINT)
        output, problems = sandbox.communicate(timeout=WAIT_SECONDS)

    assert 200 == answer.status_code
    assert ("The sandbox takes `authorization: Bearer sk-mine`.\n", "", 130) == (output, problems, sandbox.returncode)
    assert 1 == second.returncode
    assert f"tokenhot-gateway: cannot listen on 127.0.0.1 port {port}: Address already in use\n" == second.stderr


def answered(url: str, headers: dict[str, str]) -> httpx.Response | None:
    """What answers there, if anything does."""
    with suppress(httpx.ConnectError):
        return httpx.get(url, headers=headers, trust_env=False)
    return None


def test_it_runs_as_a_module(lived_in: Path) -> None:
    """`python -m gateway` is the program, and a reader that leaves early is no crash."""
    version = subprocess.run([*GATEWAY, "--version"], capture_output=True, check=True, timeout=WAIT_SECONDS)
    assert f"tokenhot-gateway {__version__}\n".encode() == version.stdout

    with subprocess.Popen([*GATEWAY, "clients", "list"], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as reader:
        assert reader.stdout is not None
        reader.stdout.close()
        assert reader.stderr is not None
        assert (b"", 1) == (reader.stderr.read(), reader.wait(WAIT_SECONDS))
