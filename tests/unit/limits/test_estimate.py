"""How much may a call cost?  The reservation of every kind of call."""

import itertools
from typing import Any

import pytest
from msgspec import structs

from gateway.call import Call, Demand, Operation, Usage
from gateway.config.models import Catalogue
from gateway.limits.estimate import Estimate, estimate
from gateway.limits.permit import charged
from gateway.limits.quotas import Quotas
from tests.support.gate import call, client


@pytest.mark.parametrize(
    ("facts", "tokens_in", "tokens_out", "images"),
    [
        ({"chars": 401}, 101, 1024, 0),
        ({"chars": 400, "images": 2}, 616, 1024, 0),
        ({"other_media": 1}, 1920, 1024, 0),
        ({"max_output_tokens": 100}, 0, 100, 0),
        ({"max_output_tokens": 65_536}, 0, 1024, 0),
        ({"max_output_tokens": -5, "candidates": -5}, 0, 0, 0),
        ({"max_output_tokens": 100, "candidates": 3}, 0, 300, 0),
        ({"candidates": 2**31 - 1, "image_output": True}, 0, 8192, 8),
        ({"method": "streamGenerateContent", "model": "gemini-2.5-pro"}, 0, 3072, 0),
        ({"model": "gemini-2.5-flash-image", "candidates": 2}, 0, 2780, 2),
        ({"model": "nobody-knows-it", "image_output": True}, 0, 1024, 1),
        ({"model": "nobody-knows-it"}, 0, 1024, 1),
        ({"model": "gemini-3-pro-image", "candidates": 3}, 0, 3072, 3),
        ({"model": "nano-banana-pro"}, 0, 1024, 1),
        ({"model": "imagen-4"}, 0, 1024, 1),
        ({"unread": True}, 0, 1024, 1),
        ({"model": "gemini-2.5-flash-preview-tts"}, 0, 1024, 0),
        ({"method": "embedContent", "model": "nobody-knows-it", "unread": True}, 0, 0, 0),
        ({"method": "embedContent", "model": "gemini-embedding-001", "chars": 40}, 10, 0, 0),
        ({"method": "batchEmbedContents", "model": "gemini-2.5-flash", "chars": 40}, 10, 0, 0),
        ({"method": "countTokens", "chars": 4000}, 0, 0, 0),
        ({"method": "listModels", "model": ""}, 0, 0, 0),
    ],
)
def test_what_a_call_is_expected_to_cost(facts: dict[str, Any], tokens_in: int, tokens_out: int, images: int) -> None:
    """L3: text, pictures, other media, the caller's cap and the model's typical answer all count."""
    wanted = estimate(call(client(), **facts), Catalogue.load())

    assert Estimate(tokens_in=tokens_in, tokens_out=tokens_out, images=images) == wanted
    assert tokens_in + tokens_out == wanted.tokens


def test_a_reservation_never_exceeds_the_limits() -> None:
    """No call is unadmittable: what is reserved goes through an empty bucket, whole or shared."""
    wanted = Estimate(tokens_in=5000, images=9)
    design = client(tokens_per_minute=4000, tokens_per_day=3000, images_per_day=4)

    assert {"requests": 1, "tokens": 3000, "images": 4} == Quotas.of(design).reserved(wanted)
    assert {"requests": 1, "tokens": 300, "images": 1} == Quotas.of(design, 10).reserved(wanted)
    assert {"requests": 1, "tokens": 5000, "images": 9} == Quotas.of(client()).reserved(wanted)


def shares(quotas: Quotas) -> list[tuple[int, int]]:
    """What each limit that there is lets through in its window, and at once."""
    return [(row.amount, row.size) for row in (*quotas.rates, *quotas.budgets, quotas.concurrency) if row.amount]


def test_a_share_is_rounded_down_and_at_least_one() -> None:
    """L4: the local share is the limit / (replicas x workers)."""
    design = client(requests_per_minute=60, burst=9, tokens_per_minute=100, concurrent=3)

    assert [(60, 9), (100, 100), (3, 3)] == shares(Quotas.of(design))
    assert [(15, 2), (25, 25), (1, 1)] == shares(Quotas.of(design, 4))
    assert [(60, 60)] == shares(Quotas.of(client(requests_per_minute=60)))


OPERATIONS = {
    "chat": Operation(name="chatCompletions", http=("POST",), bills="tokens", expects_usage=True),
    "embeddings": Operation(name="embeddings", http=("POST",), bills="tokens"),
    "pictures": Operation(name="imagesGenerations", http=("POST",), bills="tokens"),
    "per call": Operation(name="imagesGenerations", http=("POST",), bills="request"),
    "transcription": Operation(name="audioTranscriptions", http=("POST",), bills="tokens"),
    "video": Operation(name="videoCreate", http=("POST",), bills="task", task="creates"),
    "poll": Operation(name="videoPoll", http=("GET",), takes="nothing", task="reads"),
}


def asking(kind: str, model: str, demand: Demand) -> Call:
    """A call of any operation."""
    one = call(client(), model=model)
    return structs.replace(
        one,
        route=structs.replace(one.route, operation=OPERATIONS[kind]),
        plan=structs.replace(one.plan, demand=demand),
    )


@pytest.mark.parametrize(
    ("kind", "model", "demand", "wanted"),
    [
        ("chat", "gpt-5.4", {"text_chars": 400, "images": 2}, Estimate(2100, 3072)),
        ("chat", "gpt-5.5", {"max_output_tokens": 100, "candidates": 20}, Estimate(0, 2000)),
        ("chat", "claude-opus-4.7", {"max_output_tokens": 32_000}, Estimate(0, 2048)),
        ("chat", "claude-opus-4-6", {"candidates": 128}, Estimate(0, 16_384)),
        ("chat", "grok-4.1", {"other_media": 2, "image_output": True}, Estimate(3840, 2048, 1)),
        ("embeddings", "text-embedding-3-small", {"tokens": 77, "text_chars": 5, "generates": False}, Estimate(79)),
        ("pictures", "doubao-seedream-5-0-260128", {"candidates": 99}, Estimate(0, 15 * 16_384, 15)),
        ("pictures", "gpt-image-1.5", {"images": 1, "candidates": 3}, Estimate(1000, 3168, 3)),
        ("pictures", "gpt-image-9", {"text_chars": 4}, Estimate(1, 1056, 1)),
        ("pictures", "qwen-image-max", {"text_chars": 4}, Estimate(1, 1000, 1)),
        ("per call", "dall-e-3", {"text_chars": 4000, "candidates": 2}, Estimate(0, 0, 1)),
        ("per call", "wan2.6-image", {"candidates": 3}, Estimate(0, 0, 3)),
        ("per call", "nobody-knows-it", {"candidates": 3, "image_output": True}, Estimate(0, 0, 3)),
        ("per call", "whisper-1", {"other_media": 1}, Estimate()),
        ("transcription", "whisper-1", {"other_media": 1}, Estimate(1920, 256)),
        ("video", "doubao-seedance-2.0", {"text_chars": 400, "images": 2}, Estimate(0, 108_000)),
        ("video", "doubao-seedance-2.0-V2V", {}, Estimate(0, 216_000)),
        ("video", "MiniMax-Hailuo-02", {}, Estimate()),
        ("video", "doubao-seedance-2.0", {"seconds": 10, "pixels": 1920 * 1080}, Estimate(0, 486_000)),
        ("video", "doubao-seedance-2.0", {"seconds": 5, "pixels": 864 * 480, "videos": 1}, Estimate(0, 48_600, 0, 1)),
        ("poll", "doubao-seedance-2.0", {}, Estimate(requests=0)),
    ],
)
def test_what_other_apis_are_expected_to_cost(kind: str, model: str, demand: dict[str, Any], wanted: Estimate) -> None:
    """L3: each kind of call is reserved by the figures of its model or family."""
    assert wanted == estimate(asking(kind, model, Demand(**demand)), Catalogue.load())


def test_an_estimate_is_never_negative_nor_beyond_all_bounds() -> None:
    """L3: whatever stands in a request, the reservation is a number that every store holds exactly."""
    catalogue, extremes = Catalogue.load(), (-(10**30), -1, 0, 1, 10**30)
    models = (
        "gemini-2.5-flash",
        "doubao-seedream-5-0-260128",
        "doubao-seedance-2.0",
        "nobody-knows-it",
        "",
        "\udc80*[",
    )
    for kind, model, size, pictures in itertools.product(OPERATIONS, models, extremes, (False, True)):
        demand = Demand(
            text_chars=size, tokens=size, images=size, other_media=size, max_output_tokens=size, candidates=size,
            image_output=pictures, seconds=size, pixels=size,
        )  # fmt: skip
        wanted = estimate(asking(kind, model, demand), catalogue)
        assert min(wanted) >= 0
        assert wanted.tokens <= 2**31
        assert wanted.images <= 15


def test_what_prices_go_by_outlives_an_estimate() -> None:
    """U18: where the tokens of an answer are estimated, what else it said stays: sizes, seconds, and what it made."""
    told = Usage(images_out=3, size="1024x1024", quality="low", seconds=4.5)
    usage = charged(told, "ok", Estimate(tokens_out=1000, images=2))
    assert (1000, 3, "estimated") == (usage.total, usage.images_out, usage.source)
    assert ("1024x1024", "low", 4.5) == (usage.size, usage.quality, usage.seconds)
