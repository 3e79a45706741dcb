"""Is a damaged value, or another's, ever taken for the right one?"""

import os
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from gateway.cache.answer import CachedAnswer, decode, encode

ROUNDS = int(os.environ.get("TEST_CACHE_DAMAGES", "2000"))  # the full count is 10000
NAME = "gw:cache:client:design:{00}"


def kept(*chunks: bytes, tokens: int = 7, created: float = 1_764_000_000.123) -> CachedAnswer:
    """An answer with these chunks."""
    return CachedAnswer(content_type="application/json; charset=UTF-8", chunks=chunks, tokens=tokens, created=created)


@given(st.lists(st.binary(min_size=1, max_size=50), max_size=8), st.integers(0, 2**40), st.integers(0, 2**42))
def test_what_was_encoded_is_decoded(chunks: list[bytes], tokens: int, milliseconds: int) -> None:
    """A10: bytes, chunks, type, cost, age and lifetime come back as they were."""
    before = kept(*chunks, tokens=tokens, created=milliseconds / 1000)
    after = decode(NAME, encode(NAME, before, 60))
    assert after is not None
    assert (chunks, tokens, milliseconds / 1000) == (list(map(bytes, after.chunks)), after.tokens, after.created)
    assert (before.content_type, 60) == (after.content_type, after.ttl_seconds)


def test_a_damaged_value_is_none() -> None:
    """R7: of 10 000 values with a bit flipped, cut short, grown or shifted none is read."""
    value, random = encode(NAME, kept(b'{"one": ', b'"two"}'), 60), Random(4711)
    for at in range(len(value)):
        assert decode(NAME, value[:at]) is None
    for _ in range(ROUNDS):
        at, bit = random.randrange(len(value)), 1 << random.randrange(8)
        assert decode(NAME, value[:at] + bytes([value[at] ^ bit]) + value[at + 1 :]) is None
        grown = value[:at] + random.randbytes(random.randrange(1, 9)) + value[at:]
        assert decode(NAME, grown) is None
    assert decode(NAME, value) is not None


def test_a_value_of_another_key_is_none() -> None:
    """R7, C1: two values that have changed places are both damaged."""
    other = NAME.replace("design", "facts")
    assert decode(other, encode(NAME, kept(b"{}"), 60)) is None
    assert decode(NAME, encode(other, kept(b"{}"), 60)) is None


def test_decoding_copies_nothing() -> None:
    """The chunks of megabytes are views of what the store sent."""
    value = encode(NAME, kept(b"x" * 100, b"y"), 60)
    found = decode(NAME, value)
    assert found is not None
    assert [memoryview, memoryview] == [type(chunk) for chunk in found.chunks]
    assert all(chunk.obj is value for chunk in found.chunks if isinstance(chunk, memoryview))
