"""Where the objects of an array begin and end, wherever the chunks are cut."""

import json
import time
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.framing.json_array import Objects, Writer

MIB = 2**20


def objects_of(*chunks: bytes) -> tuple[list[bytes], bool]:
    """Read an array; tell its objects and whether it is closed."""
    objects = Objects()
    found = [one.object for chunk in chunks for one in objects.feed(chunk)]
    return found, objects.closed


@pytest.mark.parametrize(
    ("array", "expected", "closed"),
    [
        (b"[]", [], True),
        (b'[{"a":1}]', [b'{"a":1}'], True),
        (b'[{"a":1}\n,\r\n{"b": [{}, {"c":[]}]}\n]\n', [b'{"a":1}', b'{"b": [{}, {"c":[]}]}'], True),
        (rb'[{"a":"}{][\"\\","\\\\\"":"\\"},{}]', [rb'{"a":"}{][\"\\","\\\\\"":"\\"}', b"{}"], True),
        (b' {"alone": {}} ', [b'{"alone": {}}'], True),
        (b'[{"a":1},{"b":', [b'{"a":1}'], False),
        (b"", [], False),
        (b"[", [], False),
    ],
)
def test_arrays(array: bytes, expected: list[bytes], closed: bool) -> None:
    """U4: objects come out byte for byte, cut anywhere; an array that was cut is not closed."""
    assert (expected, closed) == objects_of(array)
    for cut in range(len(array) + 1):
        assert (expected, closed) == objects_of(array[:cut], array[cut:])
    assert (expected, closed) == objects_of(*(array[at : at + 1] for at in range(len(array))))


@pytest.mark.parametrize(
    "garbage",
    [
        b"<html>",
        b"data: {}",
        b"null",
        b"[1]",
        b'["a"]',
        b"[[{}]]",
        b"[{}}",
        b"[{}]]",
        b"[{}] x",
        b"{} {}",
        b"{} []",
        b"{}]",
        b"]",
        b"[][]",
        b"\x00",
    ],
)
def test_garbage(garbage: bytes) -> None:
    """U11: what is not an array of objects is a `ValueError`, cut anywhere."""
    for cut in range(len(garbage)):
        with pytest.raises(ValueError, match="not a JSON array"):
            objects_of(garbage[:cut], garbage[cut:])


json_values = st.recursive(
    st.none() | st.integers() | st.text(alphabet='"\\{}[],: \nxé\u2028'),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(
    values=st.lists(st.dictionaries(st.text(alphabet='"\\{}x'), json_values, max_size=3), max_size=4),
    cuts=st.lists(st.integers(0, 10**6), max_size=10),
    escaped=st.booleans(),
)
def test_any_chunking(values: list[dict[str, Any]], cuts: list[int], escaped: bool) -> None:
    """Whatever is written as an array is read from it again, however it is cut."""
    written, writer = [json.dumps(value, ensure_ascii=escaped).encode() for value in values], Writer()
    array = b"".join([*map(writer.add, written), writer.end()])
    assert values == json.loads(array)
    edges = [0, *sorted(cut % (len(array) + 1) for cut in cuts), len(array)]
    assert (written, True) == objects_of(*(array[begin:end] for begin, end in pairwise(edges)))


def test_what_is_held_is_counted() -> None:
    """The bytes of the object under way are known, and none are held afterwards."""
    objects = Objects()
    assert [] == objects.feed(b'[ {"a": "b')
    assert 10 == objects.pending
    assert [(b"[ ", b'{"a": "b"}')] == objects.feed(b'"}')
    assert 0 == objects.pending


def test_the_writer_leaves_the_end_to_the_end() -> None:
    """U3: without its end, an array never looks whole."""
    writer = Writer()
    begun = writer.add(b"{}") + writer.add(b"{}")
    assert b"[{},\r\n{}" == begun
    assert ([b"{}", b"{}"], False) == objects_of(begun)
    assert b"]" == writer.end()
    assert b"[]" == Writer().end()


@pytest.mark.parametrize("chunk", [512, 2**16])
def test_long_objects_are_linear(chunk: int) -> None:
    """A picture of several MiB takes time by its length, not by its square (printed)."""
    took = []
    for size in (2 * MIB, 8 * MIB):
        array = b'[{"data":"' + b"aGVs" * (size // 4) + b'"}]'
        begin = time.perf_counter()
        found, closed = objects_of(*(array[at : at + chunk] for at in range(0, len(array), chunk)))
        took.append(1e3 * (time.perf_counter() - begin))
        assert ([array[1:-1]], True) == (found, closed)
    print(f"2 MiB {took[0]:.1f} ms, 8 MiB {took[1]:.1f} ms")  # noqa: T201  for the reader: a busy machine fails no test
