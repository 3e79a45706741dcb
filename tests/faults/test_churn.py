"""Many calls at once, some of them hung up: nothing is left behind, and all accounts agree."""

import asyncio
import random
from pathlib import Path

import pytest

from tests.support.gateway import GENERATE, STREAM, Gateway, Upstream, running, saying
from tests.support.valkey import Valkey
from tests.support.waiting import until
from tests.support.wire import wire

CALLS, LEAVING = 64, 16


async def test_hung_up_calls_leave_nothing_behind(gateway: Gateway, upstream: Upstream) -> None:
    """D4 D5 D6 A1 A3 A4 A14: 64 at once, a quarter hung up; ledger, metrics and the upstream's own log agree."""
    await gateway.http.post(GENERATE, json=saying("warm up"))
    warm = await gateway.entry()
    tasks_before = len(asyncio.all_tasks())
    chance = random.Random(4711)

    async def call(number: int) -> None:
        prompt = saying(f"call {number} sandbox-fault: slow={chance.uniform(0.1, 0.6):.2f} ")
        sent = asyncio.Event()

        async def trace(event: str, _: object) -> None:
            if event == "http11.send_request_body.complete":
                sent.set()

        path, headers = STREAM if number % 2 else GENERATE, {"x-request-id": f"call-{number}"}
        asking = asyncio.ensure_future(
            gateway.http.post(path, json=prompt, headers=headers, extensions={"trace": trace})
        )
        if number < LEAVING:
            await sent.wait()
            asyncio.get_running_loop().call_later(chance.uniform(0, 0.3), asking.cancel)
        await asyncio.gather(asking, return_exceptions=number < LEAVING)

    await asyncio.gather(*[call(number) for number in range(CALLS)])
    await gateway.at_rest()
    entries = {entry["request_id"]: entry for entry in await gateway.entries(CALLS)}
    asked = [record for record in await upstream.log() if record["request_id"] in entries]
    seen = {record["request_id"]: record for record in asked}

    assert {f"call-{number}" for number in range(CALLS)} == set(entries)
    assert all(entries[f"call-{number}"]["outcome"] == "ok" for number in range(LEAVING, CALLS))
    assert CALLS + 1 == gateway.metric("gateway_requests_total")
    for outcome in ("ok", "client_gone"):
        counted = sum(entry["outcome"] == outcome for entry in entries.values()) + (outcome == "ok")
        assert counted == gateway.metric("gateway_requests_total", outcome=outcome)
    for request_id, entry in entries.items():
        if entry["outcome"] == "ok":
            usage = seen[request_id]["usage"]
            assert (usage["promptTokenCount"], usage["candidatesTokenCount"], "reported") == (
                entry["tokens_in"], entry["tokens_out"], entry["usage"],
            )  # fmt: skip
            assert "complete" == seen[request_id]["end"]
        elif entry["attempts"]:
            assert entry["usage"] in {"estimated", "reported"}, "a call that may have cost something is never zero"
    assert sum(entry["attempts"] for entry in entries.values()) == gateway.metric("gateway_upstream_attempts_total") - 1
    assert len(asked) == len(seen) == sum(entry["attempts"] for entry in entries.values()), "nothing was asked twice"
    assert None not in {record["end"] for record in asked}, "and nothing goes on at the upstream"
    warmed = warm["tokens_in"] + warm["tokens_out"]
    counted = sum(entry["tokens_in"] + entry["tokens_out"] for entry in entries.values())
    assert warmed + counted == gateway.metric("gateway_tokens_total")
    await until(lambda: len(asyncio.all_tasks()) <= tasks_before)
    assert 0 == gateway.app.parts.memory_budget.held


async def test_a_hung_up_stream_ends_the_upstream_call(gateway: Gateway, upstream: Upstream) -> None:
    """D5: when the caller of a stream leaves, the upstream is told within a second, and the usage is flagged."""
    async with gateway.http.stream("POST", STREAM, json=saying("long sandbox-gap: 0.2 ")) as response:
        await anext(response.aiter_raw())

    entry = await gateway.entry()
    assert ("client_gone", 499, "estimated") == (entry["outcome"], entry["status"], entry["usage"])
    assert entry["tokens_out"] > 0

    async def end() -> str:
        (seen,) = await upstream.log()
        return str(seen["end"] or "")

    assert "cancelled" == await until(end, 1)


@pytest.mark.parametrize("size", [10, 60_000, 70_000, 900_000, 5_000_000])
async def test_a_caller_with_a_body_of_any_size_is_seen_to_leave(tmp_path: Path, state: Valkey, size: int) -> None:
    """D4 D5: behind a large body too the socket is read on, so that the end of it ends the call."""
    asked = asyncio.Event()

    async def play(_: bytes, reader: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
        asked.set()
        await reader.read()  # until the gateway hangs up

    async with wire(play) as upstream, running(tmp_path, upstream.url, redis_url=state.url) as gateway:
        body = {"contents": [{"parts": [{"text": "x" * size}]}]}
        caller = asyncio.create_task(gateway.http.post(STREAM, json=body))
        await asked.wait()
        caller.cancel()
        entry = await gateway.entry()
        await gateway.at_rest()
    assert ("client_gone", 499) == (entry["outcome"], entry["status"])
