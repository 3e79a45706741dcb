"""What a client sees of the upstream's models."""

import json
from pathlib import Path

import pytest

from gateway.config.clients import Client
from gateway.dialects.gemini import lists
from gateway.dialects.gemini.lists import GEMINI_MODELS
from gateway.errors import RouteUnknown

BODY = (Path(__file__).parent / "gemini" / "models.list").read_bytes()
OTHER = b'{"models":[{"name":"models/veo-3"},{"name":"models/gemini-x", "extra": [1,  2]}],"nextPageToken":"p\\u00322"}'


@pytest.fixture
def some() -> Client:
    """A caller who may use some of the models."""
    return Client(name="design", key_sha256=("0" * 64,), models=("gemini-*-flash*", "gemini-x"))


def test_narrowed(some: Client) -> None:
    """A client sees what it may use of all pages, each model byte for byte, cut anew, and a token while there is more."""
    first, second = GEMINI_MODELS.read(BODY), GEMINI_MODELS.read(OTHER)
    whole = lists.narrowed([first, second], some, 9, 0)
    assert BODY[BODY.index(b'{"name"') : BODY.index(b',{"name":"models/gemini-emb')].replace(b"}, {", b"},{") in whole
    assert {"models"} == set(json.loads(whole))
    last = b'{"models":[{"name":"models/gemini-x", "extra": [1,  2]}]}'
    assert (last, b'{"models":[]}') == tuple(lists.narrowed([first, second], some, 2, begin) for begin in (2, 9))
    assert "2" == json.loads(lists.narrowed([first, second], some, 2, 0))["nextPageToken"]


def test_a_page_passes_as_it_is() -> None:
    """Who may use every model gets the upstream's pages with its own tokens, an empty one too."""
    page = b'{"models":[{"name":"models/veo-3", "x": 1}],"nextPageToken":"a:2"}'
    assert page == lists.written(GEMINI_MODELS.read(page))
    assert b'{"models":[]}' == lists.written(GEMINI_MODELS.read(b'{"models":[]}'))


def test_find() -> None:
    """One model is found on any page, with and without the prefix, as the upstream wrote it."""
    pages = [GEMINI_MODELS.read(BODY), GEMINI_MODELS.read(OTHER)]
    assert b'{"name":"gemini-2.5-flash-image", "displayName":"Nano Banana"}' == lists.find(
        pages, "gemini-2.5-flash-image"
    )
    assert b'{"name":"models/gemini-x", "extra": [1,  2]}' == lists.find(pages, "gemini-x")
    with pytest.raises(RouteUnknown, match="models/models/gemini-x is not known"):
        lists.find(pages, "models/gemini-x")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b'{"models":{}}',
        b'{"models":[{}]}',
        b'{"models":[5]}',
        b'{"models":[{"name":5}]}',
        b"<html>",
        b'{"models":[],"x":' + b"[" * 10**5,
    ],
)
def test_no_list(body: bytes) -> None:
    """U11: what is not a list of models is a `ValueError`."""
    with pytest.raises(ValueError, match=r"."):
        GEMINI_MODELS.read(body)
