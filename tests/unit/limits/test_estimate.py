"""How much may a call cost?  The reservation of every kind of call."""

from typing import Any

import pytest

from gateway.config.models import Catalogue
from gateway.limits.estimate import Estimate, estimate
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


def test_the_catalogue_is_in_the_package() -> None:
    """A known model has its own figures, an unknown one the default's."""
    catalogue = Catalogue.load()

    assert "gemini-2.5-flash" in catalogue.names
    assert ("image", "text") == (catalogue.kind("gemini-2.5-flash-image"), catalogue.kind("unheard-of"))
    assert (0, 1024) == (catalogue.output_tokens("gemini-embedding-001"), catalogue.output_tokens("unheard-of"))
