"""Google's own SDK through the gateway: what a team sees that changes its base URL."""

import asyncio
import io
from collections.abc import AsyncIterator
from typing import Any

import pytest
from google import genai
from google.genai import errors, types
from PIL import Image

from tests.support.gateway import Gateway

TEXT_MODEL, IMAGE_MODEL, SPEECH_MODEL = "gemini-2.5-flash", "gemini-2.5-flash-image", "gemini-2.5-flash-preview-tts"


def client_of(gateway: Gateway, *, key: str = "", path: str = "") -> genai.Client:
    """The SDK, with its base URL changed."""
    options = types.HttpOptions(base_url=gateway.url + path)
    return genai.Client(api_key=key or gateway.key, http_options=options)


@pytest.fixture
async def sdk(gateway: Gateway) -> AsyncIterator[genai.Client]:
    """The SDK's client, closed after the test."""
    client = client_of(gateway)
    yield client
    await client.aio.aclose()
    client.close()


def picture() -> types.Part:
    """A red square."""
    data = io.BytesIO()
    Image.new("RGB", (64, 48), "red").save(data, "PNG")
    return types.Part.from_bytes(data=data.getvalue(), mime_type="image/png")


def pictures_in(response: Any) -> list[Image.Image]:
    """The pictures of an answer, decoded."""
    parts = response.candidates[0].content.parts
    return [Image.open(io.BytesIO(part.inline_data.data)) for part in parts if part.inline_data]


async def test_text_and_streams(gateway: Gateway, sdk: genai.Client) -> None:
    """SDKs: a call, a stream and the sync client work with nothing but the base URL changed."""
    answer = await sdk.aio.models.generate_content(model=TEXT_MODEL, contents="Hello")
    stream = await sdk.aio.models.generate_content_stream(model=TEXT_MODEL, contents="Hello")
    pieces = [piece async for piece in stream]
    again = await asyncio.to_thread(sdk.models.generate_content, model=TEXT_MODEL, contents="Hello")

    assert answer.text == again.text == "".join(piece.text or "" for piece in pieces)
    assert len(pieces) > 2
    assert ["ok"] * 3 == [entry["outcome"] for entry in await gateway.entries(3)]


async def test_chats(gateway: Gateway, sdk: genai.Client) -> None:
    """SDKs: a chat sends its whole history along, whole and as a stream, and each turn is a call."""
    chat = sdk.aio.chats.create(model=TEXT_MODEL)
    first = await chat.send_message("Hello")
    second = "".join([piece.text or "" async for piece in await chat.send_message_stream("And now?")])
    assert first.text
    assert second
    assert ["user", "model"] * 2 == [content.role for content in chat.get_history(curated=True)][:4]
    entries = await gateway.entries(2)
    assert ["generateContent", "streamGenerateContent"] == [entry["method"] for entry in entries]
    assert entries[0]["tokens_in"] < entries[1]["tokens_in"]


def all_at_once(sdk: genai.Client) -> list[object]:
    """Every method once, with the client that blocks."""
    edit: list[Any] = ["Make it blue", picture()]
    chat, speech = sdk.chats.create(model=TEXT_MODEL), types.GenerateContentConfig(response_modalities=["AUDIO"])
    return [
        sdk.models.generate_content(model=TEXT_MODEL, contents="Hello").text,
        "".join(piece.text or "" for piece in sdk.models.generate_content_stream(model=TEXT_MODEL, contents="Hello")),
        chat.send_message("Hello").text,
        pictures_in(sdk.models.generate_content(model=IMAGE_MODEL, contents=edit)),
        sdk.models.generate_content(model=SPEECH_MODEL, contents="Say hi", config=speech).candidates,
        sdk.models.count_tokens(model=TEXT_MODEL, contents="Hello there").total_tokens,
        sdk.models.embed_content(model="gemini-embedding-001", contents="Hello").embeddings,
        [model.name for model in sdk.models.list(config={"page_size": 5})],
        sdk.models.get(model=TEXT_MODEL).name,
    ]


async def test_the_blocking_client(gateway: Gateway, sdk: genai.Client) -> None:
    """SDKs: the SDK's other half, on another HTTP library, does all of the same."""
    done = await asyncio.to_thread(all_at_once, sdk)
    assert all(done)
    pages = 3
    entries = await gateway.entries(len(done) - 1 + pages)
    assert {"ok"} == {entry["outcome"] for entry in entries}


async def test_an_edited_picture_comes_back(sdk: genai.Client) -> None:
    """SDKs: the SDK's URL-safe base64 arrives, and the edited picture is one, and another."""
    edit: list[Any] = ["Make it blue", picture()]
    answer = await sdk.aio.models.generate_content(model=IMAGE_MODEL, contents=edit)
    stream = await sdk.aio.models.generate_content_stream(model=IMAGE_MODEL, contents=edit)
    (edited,) = pictures_in(answer)
    (streamed,) = [image async for piece in stream for image in pictures_in(piece)]
    for image in (edited, streamed):
        assert (64, 48) == image.size
        assert image.convert("RGB").getcolors(99999) != [(64 * 48, (255, 0, 0))]


async def test_speech_counting_and_embedding(sdk: genai.Client) -> None:
    """The other methods pass as well."""
    config = types.GenerateContentConfig(response_modalities=["AUDIO"])
    speech = await sdk.aio.models.generate_content(model=SPEECH_MODEL, contents="Say hi", config=config)
    counted = await sdk.aio.models.count_tokens(model=TEXT_MODEL, contents="Hello there")
    embedded = await sdk.aio.models.embed_content(model="gemini-embedding-001", contents="Hello")

    assert speech.candidates and speech.candidates[0].content and speech.candidates[0].content.parts
    assert "audio/L16" in str(speech.candidates[0].content.parts[0].inline_data)
    assert counted.total_tokens
    assert embedded.embeddings


async def test_models_are_listed(sdk: genai.Client) -> None:
    """SDKs: the list ends, and a single model is found."""
    pager = await sdk.aio.models.list(config={"page_size": 5})
    names = [model.name async for model in pager]
    one = await sdk.aio.models.get(model=TEXT_MODEL)
    assert f"models/{TEXT_MODEL}" == one.name
    assert one.name in names
    assert len(names) == len(set(names)) > 5


@pytest.mark.parametrize("path", ["", "/", "/v1beta", "/v1beta/", "/v1", "/v1alpha/"])
async def test_base_urls_people_configure(gateway: Gateway, path: str) -> None:
    """SDKs: a trailing slash and a doubled version work."""
    client = client_of(gateway, path=path)
    assert (await client.aio.models.generate_content(model=TEXT_MODEL, contents="Hello")).text
    await client.aio.aclose()
    client.close()


async def test_errors_are_the_sdks_own(gateway: Gateway, sdk: genai.Client) -> None:
    """SDKs: ours and the upstream's errors become ClientError and ServerError with code, status and message."""
    stranger = client_of(gateway, key="thg_wrong")
    with pytest.raises(errors.ClientError) as refused:
        await stranger.aio.models.generate_content(model=TEXT_MODEL, contents="Hello")
    await stranger.aio.aclose()
    stranger.close()
    with pytest.raises(errors.ClientError) as limited:
        await sdk.aio.models.generate_content(model=TEXT_MODEL, contents="sandbox-fault: 429=9 ")
    with pytest.raises(errors.ServerError) as busy:
        await sdk.aio.models.generate_content(model=TEXT_MODEL, contents="sandbox-fault: google=503/9 ")

    assert (401, "UNAUTHENTICATED") == (refused.value.code, refused.value.status)
    assert "API key not valid. Please pass a valid API key." == refused.value.message
    assert (429, "RESOURCE_EXHAUSTED") == (limited.value.code, limited.value.status)
    assert (503, "UNAVAILABLE") == (busy.value.code, busy.value.status)
    assert "The sandbox was told to answer 429." == limited.value.message
    assert busy.value.message
    assert gateway.key not in str([refused.value, limited.value, busy.value])
