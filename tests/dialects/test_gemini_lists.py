"""What a client sees of the upstream's models."""

import json
from pathlib import Path

import pytest

from gateway.clients import Client
from gateway.dialects.gemini import lists

BODY = (Path(__file__).parent / "gemini" / "models.list").read_bytes()
OTHER = b'{"models":[{"name":"models/veo-3"},{"name":"models/gemini-x", "extra": [1,  2]}],"nextPageToken":"p\\u00322"}'


@pytest.fixture
def some() -> Client:
    """A caller who may use some of the models."""
    return Client(name="design", key_sha256=("0" * 64,), models=("gemini-*-flash*", "gemini-x"))


def test_narrowed(some: Client) -> None:
    """A client sees what it may use, each model byte for byte, and the next page's token only where there is one."""
    first, second = lists.page(BODY), lists.page(OTHER)
    assert BODY[BODY.index(b'{"name"') : BODY.index(b',{"name":"models/gemini-emb')].replace(
        b"}, {", b"},{"
    ) in lists.narrowed(first, some)
    assert {"models"} == set(json.loads(lists.narrowed(first, some)))
    assert b'{"models":[{"name":"models/gemini-x", "extra": [1,  2]}],"nextPageToken":"p22"}' == lists.narrowed(
        second, some
    )


def test_an_empty_page_goes_on(client: Client) -> None:
    """A page may hold nothing for this client and still have a next one."""
    page = lists.page(b'{"models":[{"name":"models/veo-3"}],"nextPageToken":"2"}')
    assert b'{"models":[],"nextPageToken":"2"}' == lists.narrowed(page, client)


def test_openai(some: Client) -> None:
    """OpenAI's shape holds the same models of all pages, without the prefix."""
    shown = json.loads(lists.openai([lists.page(BODY), lists.page(OTHER)], some))
    assert "list" == shown["object"]
    assert ["gemini-2.5-flash", "gemini-2.5-flash-image", "gemini-x"] == [model["id"] for model in shown["data"]]
    assert {"id": "gemini-x", "object": "model", "created": 0, "owned_by": "google"} == shown["data"][-1]


def test_find() -> None:
    """One model is found on any page, with and without the prefix, as the upstream wrote it."""
    pages = [lists.page(BODY), lists.page(OTHER)]
    assert b'{"name":"gemini-2.5-flash-image", "displayName":"Nano Banana"}' == lists.find(
        pages, "gemini-2.5-flash-image"
    )
    assert b'{"name":"models/gemini-x", "extra": [1,  2]}' == lists.find(pages, "gemini-x")
    assert lists.find(pages, "models/gemini-x") is None


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
        lists.page(body)
