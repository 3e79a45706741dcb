"""What is known of a model by its name?  The packaged catalogue, its families, and its figures."""

from fnmatch import fnmatchcase
from typing import get_args, get_type_hints

import pytest

from gateway.config.models import CACHED_NAMES, Catalogue, Model

CATALOGUE = {  # the models that the vendor documents, by what they make
    "image": (
        "doubao-seedream-4-0-250828", "doubao-seedream-4-5-251128", "doubao-seedream-5-0-260128",
        "gpt-image-1.5", "gpt-image-2", "dall-e-2", "dall-e-3", "wan2.6-image",
        "gemini-3-pro-image-preview", "gemini-2.5-flash-image", "gemini-3.1-flash-image-preview",
        "qwen-image-edit-max-2026-01-16", "qwen-image-max", "qwen-image-plus-2026-01-09",
    ),
    "video": (
        "doubao-seedance-2-0-260128", "doubao-seedance-2.0", "doubao-seedance-2.0-V2V", "doubao-seedance-2.0-fast",
        "doubao-seedance-2.0-fast-V2V", "doubao-seedance-1-5-pro-251215", "sora-2",
        "MiniMax-Hailuo-02", "MiniMax-Hailuo-2.3", "MiniMax-Hailuo-2.3-Fast",
        "happyhorse-1.0-i2v", "happyhorse-1.0-r2v", "happyhorse-1.0-t2v", "happyhorse-1.0-video-edit",
    ),
    "text": (
        "claude-sonnet-4-5-20250929", "claude-opus-4-6", "claude-opus-4-6-cc", "gpt-5", "gpt-5.2", "gpt-5.4",
        "gpt-5.4-mini", "grok-4.1", "gemini-2.5-flash", "gemini-2.5-pro", "gemini-3-flash-preview", "gemini-3.1-pro",
        "gemini-3.1-pro-preview",
    ),
    "speech": ("gemini-2.5-flash-preview-tts", "gemini-2.5-pro-preview-tts"),
    "transcription": ("whisper-1",),
}  # fmt: skip


@pytest.fixture
def catalogue() -> Catalogue:
    """The packaged one."""
    return Catalogue.load()


def test_every_documented_model_is_there(catalogue: Catalogue) -> None:
    """Catalogue: each model of the vendor's documentation is named, as what it makes."""
    assert {name: kind for kind, names in CATALOGUE.items() for name in names}.items() <= {
        name: model.kind for name, model in catalogue.models.items()
    }.items()


def test_the_figures_are_whole(catalogue: Catalogue) -> None:
    """Catalogue: words are those of the types, figures are no less than 0, and each kind has those that it needs."""
    words = {name: set(get_args(get_type_hints(Model)[name])) for name in ("kind", "price")}
    for name, model in (*catalogue.models.items(), *catalogue.families.items()):
        assert model.kind in words["kind"], name
        assert model.price in words["price"], name
        assert min(model.output_tokens, model.picture_out, model.seconds, model.tokens_per_second) >= 0, name
        assert model.picture_in == (258 if name.startswith("gemini") else 1000), name
        assert model.max_answers >= 1, name
        assert (model.kind == "image") == (model.picture_out > 0), name
        assert (model.kind == "video") == (model.seconds > 0), name
        assert (model.kind in {"text", "speech", "transcription"}) <= (model.output_tokens > 0), name


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("gemini-4-pro-image-preview", "gemini-*-image*"),
        ("gemini-4-flash-preview-tts", "gemini-*-tts*"),
        ("gemini-embedding-002", "gemini-*embedding*"),
        ("gemini-4-ultra", "gemini-*"),
        ("text-embedding-3-large", "*embedding*"),
        ("gpt-image-3", "*gpt-image*"),
        ("gpt-4o-mini-tts", "*-tts*"),
        ("gpt-4o-transcribe", "*transcribe*"),
        ("gpt-5.5", "gpt-*"),
        ("o4-mini", "o[134]*"),
        ("claude-opus-4.7", "claude-*opus*"),
        ("claude-haiku-4-5", "claude-*"),
        ("grok-2-image", "grok*image*"),
        ("grok-4.1-free", "grok-*"),
        ("deepseek-v3.2", "deepseek*"),
        ("doubao-seedance-2-0", "*seedance*"),
        ("doubao-seedance-3.0-V2V", "*seedance*v2v*"),
        ("doubao-seedream-6-0", "*seedream*"),
        ("doubao-seed-1-8", "doubao-*"),
        ("wan2.7-image-edit", "wan*image*"),
        ("wan2.7-t2v", "wan*"),
        ("qwen-image-edit", "qwen*image*"),
        ("qwen3-max", "qwen*"),
        ("minimax-hailuo-3", "*hailuo*"),
        ("MiniMax-Hailuo-3", "*hailuo*"),
        ("happyhorse-2.0-t2v", "happyhorse*"),
        ("sora-3-pro", "sora*"),
        ("whisper-large-v3", "*whisper*"),
    ],
)
def test_a_family_stands_for_names_that_are_not_known_yet(catalogue: Catalogue, name: str, family: str) -> None:
    """Families: the most special one that matches counts, in whatever case a name is written."""
    assert catalogue.families[family] is catalogue.find(name)
    assert name not in catalogue.models


def test_every_family_can_be_reached(catalogue: Catalogue) -> None:
    """Families: none stands behind one that takes all of its names."""
    globs = list(catalogue.families)
    hidden = [(glob, by) for at, glob in enumerate(globs) for by in globs[:at] if fnmatchcase(glob.strip("*"), by)]
    assert [] == hidden


def test_a_literal_name_goes_before_its_family(catalogue: Catalogue) -> None:
    """Lookup: literal name, else family, else the default, whose figures have not changed."""
    assert catalogue.models["gemini-2.5-pro"] is catalogue.find("gemini-2.5-pro")
    assert 3072 == catalogue.find("gemini-2.5-pro").answer_tokens != catalogue.find("gemini-2.5-pro-002").answer_tokens
    for stranger in ("nobody-knows-it", "nano-banana-pro", "", "x" * 128):
        unknown = catalogue.find(stranger)
        assert ("text", 1024, 258, 8, True) == (
            unknown.kind, unknown.answer_tokens, unknown.picture_in, unknown.max_answers, unknown.makes_pictures,
        )  # fmt: skip


def test_what_is_remembered_of_callers_names_is_bounded(catalogue: Catalogue) -> None:
    """Lookup: however many names callers invent, so many are cached."""
    for number in range(CACHED_NAMES * 2):
        catalogue.find(f"invented-{number}")
    assert CACHED_NAMES == catalogue.find.cache_info().currsize  # type: ignore[attr-defined]
