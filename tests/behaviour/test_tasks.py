"""Video tasks: created once, owned by the client that created them, and seen by nobody else."""

import asyncio
import contextlib
import hashlib
import os
import random
import string
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.app import Intervals
from gateway.config.clients import new_key
from tests.faults.test_leftovers import nothing_left, uncollected
from tests.support.gate import kept, records
from tests.support.gateway import Gateway, clients_toml, running
from tests.support.valkey import Valkey
from tests.support.videos import ASKED, FILE, GENERATIONS, SEEDANCE, VIDEOS, Videos, done, queued, relays
from tests.support.waiting import until
from tests.support.wire import answer, wire

TWO = {"design": "", "facts": ""}
GUESSES = int(os.environ.get("TEST_TASK_GUESSES", "2000"))
ESTIMATE = 108_000  # tokens of five seconds at 1280x720
ANEW = Intervals(shared_poll_seconds=0)  # each poll is asked upstream
Serve = Callable[..., AbstractAsyncContextManager[tuple[Gateway, Videos]]]


@pytest.fixture
def serve(tmp_path: Path, state: Valkey) -> Serve:
    """A gateway with two clients in front of an upstream that makes videos."""

    @asynccontextmanager
    async def started(intervals: Intervals = ANEW, **terms: str) -> AsyncIterator[tuple[Gateway, Videos]]:
        videos = Videos()
        async with (
            wire(videos) as upstream,
            running(tmp_path, upstream.url, clients=TWO | terms, redis_url=state.url, intervals=intervals) as gateway,
        ):
            yield gateway, videos
            await gateway.at_rest()

    return started


def by(gateway: Gateway, client: str) -> dict[str, str]:
    """The key of a client, as a header."""
    return {"x-goog-api-key": gateway.keys[client]}


async def created(gateway: Gateway, path: str = VIDEOS, client: str = "design", **more: Any) -> str:
    """The id of a client's new task."""
    response = await gateway.http.post(path, json=ASKED | more, headers=by(gateway, client))
    assert 200 == response.status_code, response.text
    return str(response.json()["id"])


async def unknown(gateway: Gateway, path: str, client: str = "facts", method: str = "GET") -> bytes:
    """The body with which a client is told that there is no such task."""
    body = {"prompt": "again"} if method == "POST" else None
    response = await gateway.http.request(method, path, headers=by(gateway, client), json=body)
    assert 404 == response.status_code, response.text
    return response.content


async def test_a_task_on_either_path(serve: Serve) -> None:
    """K10: a task is created and asked for on both paths, each in its own words, byte for byte."""
    async with serve() as (gateway, videos):
        for path in (GENERATIONS, VIDEOS):
            response = await gateway.http.post(path, json=ASKED)
            assert 200 == response.status_code, response.text
            task = response.json()["id"]
            assert queued(task) == response.json()
            videos.says[task] = relays(task, "IN_PROGRESS")
            polled = await gateway.http.get(f"{GENERATIONS}/{task}")
            assert (200, relays(task, "IN_PROGRESS"), "5000", "private, no-store") == (
                polled.status_code,
                polled.json(),
                polled.headers["openai-poll-after-ms"],
                polled.headers["cache-control"],
            )
            videos.says[task] = done(task, ESTIMATE)
            polled = await gateway.http.get(f"{VIDEOS}/{task}")
            assert (200, done(task, ESTIMATE)) == (polled.status_code, polled.json())
            assert "openai-poll-after-ms" not in polled.headers
            head = await gateway.http.head(f"{VIDEOS}/{task}")
            assert (200, b"", polled.headers["content-length"]) == (
                head.status_code,
                head.content,
                head.headers["content-length"],
            )
        remixed = await gateway.http.post(f"{VIDEOS}/{task}/remix", json={"prompt": "at night"})
        assert (200, 1) == (remixed.status_code, videos.asked[f"POST {VIDEOS}/{task}/remix"])
        assert 200 == (await gateway.http.get(f"{VIDEOS}/{remixed.json()['id']}")).status_code


async def test_a_form_creates_a_task(serve: Serve) -> None:
    """A10: OpenAI's SDK for Python sends a form; it passes as it came, and is reserved by its fields."""
    async with serve() as (gateway, videos):
        files = {"input_reference": ("a.png", b"\x89PNG", "image/png")}
        form = {"model": SEEDANCE, "prompt": "A boat", "seconds": "10", "size": "1920x1080"}
        response = await gateway.http.post(VIDEOS, data=form, files=files)
        assert 200 == response.status_code, response.text
        assert videos.created == [response.json()["id"]]
        assert 486_000 == (await gateway.entry())["tokens_out"]
        assert 415 == (await gateway.http.post(GENERATIONS, data=form, files=files)).status_code


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", VIDEOS, 405, "method"),
        ("GET", GENERATIONS, 405, "method"),
        ("DELETE", f"{VIDEOS}/task_1", 405, "method"),
        ("POST", f"{VIDEOS}/edits", 405, "method"),
        ("POST", f"{VIDEOS}/task_1/content", 405, "method"),
        ("GET", f"{VIDEOS}/task_1/remix", 405, "method"),
        ("GET", f"{VIDEOS}/task_1/other", 404, "route_unknown"),
        ("GET", f"{GENERATIONS}/task_1/content", 404, "route_unknown"),
        ("GET", f"{VIDEOS}/{'x' * 192}", 404, "route_unknown"),
        ("GET", f"{VIDEOS}/task%5F1", 404, "route_unknown"),
        ("GET", f"{VIDEOS}/task_1", 404, "task_not_exist"),
        ("GET", f"{GENERATIONS}/task_1", 404, "task_not_exist"),
    ],
)
async def test_what_is_not_offered(serve: Serve, method: str, path: str, status: int, code: str) -> None:
    """U12: what tasks do not offer is refused in the shape of its path, and nothing is asked upstream."""
    async with serve() as (gateway, videos):
        async with httpx.AsyncClient(base_url=gateway.url, trust_env=False) as http:
            response = await http.request(method, path, headers={"authorization": f"Bearer {gateway.key}"})
        said = response.json()
        assert (status, code) == (response.status_code, said["error"]["code"])
        assert ("video/generations" in path) == ("data" in said)
        assert not videos.asked


async def test_a_model_that_the_body_of_a_remix_names_is_refused(serve: Serve) -> None:
    """P2: no reader of a remix's body may find another model than the one that the client may use."""
    async with serve(facts='models = ["sora-*"]') as (gateway, videos):
        task = await created(gateway)
        for body in ({"prompt": "x", "model": "sora-2"}, {"prompt": "x", "Model": SEEDANCE}):
            assert 400 == (await gateway.http.post(f"{VIDEOS}/{task}/remix", json=body)).status_code
        refused = await gateway.http.post(VIDEOS, json=ASKED, headers=by(gateway, "facts"))
        assert (403, "model_not_allowed") == (refused.status_code, refused.json()["error"]["code"])
        assert 1 == videos.asked.total()


async def test_nobody_else_sees_a_task(serve: Serve) -> None:
    """K10: a task of somebody else's and one that never was get the same answer, and the upstream is not asked."""
    async with serve() as (gateway, videos):
        task = await created(gateway)
        videos.says[task] = done(task)
        asked = videos.asked.total()
        for way in ("", "/content", "/remix"):
            method = "POST" if way == "/remix" else "GET"
            theirs = await unknown(gateway, f"{VIDEOS}/{task}{way}", method=method)
            assert theirs == await unknown(gateway, f"{VIDEOS}/task_never{way}", method=method)
        assert await unknown(gateway, f"{GENERATIONS}/{task}") == await unknown(gateway, f"{GENERATIONS}/x")
        assert asked == videos.asked.total()
        assert 200 == (await gateway.http.get(f"{VIDEOS}/{task}/content")).status_code


@pytest.mark.timeout(60 + GUESSES // 10)
async def test_ids_are_not_guessed(serve: Serve) -> None:
    """K10: no spelling near an id opens it: not in another case, not encoded, not cut, not with anything around it."""
    async with serve() as (gateway, videos):
        tasks = [await created(gateway) for _ in range(3)]
        asked, rng = videos.asked.total(), random.Random(4711)
        prefixes = ["/v1/videos/", "/v1/video/generations/", "/videos//", "/api/v1/videos/", "/v1/v1/videos/"]

        def guess() -> str:
            task = rng.choice(tasks)
            spelled = rng.choice([
                task, task.upper(), task.swapcase(), task[:-1], f"{task}{rng.choice(string.digits)}", f"x{task}",
                "".join(f"%{ord(char):02X}" if rng.random() < 0.2 else char for char in task),
                f"task_{rng.randrange(10_000):04}", f"{task}%00", f"./{task}", f"..%2f{task}", f"{task}?id={task}",
                "".join(rng.choices(string.ascii_letters + string.digits + "_-", k=rng.randrange(1, 40))),
            ])  # fmt: skip
            return rng.choice(prefixes) + spelled + rng.choice(["", "/", "/content"])

        limit = asyncio.Semaphore(16)

        async def ask(path: str) -> int:
            async with limit:
                return (await gateway.http.get(path, headers=by(gateway, "facts"))).status_code

        statuses = await asyncio.gather(*(ask(guess()) for _ in range(GUESSES)))
        assert {404} == set(statuses)
        assert asked == videos.asked.total()


async def test_a_task_belongs_to_a_name_not_to_a_key(serve: Serve) -> None:
    """K10: a client with a new key keeps its tasks; one that is revoked loses them, and so does one with other models."""
    async with serve() as (gateway, _):
        task, keys = await created(gateway), dict(gateway.keys)
        keys["design"] = new_key()

        async def status() -> int:
            return (await gateway.http.get(f"{VIDEOS}/{task}", headers={"x-goog-api-key": keys["design"]})).status_code

        async def becomes(expected: int, **terms: str) -> bool:
            gateway.clients_file.write_text(clients_toml(keys, terms))
            return bool(await until(lambda: _is(status(), expected)))

        async def _is(found: Any, expected: int) -> bool:
            return bool(await found == expected)

        assert await becomes(200)
        assert await becomes(403, design='models = ["sora-*"]')
        assert await becomes(401, design="disabled = true")
        assert await becomes(200)
        assert await unknown(gateway, f"{VIDEOS}/{task}")


async def test_each_id_of_an_answer_is_its_owners(serve: Serve) -> None:
    """K10: a relay may name a task twice; both ids are the client's, and nobody else's."""
    async with serve() as (gateway, videos):
        videos.named = lambda task: {
            "id": task,
            "data": {"task_id": f"{task}-b", "id": 77},
            "output": {"task_id": None},
        }
        task = await created(gateway)
        for one in (task, f"{task}-b", "77"):
            assert 200 == (await gateway.http.get(f"{VIDEOS}/{one}")).status_code
            await unknown(gateway, f"{VIDEOS}/{one}")


async def test_an_id_that_is_given_twice_stays_its_first_owners(serve: Serve) -> None:
    """K10: an upstream that gives a client the id of another's task opens it to nobody."""
    async with serve() as (gateway, videos):
        videos.named = lambda _: queued("the-same")
        await created(gateway)
        await created(gateway, client="facts")
        assert 200 == (await gateway.http.get(f"{VIDEOS}/the-same")).status_code
        await unknown(gateway, f"{VIDEOS}/the-same")
        await until(lambda: [line for line in gateway.lines() if line["event"] == "task_id_taken"])


async def test_an_answer_without_an_id_passes_and_is_told(serve: Serve) -> None:
    """A1: a task that nobody can name is charged, counted and logged, and its answer passes as it came."""
    async with serve() as (gateway, videos):
        videos.named = lambda _: {"object": "video", "id": None}
        response = await gateway.http.post(VIDEOS, json=ASKED)
        assert (200, {"object": "video", "id": None}) == (response.status_code, response.json())
        assert 1 == gateway.metric("gateway_task_id_missing_total", model=SEEDANCE)
        line = await gateway.entry()
        assert (ESTIMATE, None) == (line["tokens_out"], line["task"])
        assert [line for line in gateway.lines() if line["event"] == "task_id_missing"]


BAD = b'{"error":{"message":"no","type":"new_api_error","code":"do_request_failed"}}'
PARTLY = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{"


@pytest.mark.parametrize(
    ("said", "status", "retry"),
    [
        (answer(BAD, status="429 Too Many Requests"), 429, None),
        (answer(BAD, status="400 Bad Request"), 400, None),
        (answer(BAD, status="500 Internal Server Error"), 500, "false"),
        (answer(BAD, status="503 Service Unavailable", more="x-should-retry: true\r\n"), 503, "false"),
        (answer(BAD, status="409 Conflict"), 409, "false"),
        (b"", 502, "false"),
        (PARTLY, 502, "false"),
        (answer(b"<html>"), 502, "false"),
    ],
    ids=["429", "400", "500", "503", "409", "reset before the head", "reset behind it", "not JSON"],
)
async def test_creating_is_sent_once(serve: Serve, said: bytes, status: int, retry: str | None) -> None:
    """U4: whatever comes of it, the upstream sees a creation once, and SDKs are told where a second one may pay twice."""

    async def instead(_: bytes, writer: asyncio.StreamWriter) -> bool:
        writer.write(said)
        await writer.drain()
        writer.close()
        return True

    async with serve() as (gateway, videos):
        task = await created(gateway)
        videos.before = instead
        for path in (VIDEOS, GENERATIONS, f"{VIDEOS}/{task}/remix"):
            body = {"prompt": "x"} if path.endswith("remix") else ASKED
            response = await gateway.http.post(path, json=body)
            assert (status, retry) == (response.status_code, response.headers.get("x-should-retry"))
            assert (status == 502) == ("task may have been created" in response.text)
        assert {1} == set(videos.asked.values()) - {2}
        assert 4 == videos.asked.total()


async def test_nothing_was_sent_where_nobody_listens(tmp_path: Path, state: Valkey) -> None:
    """U4: where no connection was made nothing can have been created, and the caller may try again."""
    async with running(tmp_path, "http://127.0.0.1:9", clients=TWO, redis_url=state.url) as gateway:
        response = await gateway.http.post(VIDEOS, json=ASKED)
        assert (502, "upstream_unreachable") == (response.status_code, response.json()["error"]["code"])
        assert "x-should-retry" not in response.headers
        assert "created" not in response.text


async def test_a_caller_who_leaves_still_owns_the_task(serve: Serve) -> None:
    """D5: whoever hangs up while a task is created is charged for it, and may ask for it."""
    arrived, go = asyncio.Event(), asyncio.Event()

    async def later(_: bytes, __: asyncio.StreamWriter) -> bool:
        arrived.set()
        await go.wait()
        return False

    async with serve() as (gateway, videos):
        videos.before = later
        asking = asyncio.create_task(gateway.http.post(VIDEOS, json=ASKED))
        await arrived.wait()
        asking.cancel()
        await asyncio.wait({asking})
        go.set()
        line = await gateway.entry()
        assert ("client_gone", "estimated", ESTIMATE) == (line["outcome"], line["usage"], line["tokens_out"])
        (task,) = videos.created
        assert task == line["task"]
        assert 200 == (await gateway.http.get(f"{VIDEOS}/{task}")).status_code
        await unknown(gateway, f"{VIDEOS}/{task}")


async def test_nothing_is_created_without_a_store(tmp_path: Path, server: Valkey) -> None:
    """L4: while nobody can write down whose a task is, none is created; who asks for one is told to ask again."""
    videos = Videos()
    async with (
        wire(videos) as upstream,
        running(tmp_path, upstream.url, clients=TWO, redis_url=server.url) as gateway,
    ):
        mine, theirs = await created(gateway), await created(gateway, client="facts")
        server.freeze()
        refused = await gateway.http.post(VIDEOS, json=ASKED)
        assert (503, "state_lost") == (refused.status_code, refused.json()["error"]["code"])
        assert refused.headers["retry-after"]
        assert 200 == (await gateway.http.get(f"{VIDEOS}/{mine}")).status_code  # it is in memory
        for task in (theirs, "never"):
            response = await gateway.http.get(f"{VIDEOS}/{task}")
            assert (503, "state_lost") == (response.status_code, response.json()["error"]["code"])
        assert [mine, theirs] == videos.created
        server.thaw()
        await until(lambda: gateway.app.parts.state_store.up)
        assert await created(gateway)


async def test_a_store_that_is_lost_meanwhile_takes_the_owner_later(tmp_path: Path, server: Valkey) -> None:
    """L4: a store lost between a creation and its answer: the task is its owner's all the same, here and later everywhere."""
    videos = Videos()

    async def freeze(head: bytes, _: asyncio.StreamWriter) -> bool:
        if head.startswith(b"POST"):
            server.freeze()
        return False

    async with (
        wire(videos) as upstream,
        running(tmp_path, upstream.url, clients=TWO, redis_url=server.url) as gateway,
    ):
        videos.before = freeze
        task = await created(gateway)
        assert 200 == (await gateway.http.get(f"{VIDEOS}/{task}")).status_code
        assert 503 == (await gateway.http.get(f"{VIDEOS}/{task}", headers=by(gateway, "facts"))).status_code
        server.thaw()
        await until(lambda: server.ask("EXISTS", f"gw:task:{task}"))
        await until(lambda: server.ask("ZCARD", "gw:{design}:tasks:2"))  # and it is settled
        await until(lambda: gateway.app.parts.state_store.up)
        assert 200 == (await gateway.http.get(f"{VIDEOS}/{task}")).status_code
        await unknown(gateway, f"{VIDEOS}/{task}")


async def test_polls_are_shared_and_have_an_allowance_of_their_own(serve: Serve) -> None:
    """L1: equal polls of a second are asked upstream once; ten a second are let through, beside all other limits."""
    async with serve(Intervals(), design="requests_per_minute = 1\nconcurrent = 1") as (gateway, videos):
        task = await created(gateway)
        answers = await asyncio.gather(*(gateway.http.get(f"{VIDEOS}/{task}") for _ in range(8)))
        assert {200} == {one.status_code for one in answers}
        assert 1 == videos.asked[f"GET {VIDEOS}/{task}"]
        many = await asyncio.gather(*(gateway.http.get(f"{VIDEOS}/{task}") for _ in range(30)))
        refused = [one for one in many if one.status_code == 429]
        assert refused
        assert {"1"} == {one.headers["retry-after"] for one in refused}
        assert "polls_per_second" in refused[0].text
        assert 429 == (await gateway.http.post(VIDEOS, json=ASKED)).status_code  # that limit is used up by the creation
        await until(lambda: gateway.app.parts.memory_budget.held == 0)


async def test_a_task_is_charged_when_it_is_created_and_corrected_when_it_ends(serve: Serve, state: Valkey) -> None:
    """A4: the estimate is charged at once, the difference when a poll shows the end, once; the counter only then."""
    terms = "tokens_per_day = 1000000\nvideos_per_day = 5"
    async with serve(design=terms) as (gateway, videos):
        task = await created(gateway, GENERATIONS)
        assert (ESTIMATE, 1) == used(state)
        assert 0 == gateway.metric("gateway_tokens_total")
        assert 1 == gateway.metric("gateway_videos_total", client="design", model=SEEDANCE)
        for said in (relays(task, "IN_PROGRESS"), relays(task, "SUCCESS", 120_000), relays(task, "SUCCESS", 999_999)):
            videos.says[task] = said
            await polled(gateway, f"{GENERATIONS}/{task}")
        assert (120_000, 1) == used(state)
        assert 120_000 == gateway.metric("gateway_tokens_total", kind="output", modality="video")
        creation, correction = records(state)
        assert ("ok", "estimated", str(ESTIMATE), task) == tuple(
            creation[name] for name in ("outcome", "usage", "tokens", "task")
        )
        assert ("corrected", "reported", "12000", task, creation["at"]) == tuple(
            correction[name] for name in ("outcome", "usage", "tokens", "task", "at")
        )


async def test_a_task_that_fails_costs_nothing(serve: Serve, state: Valkey) -> None:
    """A4: what failed is given back, its video too, however many polls show it."""
    async with serve(design="tokens_per_day = 1000000\nvideos_per_day = 1") as (gateway, videos):
        task = await created(gateway)
        spent = await gateway.http.post(VIDEOS, json=ASKED)
        assert (429, "false") == (spent.status_code, spent.headers["x-should-retry"])
        videos.says[task] = relays(task, "FAILURE")
        await polled(gateway, f"{VIDEOS}/{task}")
        await polled(gateway, f"{GENERATIONS}/{task}")
        assert (0, 0) == used(state)
        assert 0 == gateway.metric("gateway_tokens_total")
        assert "-1" == records(state)[-1]["videos"]
        await created(gateway)


async def test_a_remix_that_fails_leaves_the_task_it_is_of_alone(serve: Serve, state: Valkey) -> None:
    """A4: a task that is settled is not open again because a remix of it was refused, so nothing is given back twice."""

    async def refuse(head: bytes, writer: asyncio.StreamWriter) -> bool:
        if b"/remix" in head:
            writer.write(answer(BAD, status="400 Bad Request"))
        return b"/remix" in head

    async with serve(design="tokens_per_day = 1000000\nvideos_per_day = 9") as (gateway, videos):
        first, failed = await created(gateway), await created(gateway)
        videos.before, videos.says[failed] = refuse, relays(failed, "FAILURE")
        await polled(gateway, f"{VIDEOS}/{failed}")
        assert 400 == (await gateway.http.post(f"{VIDEOS}/{failed}/remix", json={"prompt": "x"})).status_code
        state.ask("DEL", f"gw:task:{first}")
        await polled(gateway, f"{VIDEOS}/{failed}")
        assert (ESTIMATE, 1) == used(state)
        assert [first] == state.ask("ZRANGE", "gw:{design}:tasks:2", 0, -1)


async def test_polls_have_a_breaker_of_their_own(serve: Serve) -> None:
    """U6: polls that keep failing are left alone for a moment, and creating goes on meanwhile."""

    async def hang_up(head: bytes, writer: asyncio.StreamWriter) -> bool:
        if head.startswith(b"GET"):
            writer.close()
        return head.startswith(b"GET")

    async with serve(third="") as (gateway, videos):
        mine, theirs = await created(gateway), await created(gateway, client="facts")
        last = await created(gateway, client="third")
        videos.before = hang_up
        for _ in range(10):
            for client, task in (("design", mine), ("facts", theirs)):
                response = await gateway.http.get(f"{VIDEOS}/{task}", headers=by(gateway, client))
                assert 502 == response.status_code
        assert 1 == gateway.metric("gateway_breaker_open", model="poll")
        refused = await gateway.http.get(f"{VIDEOS}/{last}", headers=by(gateway, "third"))
        assert (503, "breaker_open") == (refused.status_code, refused.json()["error"]["code"])
        assert await created(gateway)


def used(state: Valkey) -> tuple[int, int]:
    """Tokens and videos of today's budgets."""
    rows = kept(state)
    return round(rows["tokens_per_day"][0]), round(rows["videos_per_day"][0])


async def polled(gateway: Gateway, path: str) -> None:
    """Poll once."""
    assert 200 == (await gateway.http.get(path)).status_code


async def test_a_file_passes_untouched(serve: Serve) -> None:
    """A4, A10: a file passes byte for byte with its headers, whole or by ranges, and no shared cache may keep it."""
    async with serve() as (gateway, videos):
        path = f"{VIDEOS}/{await created(gateway)}/content"
        whole = await gateway.http.get(f"{path}?variant=video&other=1")
        assert (200, hashlib.sha256(FILE).digest()) == (whole.status_code, hashlib.sha256(whole.content).digest())
        assert ("video/mp4", '"v1"', "bytes", "private, no-store", str(len(FILE))) == tuple(
            whole.headers[name] for name in ("content-type", "etag", "accept-ranges", "cache-control", "content-length")
        )
        assert videos.asked[f"GET {path}?variant=video"]
        pieces = hashlib.sha256()
        for begin in range(0, len(FILE), 300_001):
            wanted = f"bytes={begin}-{min(begin + 300_000, len(FILE) - 1)}"
            part = await gateway.http.get(path, headers={"range": wanted, "if-range": '"v1"'})
            assert (206, f"{wanted.replace('=', ' ')}/{len(FILE)}") == (part.status_code, part.headers["content-range"])
            pieces.update(part.content)
        assert hashlib.sha256(FILE).digest() == pieces.digest()
        beyond = await gateway.http.get(path, headers={"range": f"bytes={len(FILE)}-"})
        assert (416, f"bytes */{len(FILE)}") == (beyond.status_code, beyond.headers["content-range"])
        head = await gateway.http.head(path, headers={"range": "bytes=1-2"})
        assert (200, str(len(FILE)), b"") == (head.status_code, head.headers["content-length"], head.content)
        lines = await gateway.entries(8)
        assert {"videoCreate", "videoContent"} == {line["method"] for line in lines}


async def test_a_file_that_is_cut_never_looks_whole(serve: Serve) -> None:
    """A5: a file that breaks off, with a length or in chunks, ends by a broken connection."""
    ends = [
        b"HTTP/1.1 200 OK\r\ncontent-type: video/mp4\r\ncontent-length: 999999\r\n\r\n" + bytes(70_000),
        b"HTTP/1.1 200 OK\r\ncontent-type: video/mp4\r\ntransfer-encoding: chunked\r\n\r\n4\r\nabcd\r\n",
    ]

    async def cut(head: bytes, writer: asyncio.StreamWriter) -> bool:
        if b"/content" in head:
            writer.write(ends[0])
            await writer.drain()
            writer.close()
            return True
        return False

    async with serve() as (gateway, videos):
        path, videos.before = f"{VIDEOS}/{await created(gateway)}/content", cut
        while ends:
            with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
                await gateway.http.get(path)
            ends.pop(0)
        lines = await gateway.entries(3)
        assert ["upstream_broke"] * 2 == [line["outcome"] for line in lines[1:]]


async def test_a_file_that_is_not_ready_or_moved(serve: Serve) -> None:
    """U10, U12: the upstream's own refusal passes, a redirect is never followed, a file has at most 2 GiB."""
    not_yet = b'{"error":{"message":"Task is not completed yet","type":"invalid_request_error"}}'
    ends = [
        answer(not_yet, status="400 Bad Request"),
        answer(b"", status="302 Found", more="location: http://127.0.0.1:1/\r\n"),
        b"HTTP/1.1 200 OK\r\ncontent-type: video/mp4\r\ncontent-length: %d\r\n\r\n" % (2**31 + 1),
        b'HTTP/1.1 304 Not Modified\r\netag: "v1"\r\n\r\n',
    ]

    async def instead(_: bytes, writer: asyncio.StreamWriter) -> bool:
        writer.write(ends.pop(0))
        return True

    async with serve() as (gateway, videos):
        path, videos.before = f"{VIDEOS}/{await created(gateway)}/content", instead
        for status in (400, 502, 502, 304):
            response = await gateway.http.get(path)
            assert status == response.status_code
        assert (b"", '"v1"') == (response.content, response.headers["etag"])


async def test_a_download_holds_a_place_and_little_memory(serve: Serve) -> None:
    """D3, L1: a caller who reads slowly holds one of their places, and no more of a file than the buffer."""
    async with serve(design="concurrent = 1") as (gateway, videos):
        path = f"{VIDEOS}/{await created(gateway)}/content"
        videos.file = bytes(64 * 2**20)
        async with gateway.http.stream("GET", path) as slow:
            chunks = slow.aiter_raw()
            received = len(await anext(chunks))
            await until(lambda: gateway.app.parts.memory_budget.held > 8 * 2**20 - 2**20)
            assert 429 == (await gateway.http.get(path)).status_code
            async for chunk in chunks:
                received += len(chunk)
                assert gateway.app.parts.memory_budget.held < 9 * 2**20
        assert len(videos.file) == received
        assert 200 == (await gateway.http.head(path)).status_code


async def test_open_tasks_survive_a_restart_of_the_gateway(tmp_path: Path, state: Valkey) -> None:
    """K10: another worker knows the owners, and settles a task that this one created, once between them."""
    videos = Videos()
    terms = {"design": "tokens_per_day = 1000000", "facts": ""}
    async with wire(videos) as upstream, contextlib.AsyncExitStack() as stack:
        first = await stack.enter_async_context(running(tmp_path, upstream.url, clients=terms, redis_url=state.url))
        task = await created(first)
        keys = dict(first.keys)
        (tmp_path / "second").mkdir()
        second = await stack.enter_async_context(
            running(tmp_path / "second", upstream.url, clients=terms, redis_url=state.url)
        )
        second.clients_file.write_text(clients_toml(keys, terms))
        mine = {"x-goog-api-key": keys["design"]}
        videos.says[task] = relays(task, "SUCCESS", 100_000)
        await until(lambda: _found(second, task, mine))
        await asyncio.gather(*(one.http.get(f"{GENERATIONS}/{task}", headers=mine) for one in (first, second)))
        assert 100_000 == first.metric("gateway_tokens_total") + second.metric("gateway_tokens_total")
        assert 1 == len([record for record in records(state) if record["outcome"] == "corrected"])


async def _found(gateway: Gateway, task: str, mine: dict[str, str]) -> bool:
    return (await gateway.http.get(f"{VIDEOS}/{task}", headers=mine)).status_code == 200


@pytest.mark.parametrize("how", ["", "500", "reset", "cut"])
async def test_nothing_of_a_task_waits_for_the_collector(serve: Serve, how: str) -> None:
    """D8: however creations, shared polls and downloads end, or their callers leave, nothing of them stays."""
    ends = {
        "500": answer(BAD, status="500 Internal Server Error"),
        "reset": b"",
        "cut": b"HTTP/1.1 200 OK\r\ncontent-type: video/mp4\r\ncontent-length: 999999\r\n\r\n" + bytes(70_000),
    }

    async def instead(_: bytes, writer: asyncio.StreamWriter) -> bool:
        if how:
            writer.write(ends[how])
            await writer.drain()
            writer.close()
        return bool(how)

    async with serve() as (gateway, videos):
        task = await created(gateway)
        videos.before = instead

        async def ask(method: str, path: str, patience: float = 10) -> None:
            with contextlib.suppress(httpx.TransportError, TimeoutError):
                async with asyncio.timeout(patience):
                    await gateway.http.request(method, path, json=ASKED if method == "POST" else None)

        with uncollected():
            await asyncio.gather(*(ask("GET", f"{VIDEOS}/{task}") for _ in range(3)))
            await ask("POST", VIDEOS)
            await ask("GET", f"{VIDEOS}/{task}/content")
            await asyncio.gather(*(ask("GET", f"{VIDEOS}/{task}{way}", 0.001) for way in ("", "/content")))
            await ask("GET", f"{VIDEOS}/never")
            await nothing_left(gateway, how)
