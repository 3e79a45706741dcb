"""Which of the vendor's models are labels?  Names of its lists, bounded, and shared by way of the state store."""

import json
import random

from gateway.store import Store
from gateway.telemetry.vendor_models import KEY, MAX_NAMES, VendorModels
from tests.support.valkey import Valkey
from tests.support.waiting import until


def test_names_of_lists_are_known() -> None:
    """M1: what a list named stays known, also when the next list lacks it."""
    models = VendorModels()
    assert "gpt-5.5" not in models

    models.seen(["gpt-5.5", "deepseek-ai/DeepSeek-V3.2"])
    models.seen(["claude-opus-4.7"])

    assert all(name in models for name in ("gpt-5.5", "deepseek-ai/DeepSeek-V3.2", "claude-opus-4.7"))


def test_names_are_bounded() -> None:
    """M1: a thousand names at most become labels, of any list and of any number of them, and only usual ones."""
    models, chance = VendorModels(), random.Random(4711)
    odd = ["", "a b", 'x"y', "x\ny", "\u202e", "-x", "x" * 129, "é"]
    lists = [[f"model-{chance.randrange(10**9)}" for _ in range(5 * MAX_NAMES)] for _ in range(3)]
    models.seen([*odd, "x" * 128])
    for names in lists:
        models.seen(iter(names))

    assert "x" * 128 in models
    assert MAX_NAMES - 1 == sum(name in models for names in lists for name in names)
    assert not any(name in models for name in odd)


async def test_a_list_is_kept_in_the_store(state: Valkey) -> None:
    """M1: what one worker saw another knows, without a list of its own; the key never expires."""
    store = Store(state.url)
    one, other = VendorModels(), VendorModels()
    try:
        one.seen(["gpt-5.5", "claude-opus-4.7"])
        await one.sync(store)
        other.seen(["grok-5"])
        await other.sync(store)
        await one.sync(store)
    finally:
        await store.aclose()

    assert all(name in models for models in (one, other) for name in ("gpt-5.5", "claude-opus-4.7", "grok-5"))
    assert ["grok-5", "gpt-5.5", "claude-opus-4.7"] == json.loads(state.ask("GET", KEY))
    assert -1 == state.ask("TTL", KEY)


async def test_nothing_is_written_that_is_known_already(state: Valkey) -> None:
    """The store is written to when a list names what it lacks, and at no other time."""
    store, models = Store(state.url), VendorModels()
    try:
        await models.sync(store)
        assert 0 == state.ask("EXISTS", KEY)
        models.seen(["gpt-5.5"])
        await models.sync(store)
        state.ask("SET", KEY, '["kept", "gpt-5.5"]')
        models.seen(["gpt-5.5"])
        await models.sync(store)
    finally:
        await store.aclose()

    assert ["kept", "gpt-5.5"] == json.loads(state.ask("GET", KEY))


async def test_the_newest_names_push_out_the_oldest(state: Valkey) -> None:
    """A full store keeps the names of the newest lists, also those that this worker has no label left for."""
    store, models = Store(state.url), VendorModels()
    state.ask("SET", KEY, json.dumps([f"old-{number}" for number in range(2 * MAX_NAMES)]))
    try:
        await models.sync(store)
        models.seen(["gpt-5.5"])
        await models.sync(store)
    finally:
        await store.aclose()

    kept = json.loads(state.ask("GET", KEY))
    assert ("gpt-5.5", MAX_NAMES) == (kept[0], len(kept))
    assert "gpt-5.5" not in models
    assert f"old-{MAX_NAMES - 1}" in models


async def test_what_nobody_can_read_is_no_list(state: Valkey) -> None:
    """What stands under the key, whatever it is, neither fails nor stays once there is a list."""
    store, models = Store(state.url), VendorModels()
    try:
        for stored in ("{", '{"a": 1}', "[1]", '["a b", "gpt-5.5"]', "\xff"):
            state.ask("SET", KEY, stored)
            await models.sync(store)
        models.seen(["grok-5"])
        await models.sync(store)
    finally:
        await store.aclose()

    assert ("gpt-5.5" in models, "grok-5" in models, "a b" in models) == (True, True, False)
    assert ["grok-5"] == json.loads(state.ask("GET", KEY))


async def test_a_store_that_is_unavailable_changes_nothing(server: Valkey) -> None:
    """M1: without the store a worker knows what it saw, and hands it on when the store is back."""
    store, models = Store(server.url), VendorModels()
    try:
        server.kill()
        models.seen(["gpt-5.5"])
        await models.sync(store)
        assert "gpt-5.5" in models
        server.start()
        await until(lambda: store.up)
        await models.sync(store)
    finally:
        await store.aclose()

    assert ["gpt-5.5"] == json.loads(server.ask("GET", KEY))
