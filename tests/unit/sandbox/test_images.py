"""Are the pictures of OpenAI's, Seedream's and DashScope's routes what was asked for, in each one's words?"""

import base64
import io
import json
from typing import Any

import httpx
import pytest
from PIL import Image, ImageChops, ImageDraw

from .conftest import Caller, named_events_of

GENERATIONS = "/v1/images/generations"
EDITS = "/v1/images/edits"
GPT = "gpt-image-2"
SEEDREAM = "doubao-seedream-4-5-251128"


def asked(caller: Caller, model: str = GPT, **body: Any) -> httpx.Response:
    """A request for a small picture; `body` is added to the request's JSON."""
    return caller.http.post(GENERATIONS, json={"model": model, "prompt": "a fox", "size": "256x256", **body})


def edited(caller: Caller, *files: tuple[str, bytes], **texts: str) -> httpx.Response:
    """A form with pictures, by the name of their field."""
    parts = [(name, (f"{number}.png", data)) for number, (name, data) in enumerate(files)]
    return caller.http.post(EDITS, data={"model": GPT, "prompt": "a lake", **texts}, files=parts)


def pictures_of(response: httpx.Response) -> list[Image.Image]:
    """The pictures of an answer as OpenAI and Seedream write it; addresses are followed without a key."""
    assert 200 == response.status_code, response.text[:300]
    return [opened(file_of(entry)) for entry in response.json()["data"]]


def file_of(entry: dict[str, Any]) -> bytes:
    """One picture, from base64 or from its address."""
    if "url" in entry:
        return httpx.get(entry["url"], trust_env=False).raise_for_status().content
    return base64.b64decode(entry["b64_json"], validate=True)


def opened(data: bytes) -> Image.Image:
    """A picture, decoded."""
    picture = Image.open(io.BytesIO(data))
    picture.load()
    return picture


def png(picture: Image.Image) -> bytes:
    """A picture as a file."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize("model", [GPT, "dall-e-2", SEEDREAM])
@pytest.mark.parametrize("response_format", ["b64_json", "url"])
def test_pictures_are_as_many_and_as_large_as_asked(caller: Caller, model: str, response_format: str) -> None:
    """`n` different pictures of the size asked for, in the answer or at an address that needs no key."""
    response = asked(caller, model, n=2, size="320x192", response_format=response_format)
    first, second = pictures_of(response)
    assert ["PNG", "PNG", (320, 192), (320, 192)] == [first.format, second.format, first.size, second.size]
    assert None is not ImageChops.difference(first, second).getbbox()
    assert all(response_format in entry for entry in response.json()["data"])
    record = caller.log()[0]
    assert (2, model, response.json().get("usage")) == (record["pictures"], record["model"], record["usage"])


def test_pictures_have_their_usual_size_and_format(caller: Caller) -> None:
    """GPT Image answers base64 of a square, DALL-E an address; JPEG on request."""
    assert (1024, 1024) == pictures_of(asked(caller, size="auto"))[0].size
    assert "b64_json" in asked(caller).json()["data"][0]
    entry = asked(caller, "dall-e-3").json()["data"][0]
    assert ["url", "revised_prompt"] == list(entry)
    assert "JPEG" == pictures_of(asked(caller, output_format="jpeg"))[0].format
    assert 404 == httpx.get(entry["url"] + "x", trust_env=False).status_code


@pytest.mark.parametrize(("quality", "tokens"), [("low", 272), ("medium", 1056), ("high", 4160), ("auto", 1056)])
def test_tokens_of_gpt_image_follow_size_and_quality(caller: Caller, quality: str, tokens: int) -> None:
    """A picture costs what OpenAI documents for 1024x1024, others by their area."""
    usage = asked(caller, size="1024x512", n=2, quality=quality).json()["usage"]
    assert (2, tokens, tokens + 2) == (usage["input_tokens"], usage["output_tokens"], usage["total_tokens"])
    assert {"text_tokens": 2, "image_tokens": 0} == usage["input_tokens_details"]
    assert tokens + 2 == caller.log()[0]["tokens"]["total"]


def test_a_stream_of_gpt_image_shows_sketches_first(caller: Caller) -> None:
    """Sketches, then the picture, for each of `n`; usage stands in the last event, and makes the stream whole."""
    events = named_events_of(asked(caller, stream=True, partial_images=2, n=2).text)
    assert ["partial_image", "partial_image", "completed"] * 2 == [name.rpartition(".")[2] for name, _ in events]
    assert all(name == data["type"] and (256, 256) == opened(file_of(data)).size for name, data in events)
    assert [5] == [number for number, (_, data) in enumerate(events) if "usage" in data]
    record = caller.ended()
    assert (True, True, 2) == (record["stream"], record["whole"], record["pictures"])
    assert events[5].data["usage"] == record["usage"]
    assert 2 * (1056 // 16 + 200) == record["tokens"]["output"]


def test_seedream_makes_a_sequence(caller: Caller) -> None:
    """`max_images` pictures, each with its size, and tokens by their area."""
    sequence = {"sequential_image_generation": "auto", "sequential_image_generation_options": {"max_images": 3}}
    answer = asked(caller, SEEDREAM, **sequence).json()
    assert ["256x256"] * 3 == [entry["size"] for entry in answer["data"]]
    assert {"generated_images": 3, "output_tokens": 768, "total_tokens": 768} == answer["usage"]


def test_a_picture_of_seedream_may_fail_alone(caller: Caller) -> None:
    """A failed picture is an error in its place; in a stream it is an event, and no end."""
    spoilt = {"n": 3, "prompt": "sandbox-fault: onefails=1"}
    answer = asked(caller, SEEDREAM, **spoilt).json()
    assert [False, True, False] == ["error" in entry for entry in answer["data"]]
    assert 2 == answer["usage"]["generated_images"] == caller.log()[0]["pictures"]
    stream = asked(caller, SEEDREAM, stream=True, **spoilt).text
    assert ["partial_succeeded", "partial_failed", "partial_succeeded", "completed"] == [
        data["type"].rpartition(".")[2] for _, data in named_events_of(stream)
    ]
    assert stream.endswith("data: [DONE]\n\n")
    assert 2 == named_events_of(stream)[-1].data["usage"]["generated_images"]
    assert all(record["whole"] for record in caller.log())


def test_wan_writes_a_flat_output(caller: Caller) -> None:
    """Texts and pictures alternate, an address stands in the key `text`, and a stream that was asked for is JSON."""
    parameters = {"enable_interleave": True, "max_images": 2, "size": "320*192", "stream": True}
    content = [{"text": "a fox"}, {"image": "http://elsewhere/fox.png"}]
    body = {"model": "wan2.6-image", "input": {"messages": [{"role": "user", "content": content}]}}
    response = caller.http.post(GENERATIONS, json={**body, "parameters": parameters})
    (message,) = response.json()["output"]
    assert ["text", "image"] * 2 == [block["type"] for block in message["content"]]
    assert (320, 192) == opened(file_of({"url": message["content"][1]["text"]})).size
    record = caller.log()[0]
    assert (2, True, response.json()["usage"]) == (record["pictures"], record["stream"], record["usage"])
    assert record["nonce"] == response.json()["request_id"]
    framed = caller.http.post(
        GENERATIONS, json={**body, "parameters": parameters}, headers={"x-dashscope-sse": "enable"}
    ).text
    assert 4 == framed.count("event:result\n:HTTP_STATUS/200\ndata:{")
    last = json.loads(framed.strip().rpartition("data:")[2])
    assert last["output"]["finished"]
    assert last["usage"] == response.json()["usage"]


def test_qwen_writes_choices(caller: Caller) -> None:
    """Pictures as DashScope's messages, counted as `image_count`."""
    body = {"input": {"messages": [{"role": "user", "content": [{"text": "a fox"}]}]}, "parameters": {"n": 2}}
    answer = caller.http.post(GENERATIONS, json={"model": "qwen-image-max", **body}).json()
    pictures = answer["output"]["choices"][0]["message"]["content"]
    assert [(1024, 1024)] * 2 == [opened(file_of({"url": each["image"]})).size for each in pictures]
    assert {"image_count": 2, "width": 1024, "height": 1024} == answer["usage"]
    assert None is caller.log()[0]["tokens"]


def test_only_what_the_mask_leaves_open_is_painted(caller: Caller, photo: bytes) -> None:
    """Where the mask is opaque no pixel changes; where it is transparent the picture does."""
    mask = Image.new("RGBA", (320, 200), (0, 0, 0, 255))
    ImageDraw.Draw(mask).rectangle((100, 50, 219, 149), fill=(0, 0, 0, 0))
    (painted,) = pictures_of(edited(caller, ("image", photo), ("mask", png(mask))))
    original = opened(photo)
    assert (100, 50, 220, 150) == ImageChops.difference(painted, original).getbbox()
    closed = Image.new("RGBA", (320, 200), (0, 0, 0, 255))
    (same,) = pictures_of(edited(caller, ("image", photo), ("mask", png(closed))))
    assert None is ImageChops.difference(same, original).getbbox()


@pytest.mark.parametrize("mask", [Image.new("RGB", (320, 200)), Image.new("RGBA", (10, 10))])
def test_masks_that_do_not_fit_are_refused(caller: Caller, photo: bytes, mask: Image.Image) -> None:
    """A mask without an alpha channel, or of another size, is a 400."""
    response = edited(caller, ("image", photo), ("mask", png(mask)))
    assert (400, True) == (response.status_code, "Invalid mask image" in response.text)


def test_sixteen_pictures_are_edited_at_once(caller: Caller, photo: bytes) -> None:
    """All of them are seen: the answer differs when the last one does; a seventeenth is a 400."""
    other = png(Image.new("RGB", (64, 64), "red"))
    first, second = (
        pictures_of(edited(caller, *[("image[]", photo)] * 15, ("image[]", last), size="640x400"))[0]
        for last in (photo, other)
    )
    assert (640, 400) == first.size
    assert None is not ImageChops.difference(first, second).getbbox()
    assert 16 * 258 == caller.log()[0]["usage"]["input_tokens_details"]["image_tokens"]
    assert 400 == edited(caller, *[("image[]", photo)] * 17).status_code


def test_edits_keep_the_size_and_stream(caller: Caller, photo: bytes) -> None:
    """Without a size the answer is as large as the first picture; events are named for edits."""
    assert [(320, 200)] * 2 == [picture.size for picture in pictures_of(edited(caller, ("image", photo), n="2"))]
    events = named_events_of(edited(caller, ("image", photo), stream="true", partial_images="1").text)
    assert ["image_edit.partial_image", "image_edit.completed"] == [name for name, _ in events]
    assert caller.log()[1]["stream"]


def test_edits_by_json(caller: Caller, photo: bytes) -> None:
    """Pictures as data URLs or as addresses; what the sandbox has made itself is looked up."""
    data = f"data:image/png;base64,{base64.b64encode(photo).decode()}"
    made = asked(caller, "dall-e-2", size="128x96").json()["data"][0]["url"]
    for image_url, size in ((data, (320, 200)), (made, (128, 96)), ("https://elsewhere/a.png", (640, 480))):
        body = {"model": GPT, "prompt": "a lake", "images": [{"image_url": image_url}]}
        assert size == pictures_of(caller.http.post(EDITS, json=body))[0].size
    (edit,) = pictures_of(asked(caller, SEEDREAM, image=[data], size="2K"))
    assert (2048, 2048) == edit.size


@pytest.mark.parametrize(
    "body",
    [
        {"prompt": ""},
        {"n": 0},
        {"n": 11},
        {"size": "9x9"},
        {"size": "large"},
        {"quality": "best"},
        {"partial_images": 4},
        {"output_format": "gif"},
        {"image": "no base64!"},
        {"image": base64.b64encode(b"no picture").decode()},
        {"model": "gpt-5"},
    ],
)
def test_what_cannot_be_drawn_is_refused(caller: Caller, body: dict[str, Any]) -> None:
    """A request that means nothing is a 400, and makes nothing."""
    assert 400 == asked(caller, **body).status_code
    assert (0, None) == (caller.log()[0]["pictures"], caller.log()[0]["tokens"])


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("multipart/form-data", b"--x\r\n"),
        ("multipart/form-data; boundary=x", b"nothing"),
        ("multipart/form-data; boundary=x", b"--x\r\ncontent-disposition: form-data\r\n\r\na\r\n--x--\r\n"),
        ("multipart/form-data; boundary=x", b'--x\r\ncontent-disposition: form-data; name="model"\r\n\r\ngpt-image-2'),
    ],
)
def test_forms_that_are_none_are_refused(caller: Caller, content_type: str, body: bytes) -> None:
    """A form without boundary, parts, names or an end is a 400."""
    response = caller.http.post(EDITS, content=body, headers={"content-type": content_type})
    assert (400, True) == (response.status_code, "multipart" in response.text)


def test_size_marker_makes_noise(caller: Caller) -> None:
    """A benchmark gets PNGs of about the size it names."""
    (entry,) = asked(caller, prompt="sandbox-size: 500000").json()["data"]
    assert 0.95 < len(file_of(entry)) / 500_000 < 1.05


@pytest.mark.parametrize("model", [GPT, SEEDREAM])
def test_faults_of_pictures(caller: Caller, model: str) -> None:
    """No usage, more tokens than true, an address nobody should follow, a refusal; the log keeps the truth."""
    true = asked(caller, model).json()["usage"]["total_tokens"]
    assert "usage" not in asked(caller, model, prompt="a fox sandbox-fault: nousage").json()
    more = asked(caller, model, prompt="a fox sandbox-fault: moretokens=7").json()["usage"]["output_tokens"]
    assert caller.log()[2]["tokens"]["output"] + 7 == more
    assert caller.log()[0]["tokens"]["total"] == true
    link = asked(caller, model, prompt="sandbox-fault: link").json()
    assert ([{"url": "http://169.254.169.254/picture.png"}], False) == (
        [{"url": entry["url"]} for entry in link["data"]],
        "usage" in link,
    )
    blocked = asked(caller, model, prompt="sandbox-fault: blocked")
    assert (400, "moderation_blocked") == (blocked.status_code, blocked.json()["error"]["code"])
    assert 0 == caller.log()[-1]["pictures"]


def test_a_picture_of_gpt_image_may_be_missing(caller: Caller) -> None:
    """One picture fewer than asked for, and one fewer on the bill."""
    answer = asked(caller, n=3, prompt="sandbox-fault: onefails").json()
    assert (2, 2 * 1056 // 16) == (len(answer["data"]), answer["usage"]["output_tokens"])


@pytest.mark.parametrize("model", [GPT, "wan2.6-image"])
def test_a_stream_in_which_all_pictures_failed(caller: Caller, model: str) -> None:
    """It is empty, ends cleanly, and was never whole."""
    content = {"messages": [{"content": [{"text": "sandbox-fault: onefails"}]}]}
    body = {"model": model, "prompt": "sandbox-fault: onefails", "stream": True, "input": content}
    body["parameters"] = {"stream": True, "size": "64*64"}
    response = caller.http.post(GENERATIONS, json=body, headers={"x-dashscope-sse": "enable"})
    assert (200, b"", False) == (response.status_code, response.content, caller.ended()["whole"])


@pytest.mark.parametrize("odd", [{}, [1], "x", 1.5])
@pytest.mark.parametrize("field", ["n", "image", "images", "mask", "input", "parameters"])
def test_fields_of_another_type_are_refused(caller: Caller, field: str, odd: Any) -> None:
    """Whatever stands where something else belongs is a 400 or without meaning, never a crash."""
    body: dict[str, Any] = {field: odd}
    assert asked(caller, **body).status_code in {200, 400}


def test_usage_of_each_picture(caller: Caller) -> None:
    """`usageall`: each completed event of a stream reports its own."""
    events = named_events_of(asked(caller, n=2, stream=True, prompt="sandbox-fault: usageall").text)
    assert [66, 66] == [data["usage"]["output_tokens"] for _, data in events]


def test_streams_of_pictures_break_like_others(caller: Caller) -> None:
    """The faults of all streams: JSON in place of events, an error after two events, an end that is missing."""
    stream: dict[str, Any] = {"stream": True, "n": 3}
    assert 3 == len(asked(caller, prompt="sandbox-fault: json", **stream).json()["data"])
    broken = asked(caller, prompt="sandbox-fault: streamerror", **stream).text
    assert broken.count("image_generation.completed") == 4, "two events, of two lines each"
    assert "overloaded" == named_events_of(broken)[-1].data["error"]["code"]
    short = named_events_of(asked(caller, prompt="sandbox-fault: nolast", **stream).text)
    assert 2 == len(short)
    assert [True, False, False] == [record["whole"] for record in caller.log()]


def test_a_refused_call_makes_nothing(caller: Caller) -> None:
    """An error on demand is in the log without pictures and tokens."""
    assert 529 == asked(caller, prompt="sandbox-fault: 529").status_code
    assert (0, None) == (caller.log()[0]["pictures"], caller.log()[0]["tokens"])
