"""Are pictures and speech real?"""

import base64
import io
import time
from array import array
from collections.abc import Callable

import pytest
from PIL import Image, ImageChops

from .conftest import Caller, blob_of, picture_of, text_of

MODEL = "gemini-2.5-flash-image"
VOICE = "gemini-2.5-flash-preview-tts"
PCM = "audio/L16;codec=pcm;rate=24000"


@pytest.mark.parametrize(
    ("config", "size"),
    [
        ({}, (1024, 1024)),
        ({"aspectRatio": "16:9"}, (1376, 768)),
        ({"aspect_ratio": "1:4", "image_size": "512"}, (256, 1024)),
        ({"aspectRatio": "3:4", "imageSize": "2K"}, (992, 1344)),
    ],
)
def test_generated_pictures_have_the_size_asked_for(
    caller: Caller, config: dict[str, str], size: tuple[int, int]
) -> None:
    """A generated picture is a PNG of the aspect ratio and size of imageConfig, in either case."""
    answer = caller.said("a fox", model=MODEL, generationConfig={"imageConfig": config})
    picture = picture_of(answer)
    assert ("PNG", size) == (picture.format, picture.size)
    assert {"modality": "IMAGE", "tokenCount": 1290} in answer["usageMetadata"]["candidatesTokensDetails"]


def test_the_prompt_makes_the_picture(caller: Caller) -> None:
    """The same prompt draws the same, another prompt draws another, and candidates differ."""
    small = {"imageConfig": {"imageSize": "512"}}
    fox, again, owl = (
        picture_of(caller.said(word, model=MODEL, generationConfig=small)) for word in ("fox", "fox", "owl")
    )
    assert fox.tobytes() == again.tobytes() != owl.tobytes()
    two = caller.said("fox", model=MODEL, generationConfig={**small, "candidateCount": 2})
    assert picture_of(two, 0).tobytes() != picture_of(two, 1).tobytes()
    assert 2 * 1290 == two["usageMetadata"]["candidatesTokensDetails"][1]["tokenCount"]
    assert [1, 1, 1, 2] == [record["pictures"] for record in caller.log()]


@pytest.mark.parametrize("wanted", [["image"], ["IMAGE"], [2]])
def test_picture_alone_on_request(caller: Caller, wanted: list[str | int]) -> None:
    """The vendor's lower-case `image`, Google's `IMAGE` and its number all leave the text out."""
    answer = caller.said("fox", model=MODEL, generationConfig={"responseModalities": wanted})
    assert "" == text_of(answer)
    assert (1024, 1024) == picture_of(answer).size


@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
@pytest.mark.parametrize(
    ("blob", "mime"), [("inline_data", "mime_type"), ("inlineData", "mime_type"), ("inlineData", "mimeType")]
)
def test_edited_picture_is_the_one_sent(
    caller: Caller, photo: bytes, encode: Callable[[bytes], bytes], blob: str, mime: str
) -> None:
    """Editing gives the picture that was sent, of the same size, with part of it kept and part changed."""
    data = encode(photo).decode().rstrip("=")
    parts = [{"text": "Make it red"}, {blob: {mime: "image/png", "data": data}}]
    edited = picture_of(caller.said("", model=MODEL, contents=[{"parts": parts}]))
    original = Image.open(io.BytesIO(photo)).convert("RGB")
    assert original.size == edited.size
    kept, changed = (20, 20, 120, 80), (240, 20, 300, 80)
    assert None is ImageChops.difference(original, edited).crop(kept).getbbox()
    assert None is not ImageChops.difference(original, edited).crop(changed).getbbox()


@pytest.mark.parametrize("data", ["", "AAAA", "%%%", base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(40)).decode()])
def test_what_is_no_picture_is_refused(caller: Caller, data: str) -> None:
    """Bytes that are no picture are a 400, not a crash."""
    parts = [{"text": "edit"}, {"inlineData": {"mimeType": "image/png", "data": data}}]
    assert 400 == caller.call("", model=MODEL, contents=[{"parts": parts}]).status_code


@pytest.mark.parametrize(
    "config", [{"aspectRatio": "0:1"}, {"aspectRatio": "wide"}, {"aspectRatio": "99:1"}, {"imageSize": "9K"}]
)
def test_impossible_pictures_are_refused(caller: Caller, config: dict[str, str]) -> None:
    """An imageConfig that means nothing is a 400."""
    assert 400 == caller.call("fox", model=MODEL, generationConfig={"imageConfig": config}).status_code


def test_size_marker_makes_noise_and_costs_nothing_again(caller: Caller, photo: bytes) -> None:
    """A benchmark gets a PNG of about the size it names, quickly, whatever picture of many megabytes it sends."""
    sent = {"inlineData": {"mimeType": "image/png", "data": base64.b64encode(photo * 12_000).decode()}}
    assert len(sent["inlineData"]["data"]) > 8_000_000
    contents = [{"parts": [{"text": "sandbox-size: 2000000"}, sent]}]
    first = caller.said("", model=MODEL, contents=contents)
    assert 0.95 < len(blob_of(first, "image/png")) / 2_000_000 < 1.05
    began = time.process_time()
    assert picture_of(caller.said("", model=MODEL, contents=contents)).tobytes() == picture_of(first).tobytes()
    assert time.process_time() - began < 5


def test_speech_is_audible_and_follows_the_text(caller: Caller) -> None:
    """TTS answers 24 kHz 16-bit PCM, 70 ms a character, louder than silence; text and voice decide the tones."""
    answer = caller.said("Hi you", model=VOICE)
    sound = blob_of(answer, PCM)
    assert 6 * 1680 * 2 == len(sound)
    samples = array("h", sound)
    assert max(samples) > 5000
    assert not any(samples[2 * 1680 : 3 * 1680]), "the blank is silent"
    assert [{"modality": "AUDIO", "tokenCount": 11}] == answer["usageMetadata"]["candidatesTokensDetails"]
    assert sound != blob_of(caller.said("Ha you", model=VOICE), PCM)
    puck = {"speech_config": {"voice_config": {"prebuilt_voice_config": {"voice_name": "Puck"}}}}
    assert sound != blob_of(caller.said("Hi you", model=VOICE, generationConfig=puck), PCM)
