"""Are embeddings vectors, in whichever form they are asked for?"""

import base64
import math
from array import array
from typing import Any

import pytest

from .conftest import EMBEDDINGS, Caller


def test_vectors_are_decided_by_the_text(caller: Caller) -> None:
    """Each input has its unit vector, the same alone and in a list, as long as the model or `dimensions` says."""
    (fox,) = caller.answered(EMBEDDINGS, "fox", dimensions=64)["data"]
    both = caller.answered(EMBEDDINGS, "", input=["fox", "owl"], dimensions=64)
    assert fox["embedding"] == both["data"][0]["embedding"] != both["data"][1]["embedding"]
    assert abs(math.hypot(*fox["embedding"]) - 1) < 1e-4
    assert [0, 1] == [entry["index"] for entry in both["data"]]
    assert (2, 2) == (both["usage"]["prompt_tokens"], both["usage"]["total_tokens"])
    for model, length in (("text-embedding-3-small", 1536), ("text-embedding-3-large", 3072)):
        assert length == len(caller.answered(EMBEDDINGS, "fox", model=model)["data"][0]["embedding"])


def test_base64_holds_the_same_numbers(caller: Caller) -> None:
    """openai-python asks for base64: 32-bit floats, little-endian."""
    (plain,) = caller.answered(EMBEDDINGS, "fox", dimensions=8)["data"]
    (packed,) = caller.answered(EMBEDDINGS, "fox", dimensions=8, encoding_format="base64")["data"]
    numbers = array("f", base64.b64decode(packed["embedding"], validate=True))
    assert [pytest.approx(number, abs=1e-6) for number in numbers] == plain["embedding"]


@pytest.mark.parametrize(("given", "vectors", "tokens"), [([1, 2, 3], 1, 3), ([[1, 2], [3]], 2, 3)])
def test_tokens_are_embedded_too(caller: Caller, given: Any, vectors: int, tokens: int) -> None:
    """A list of tokens is one input, a list of lists several."""
    answer = caller.answered(EMBEDDINGS, "", input=given, dimensions=4)
    assert (vectors, tokens) == (len(answer["data"]), answer["usage"]["prompt_tokens"])
    assert tokens == caller.log()[0]["tokens"]["input"]


@pytest.mark.parametrize("body", [{"input": []}, {"input": ""}, {"dimensions": 0}, {"model": "gpt-5"}])
def test_what_cannot_be_embedded_is_refused(caller: Caller, body: dict[str, Any]) -> None:
    """No text, no dimensions, or a model of another kind is a 400."""
    assert 400 == caller.ask(EMBEDDINGS, "fox", **body).status_code
