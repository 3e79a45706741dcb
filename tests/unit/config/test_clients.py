"""The form of a client key, and what a clients file may say."""

import datetime as dt
import re
import string
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.config.clients import ALPHABET, Client, Clients, hash_key, new_key, read_toml, today_utc, well_formed

KEY_SHA256 = "9f" * 32
DESIGN = f'[clients.design]\nkey_sha256 = ["{KEY_SHA256}"]\n'
PROMISED = f"""
[defaults]                      # what a client gets when it says nothing
requests_per_minute = 60
concurrent = 10

[clients.design]
key_sha256 = ["{KEY_SHA256}"]
models = ["gemini-*"]           # globs; default ["*"]
requests_per_minute = 120       # sustained rate; `burst` defaults to the same number
tokens_per_minute = 500_000
tokens_per_day = 20_000_000     # UTC day
images_per_day = 2_000
concurrent = 8
cache = "private"
cache_ttl_seconds = 3600
expires = 2027-06-30
disabled = false

[clients.other]
key_sha256 = ["{"8e" * 32}", "{"7d" * 32}"]
models = ["gemini-2.5-pro", "veo-?", "[ab]c"]
concurrent = 3
"""

keys = st.builds(new_key)


def parsed(document: str) -> Clients:
    """Read a clients file from text."""
    return Clients.parse(document.encode())


def test_generated_keys_are_well_formed_and_never_the_same() -> None:
    """K1: each of 10,000 keys is `thg_` and 38 letters or digits, well-formed, and there once."""
    made = [new_key() for _ in range(10_000)]

    assert 10_000 == len(set(made))
    assert all(well_formed(key) for key in made)
    assert {42} == {len(key) for key in made}
    assert set(ALPHABET) == set("".join(key[4:] for key in made))


@settings(max_examples=10_000, deadline=None)
@given(keys, st.integers(0, 41), st.characters() | st.sampled_from(ALPHABET + string.punctuation))
def test_a_key_with_one_wrong_character_is_not_well_formed(key: str, place: int, wrong: str) -> None:
    """K1: any single character replaced, wherever, is noticed."""
    mistyped = key[:place] + wrong + key[place + 1 :]

    assert (mistyped == key) == well_formed(mistyped)


@settings(max_examples=1_000, deadline=None)
@given(keys, st.integers(0, 41), st.sampled_from(ALPHABET))
def test_a_key_cut_stretched_or_twisted_is_not_well_formed(key: str, place: int, extra: str) -> None:
    """K1: a character lost, one too many, or two neighbours swapped is noticed."""
    swapped = key[:place] + key[place : place + 2][::-1] + key[place + 2 :]

    assert not well_formed(key[:place] + key[place + 1 :])
    assert not well_formed(key[:place] + extra + key[place:])
    assert (swapped == key) == well_formed(swapped)


@settings(max_examples=1_000, deadline=None)
@given(st.text() | st.from_regex(r"thg_[0-9A-Za-z]{38}\Z"))
def test_text_that_is_no_key_is_not_well_formed(text: str) -> None:
    """K1: neither any text nor what merely looks like a key passes the checksum."""
    assert not well_formed(text)


def test_a_known_key_keeps_its_form() -> None:
    """K1: keys that are out there stay valid: prefix, alphabet and checksum are a promise."""
    assert well_formed("thg_000000000000000000000000000000002wjyrI")
    assert hash_key("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_the_promised_file_is_read_as_written() -> None:
    """Every key that the interface shows is understood, and `[defaults]` fill what a client does not say."""
    clients = parsed(PROMISED)
    design, other = clients

    assert ("design", "other") == (design.name, other.name)
    assert (120, 8, "private", dt.date(2027, 6, 30)) == (
        design.amount("requests_per_minute"),
        design.amount("concurrent"),
        design.cache,
        design.expires,
    )
    assert (60, 3, "off", None, None) == (
        other.amount("requests_per_minute"),
        other.amount("concurrent"),
        other.cache,
        other.amount("tokens_per_day"),
        other.expires,
    )
    assert {KEY_SHA256: design, "8e" * 32: other, "7d" * 32: other} == clients.by_hash
    assert frozenset({"gemini-2.5-pro"}) == clients.literal_models


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("concurent = 3", "clients.design.concurent: Extra inputs are not permitted"),
        ("concurrent = 0", "clients.design.concurrent: Input should be greater than 0"),
        ("concurrent = true", "clients.design.concurrent: Input should be a valid integer"),
        ('concurrent = "3"', "clients.design.concurrent: Input should be a valid integer"),
        ("concurrent = 3.5", "clients.design.concurrent: Input should be a valid integer"),
        ("tokens_per_day = 1_000_000_000_001", "clients.design.tokens_per_day: Input should be less than or equal to"),
        ("burst = 5", "clients.design: burst needs requests_per_minute"),
        ('cache = "on"', "clients.design.cache: Input should be 'off', 'private' or 'shared'"),
        ("models = []", "clients.design.models: Tuple should have at least 1 item"),
        ('models = ["a/b"]', "clients.design.models.0: String should match pattern"),
        ('expires = "2027-06-30"', "clients.design.expires: Input should be a valid date"),
        ("expires = 2027-06-30T00:00:00Z", "clients.design.expires: Input should be a valid date"),
        ("disabled = 1", "clients.design.disabled: Input should be a valid boolean"),
        ('name = "other"', "clients.design.name: the table's name is the client's"),
        ("[clients.shared]", "clients.shared.key_sha256: Field required"),
        (f'[clients.shared]\nkey_sha256 = ["{"8e" * 32}"]', "clients.shared: the name 'shared' is reserved"),
        (f'[clients.Design]\nkey_sha256 = ["{"8e" * 32}"]', "clients.Design.name: String should match pattern"),
        (f'[clients.b]\nkey_sha256 = ["{KEY_SHA256}"]', "clients.b: its key is also that of design"),
        ("[clients.b]\nkey_sha256 = []", "clients.b.key_sha256: Tuple should have at least 1 item"),
        ("[client.b]", "unknown table: 'client'"),
        ("[defaults]\nkey_sha256 = []", "defaults.key_sha256: Extra inputs are not permitted"),
        ("[[defaults]]", "'defaults' must be a table"),
        ("[clients", "not valid TOML: "),
        ("[clients.design]", "not valid TOML: Cannot declare"),
        ("a = " + "[" * 100_000, "not valid TOML: nested too deeply"),
        ("a = " + "9" * 5_000, "not valid TOML: "),
        ('[clients."a\\nb"]', r"'clients.a\nb.name': String should match pattern"),
    ],
)
def test_a_mistake_is_named_in_one_line(line: str, complaint: str) -> None:
    """A file that does not load says where and what, in one line."""
    with pytest.raises(ValueError, match=f"^{re.escape(complaint)}") as refusal:
        parsed(f"{DESIGN}{line}\n")

    assert str(refusal.value).isprintable()


@pytest.mark.parametrize("ends", ["\n", "\r\n"])
def test_a_byte_order_mark_is_no_part_of_the_file(ends: str) -> None:
    """X11: what an editor on Windows saves loads, and says the same."""
    saved = ("\ufeff" + PROMISED.replace("\n", ends)).encode()
    assert parsed(PROMISED) == Clients.parse(saved)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (DESIGN.encode("utf-16"), "UTF-16"),
        (DESIGN.encode("utf-16-be"), "UTF-16"),
        ("\ufeff".encode("utf-16-be") + DESIGN.encode("utf-16-be"), "UTF-16"),
        (DESIGN.encode("utf-32"), "UTF-32"),
        (DESIGN.encode() + b"\0", "zero bytes, the first in line 3: was it cut short?"),
        (DESIGN.encode() + b"\0" * 4000, "zero bytes, the first in line 3"),
        (bytes(4096), "zero bytes, the first in line 1"),
        (f"{DESIGN}# B\u00fcro".encode("latin-1"), "not UTF-8, from line 3 on; save it as UTF-8"),
        (f"{DESIGN}\ufeff{DESIGN}".encode(), "byte order mark"),
        (f"\ufeff\ufeff{DESIGN}".encode(), "byte order mark"),
    ],
)
def test_what_an_editor_did_to_it_is_said(content: bytes, says: str) -> None:
    """X11: a file that is no UTF-8 text is refused with what it is, in one line."""
    with pytest.raises(ValueError, match=r"^not valid TOML: ") as refusal:
        Clients.parse(content)
    assert says in str(refusal.value)
    assert str(refusal.value).isprintable()


@pytest.mark.parametrize("content", [b"", b" \n\t\n", b"\xff\xfe[clients]", b"\xef\xbb\xbf\n", b"a = \x00"])
def test_what_is_not_text_or_empty_is_refused(content: bytes) -> None:
    """K2: an emptied or binary file is a failure, never a file without clients."""
    with pytest.raises(ValueError, match=r"^(the file is empty|not valid TOML: )"):
        Clients.parse(content)


@settings(max_examples=1_000, deadline=None)
@given(st.binary() | st.text(alphabet='[]{}"=.\n clientsdfu_1#').map(str.encode))
def test_any_bytes_are_read_or_refused(content: bytes) -> None:
    """Whatever stands in the file, reading raises `ValueError` or nothing."""
    with suppress(ValueError):
        assert isinstance(read_toml(content), dict)
        Clients.parse(content)


def test_a_mistake_never_tells_the_key() -> None:
    """S3: a key that was put where its hash belongs is not repeated in the complaint."""
    key = new_key()

    with pytest.raises(ValueError, match="should match pattern") as refusal:
        parsed(f'[clients.design]\nkey_sha256 = ["{key}"]\n')

    assert key not in str(refusal.value)
    assert key[4:-6] not in str(refusal.value.__context__)


@pytest.mark.parametrize(
    ("pattern", "model", "allowed"),
    [
        ("*", "anything", True),
        ("gemini-*", "gemini-2.5-pro", True),
        ("gemini-*", "Gemini-2.5-pro", False),
        ("gemini-*", "x-gemini-2.5-pro", False),
        ("gemini-2.5-pro", "gemini-2.5-pro-preview", False),
        ("gemini-?.5-pro", "gemini-2.5-pro", True),
        ("gemini-2.5-pro", "gemini-2x5-pro", False),
        ("[!v]*", "veo-3", False),
    ],
)
def test_models_are_globs_over_the_whole_name(pattern: str, model: str, allowed: bool) -> None:
    """A client may use what one of its globs matches in full, in the same case."""
    client = Client(name="a", key_sha256=(KEY_SHA256,), models=("never", pattern))

    assert allowed == client.may_use(model)


def test_the_last_day_is_included() -> None:
    """K8: a client is active through the whole day that `expires` names, and never while disabled."""
    client = Client(name="a", key_sha256=(KEY_SHA256,), expires=dt.date(2027, 6, 30))

    assert client.active(dt.date(2027, 6, 30))
    assert not client.active(dt.date(2027, 7, 1))
    assert not client.model_copy(update={"disabled": True}).active(dt.date(2027, 6, 30))
    assert abs(dt.datetime.now(dt.UTC).date() - today_utc()) <= dt.timedelta(days=1)
