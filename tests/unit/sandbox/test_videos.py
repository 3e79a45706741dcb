"""Are videos created, polled and downloaded as at new-api, in the words of each path?"""

import hashlib
from typing import Any

import httpx
import pytest

from gateway.sandbox.videos.tasks import Task
from tests.support.waiting import wait_until

from .conftest import Caller

GENERATIONS = "/v1/video/generations"
VIDEOS = "/v1/videos"
SEEDANCE = "doubao-seedance-2.0"
both = pytest.mark.parametrize("path", [GENERATIONS, VIDEOS])


def asked(caller: Caller, prompt: str = "a fox", path: str = GENERATIONS, **body: Any) -> httpx.Response:
    """A request for a video; `body` is added to the request's JSON."""
    return caller.http.post(path, json={"model": SEEDANCE, "prompt": prompt, **body})


def made(caller: Caller, prompt: str = "", **body: Any) -> str:
    """The id of a task that ends at once."""
    response = asked(caller, f"a fox sandbox-task: 0 {prompt}", **body)
    assert 200 == response.status_code, response.text[:300]
    return str(response.json()["id"])


def polled(caller: Caller, task: str, path: str = GENERATIONS) -> dict[str, Any]:
    """The answer to a poll that went well."""
    response = caller.http.get(f"{path}/{task}")
    assert 200 == response.status_code, response.text[:300]
    value: dict[str, Any] = response.json()
    return value


def content(caller: Caller, task: str, **headers: str) -> httpx.Response:
    """A download."""
    return caller.http.get(
        f"{VIDEOS}/{task}/content", headers={name.replace("_", "-"): headers[name] for name in headers}
    )


@both
def test_create_answers_a_video_object(caller: Caller, path: str) -> None:
    """Both paths answer OpenAI's object with one id in two places; the log has the task and its cost."""
    answer = asked(caller, path=path, seconds="4", size="720x1280").json()
    assert {"object": "video", "model": SEEDANCE, "status": "queued", "progress": 0} == {
        name: answer[name] for name in ("object", "model", "status", "progress")
    }
    assert answer["id"] == answer["task_id"] != asked(caller, path=path).json()["id"]
    assert ("4", "720x1280") == (answer["seconds"], answer["size"])
    record = caller.log()[0]
    assert ([answer["id"]], 4, SEEDANCE) == (record["created"], record["seconds"], record["model"])
    assert 4 * 720 * 1280 * 24 // 1024 == record["tokens"]["output"] == record["tokens"]["total"]
    assert None is record["usage"]


def test_a_task_goes_through_its_states() -> None:
    """Its state follows from the time that has passed since it was made."""
    task = Task(
        id="task_1",
        model=SEEDANCE,
        prompt="",
        seconds=5,
        size=(1280, 720),
        resolution="720p",
        created=1000,
        takes=100,
        marks={},
    )
    states = [task.state(1000 + seconds) for seconds in (0, 4, 7, 10, 99.9, 100, 5000)]
    assert ["NOT_START", "SUBMITTED", "QUEUED", "IN_PROGRESS", "IN_PROGRESS", "SUCCESS", "SUCCESS"] == states
    assert [0, 42, 100] == [task.progress(1000 + seconds) for seconds in (0, 42, 200)]


def test_each_path_has_its_words(caller: Caller) -> None:
    """One task in both vocabularies: never backwards, and at its end with an address."""
    task = asked(caller, "sandbox-task: 0.3").json()["id"]
    words = {"NOT_START": "queued", "SUBMITTED": "queued", "QUEUED": "queued", "IN_PROGRESS": "in_progress"}
    states: list[str] = []
    while "SUCCESS" not in states:
        video, data = polled(caller, task, VIDEOS), polled(caller, task)["data"]
        states.append(data["status"])
        assert bool(data["result_url"]) is (data["status"] == "SUCCESS")
        assert int(data["progress"].removesuffix("%")) >= video["progress"]
        assert video["status"] in {"queued", "in_progress", words.get(data["status"], "completed")}
    assert states == sorted(states, key=[*words, "SUCCESS"].index)
    video = polled(caller, task, VIDEOS)
    assert ("completed", 100, data["result_url"]) == (video["status"], video["progress"], video["metadata"]["url"])


def test_usage_and_quota_stand_in_the_last_poll(caller: Caller) -> None:
    """Seedance is sold by tokens, which the maker's part of a poll has; a clip that is put in doubles them."""
    text = {"type": "text", "text": "sandbox-task: 0"}
    body = {"model": SEEDANCE, "content": [text, {"type": "video_url"}], "resolution": "480p", "duration": 5}
    task = caller.http.post(GENERATIONS, json=body).json()["id"]
    data = polled(caller, task)["data"]
    assert 2 * 48_600 == data["data"]["usage"]["total_tokens"] == caller.log()[0]["tokens"]["total"]
    assert (48_600, "100%", "succeeded") == (data["quota"], data["progress"], data["data"]["status"])
    assert polled(caller, task, VIDEOS)["usage"] == data["data"]["usage"] == caller.log()[1]["usage"]
    assert (task, None) == (caller.log()[1]["task"], caller.log()[1]["tokens"])


@pytest.mark.parametrize(
    ("model", "body", "seconds", "size"),
    [
        (SEEDANCE, {"prompt": "x --dur 7"}, 7, "1280x720"),
        (SEEDANCE, {"prompt": "x", "metadata": {"duration": 8, "resolution": "1080p"}}, 8, "1920x1080"),
        (SEEDANCE, {"prompt": "x", "metadata": '{"duration": "8"}'}, 8, "1280x720"),
        (
            "happyhorse-1.0-t2v",
            {"input": {"prompt": "x"}, "parameters": {"duration": 6, "resolution": "480P"}},
            6,
            "864x480",
        ),
        ("happyhorse-1.0-t2v", {"input": {"prompt": "x"}}, 5, "1280x720"),
        ("MiniMax-Hailuo-2.3", {"prompt": "x", "resolution": "768P"}, 6, "1366x768"),
        ("sora-2", {"prompt": "x", "size": "1024*1792"}, 4, "1024x1792"),
    ],
)
def test_lengths_and_sizes_are_read_from_every_body(
    caller: Caller, model: str, body: dict[str, Any], seconds: float, size: str
) -> None:
    """Bodies of new-api, Ark and DashScope; where they say nothing, each maker's usual length."""
    answer = caller.http.post(GENERATIONS, json={"model": model, **body}).json()
    assert (f"{seconds}", size) == (answer["seconds"], answer["size"])
    record = caller.log()[0]
    assert (seconds, model == SEEDANCE) == (record["seconds"], record["tokens"] is not None)


@pytest.mark.parametrize(
    ("model", "where"), [(SEEDANCE, "content"), ("happyhorse-1.0-t2v", "output"), ("MiniMax-Hailuo-02", "file_id")]
)
def test_each_maker_has_its_words(caller: Caller, model: str, where: str) -> None:
    """The maker's own part of a poll; the result is at an address that needs no key."""
    data = polled(caller, made(caller, model=model))["data"]
    assert where in data["data"]
    video = httpx.get(data["result_url"], trust_env=False)
    assert ("video/mp4", b"ftyp") == (video.headers["content-type"], video.content[4:8])


def test_results_of_sora_need_the_key(caller: Caller) -> None:
    """Its address is the vendor's own download."""
    url = polled(caller, made(caller, model="sora-2", path=VIDEOS), VIDEOS)["metadata"]["url"]
    assert 401 == httpx.get(url, trust_env=False).status_code
    assert 200 == caller.http.get(url).status_code


def test_create_by_form(caller: Caller) -> None:
    """OpenAI's SDK sends a form, with a picture or without."""
    form = {"model": "sora-2", "prompt": "a fox sandbox-task: 0", "seconds": "8"}
    answer = caller.http.post(VIDEOS, data=form, files={"input_reference": ("a.png", b"\x89PNG")}).json()
    assert ("8", "completed") == (answer["seconds"], polled(caller, answer["id"], VIDEOS)["status"])


@both
@pytest.mark.parametrize(
    "body",
    [
        {"prompt": ""},
        {"seconds": 4},
        {"duration": 61},
        {"duration": "long"},
        {"resolution": "9p"},
        {"metadata": "{"},
        {"model": "gpt-5"},
    ],
)
def test_requests_that_mean_nothing_are_refused(caller: Caller, path: str, body: dict[str, Any]) -> None:
    """A 400 in the shape of tasks, and no task."""
    response = asked(caller, path=path, **body)
    assert (400, "invalid_request", None) == (response.status_code, response.json()["code"], response.json()["data"])
    assert ([], 0.0) == (caller.log()[0]["created"], caller.log()[0]["seconds"])


@both
def test_refusals_from_before_the_relay(caller: Caller, path: str) -> None:
    """No key, and no channel for the model, are in OpenAI's shape."""
    assert 401 == caller.http.post(path, json={}, headers={"authorization": "Bearer x"}).status_code
    assert "model_not_found" == asked(caller, path=path, model="llama-9").json()["error"]["code"]


def test_ids_that_nobody_knows(caller: Caller) -> None:
    """Polls and remixes are 400 `task_not_exist` in the shape of tasks, downloads 404 in OpenAI's."""
    for response in (
        caller.http.get(f"{GENERATIONS}/task_none"),
        caller.http.get(f"{VIDEOS}/task_none"),
        caller.http.post(f"{VIDEOS}/task_none/remix", json={"prompt": "x"}),
    ):
        assert (400, "task_not_exist") == (response.status_code, response.json()["code"])
    missing = content(caller, "task_none")
    assert (404, "invalid_request_error") == (missing.status_code, missing.json()["error"]["type"])


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", VIDEOS),
        ("GET", GENERATIONS),
        ("DELETE", f"{VIDEOS}/x"),
        ("HEAD", f"{VIDEOS}/x"),
        ("GET", f"{VIDEOS}/x/remix"),
        ("GET", f"{VIDEOS}/x/other"),
        ("GET", f"{GENERATIONS}/x/content"),
    ],
)
def test_routes_that_do_not_exist(caller: Caller, method: str, path: str) -> None:
    """There is no list and no deletion, and only /v1/videos has downloads."""
    assert 404 == caller.http.request(method, path).status_code


def test_a_task_that_fails(caller: Caller) -> None:
    """It ends in FAILURE with a reason, is given back, and cannot be downloaded."""
    task = made(caller, "sandbox-fault: taskfails")
    data = polled(caller, task)["data"]
    assert ("FAILURE", 0, "") == (data["status"], data["quota"], data["result_url"])
    assert "told to fail" in data["fail_reason"]
    assert "usage" not in data["data"]
    video = polled(caller, task, VIDEOS)
    assert ("failed", "task_failed") == (video["status"], video["error"]["code"])
    assert 400 == content(caller, task).status_code
    assert 0 == caller.log()[0]["tokens"]["total"]


def test_a_remix_is_a_task_of_its_own(caller: Caller) -> None:
    """With the length and size of the first, a new id, and the old one beside it."""
    first = made(caller, seconds="4")
    answer = caller.http.post(f"{VIDEOS}/{first}/remix", json={"prompt": "again sandbox-task: 0"}).json()
    assert (first, "4", True) == (answer["remixed_from_video_id"], answer["seconds"], answer["id"] != first)
    assert "completed" == polled(caller, answer["id"], VIDEOS)["status"]
    assert content(caller, first).content != content(caller, answer["id"]).content
    assert ([answer["id"]], SEEDANCE) == (caller.log()[1]["created"], caller.log()[1]["model"])
    assert 400 == caller.http.post(f"{VIDEOS}/{first}/remix", json={}).status_code


def test_a_download_is_a_video_of_that_task(caller: Caller) -> None:
    """An MP4 that names its task, with a length and an ETag; HEAD gives the same head and no body."""
    task = made(caller)
    response = content(caller, task)
    assert ("video/mp4", str(len(response.content))) == (
        response.headers["content-type"],
        response.headers["content-length"],
    )
    assert (b"ftyp", True) == (response.content[4:8], task.encode() in response.content)
    head = caller.http.head(f"{VIDEOS}/{task}/content")
    names = ("content-length", "etag", "last-modified", "accept-ranges", "cache-control", "content-type")
    assert [response.headers[name] for name in names] == [head.headers[name] for name in names]
    assert b"" == head.content
    assert content(caller, made(caller)).content != response.content


def test_no_download_before_the_end(caller: Caller) -> None:
    """A 400 that says how far it is."""
    response = content(caller, asked(caller, "sandbox-task: 60").json()["id"])
    assert (400, True) == (response.status_code, "not completed yet" in response.json()["error"]["message"])


@pytest.mark.parametrize(
    ("asked_for", "span"),
    [("bytes=0-9", (0, 10)), ("bytes=100-", (100, None)), ("bytes=-7", (-7, None)), ("bytes=5-999999999", (5, None))],
)
def test_a_part_of_a_download(caller: Caller, asked_for: str, span: tuple[int, int | None]) -> None:
    """206 with exactly the bytes asked for, and where they stand."""
    task = made(caller)
    whole = content(caller, task).content
    response = content(caller, task, range=asked_for)
    assert (206, whole[slice(*span)]) == (response.status_code, response.content)
    start = span[0] % len(whole)
    end = start + len(response.content) - 1
    assert f"bytes {start}-{end}/{len(whole)}" == response.headers["content-range"]


def test_ranges_that_cannot_be_met(caller: Caller) -> None:
    """416 behind the end; what is no range, or is conditional on another ETag, gives the whole."""
    task = made(caller)
    length = len(content(caller, task).content)
    for beyond in (f"bytes={length}-", "bytes=-0"):
        response = content(caller, task, range=beyond)
        assert (416, f"bytes */{length}", b"") == (
            response.status_code,
            response.headers["content-range"],
            response.content,
        )
    for odd in ("bytes=9-1", "bytes=-", "bytes=0-1,3-4", "lines=1-2"):
        assert (200, length) == ((whole := content(caller, task, range=odd)).status_code, len(whole.content))
    assert 200 == content(caller, task, range="bytes=0-1", if_range='"other"').status_code
    assert 206 == content(caller, task, range="bytes=0-1", if_range=whole.headers["etag"]).status_code


def test_what_the_caller_has_is_not_sent_again(caller: Caller) -> None:
    """304 for the same ETag, weak or among others, and no body."""
    task = made(caller)
    tag = content(caller, task).headers["etag"]
    for condition in (tag, f"W/{tag}", f'"x", {tag}'):
        assert (304, b"") == ((same := content(caller, task, if_none_match=condition)).status_code, same.content)
    assert 200 == content(caller, task, if_none_match='"x"').status_code


def test_a_download_of_a_size(caller: Caller) -> None:
    """`sandbox-size`: a valid MP4 of exactly so many bytes, padded in a box that players skip; parts of it too."""
    task = made(caller, "sandbox-size: 5000000")
    data = content(caller, task).content
    assert 5_000_000 == len(data)
    assert hashlib.sha256(data).hexdigest() == caller.log()[-1]["answer_sha256"]
    at, kinds = 0, []
    while at < len(data):
        size, kind = int.from_bytes(data[at : at + 4]), data[at + 4 : at + 8]
        kinds.append(kind)
        at += size
    assert (len(data), [b"free", b"free"]) == (at, kinds[-2:])
    assert data[1_999_000:3_000_500] == content(caller, task, range="bytes=1999000-3000499").content
    assert len(content(caller, made(caller, "sandbox-size: 9")).content) > 40_000
    assert 400 == asked(caller, "sandbox-size: 9999999999").status_code


def test_a_download_takes_its_time(caller: Caller) -> None:
    """The vendor's limit on downloads, here a tenth of a second: the body ends too early, and never cleanly."""
    task = made(caller, "sandbox-gap: 0.5 sandbox-content-fault: cutafter=0.1")
    with pytest.raises(httpx.RemoteProtocolError, match="without sending complete"):
        content(caller, task)
    record = caller.log()[-1]
    assert (200, False) == (record["status"], record["whole"])
    assert 0 < record["answer_bytes"] < 40_000


def test_a_hang_up_in_a_long_download_is_noticed(caller: Caller) -> None:
    """D5: a caller that leaves in the middle of many megabytes is noted, and nothing more is sent."""
    task = made(caller, "sandbox-size: 200000000")
    with caller.http.stream("GET", f"{VIDEOS}/{task}/content") as response:
        next(response.iter_raw())
    record = wait_until(lambda: (last := caller.log()[-1])["end"] and last, 5, tell=caller.log)
    assert ("cancelled", True) == (record["end"], record["answer_bytes"] < 200_000_000)


def test_faults_of_polls_and_downloads(caller: Caller) -> None:
    """They have no body, so that the request for the video asks for their faults; each task counts its own."""
    spec = "sandbox-poll-fault: 503*2 sandbox-content-fault: norange"
    task, other = made(caller, spec), made(caller, spec)
    assert [503, 503, 200] == [caller.http.get(f"{GENERATIONS}/{task}").status_code for _ in range(3)]
    assert 503 == caller.http.get(f"{VIDEOS}/{other}").status_code
    assert (200, True) == ((whole := content(caller, task, range="bytes=0-9")).status_code, len(whole.content) > 40_000)
    assert 429 == content(caller, made(caller, "sandbox-content-fault: 429")).status_code


def test_lies_of_polls(caller: Caller) -> None:
    """No usage, or more than true, in what a poll reports; the request for the video has the truth."""
    silent = polled(caller, made(caller, "sandbox-poll-fault: nousage"))["data"]["data"]
    assert "usage" not in silent
    more = polled(caller, made(caller, "sandbox-poll-fault: moretokens=5"))["data"]["data"]["usage"]["total_tokens"]
    assert 108_005 == more == caller.log()[2]["tokens"]["total"] + 5


def test_a_task_whose_id_is_lost(caller: Caller) -> None:
    """The answer has no id at all; the task exists, and the log knows it."""
    answer = asked(caller, "sandbox-task: 0 sandbox-fault: lostid").json()
    assert ("queued", set()) == (answer["status"], {"id", "task_id"} & answer.keys())
    (task,) = caller.log()[0]["created"]
    assert "SUCCESS" == polled(caller, task)["data"]["status"]


def test_a_task_with_two_ids(caller: Caller) -> None:
    """`id` and `task_id` differ, and either leads to the same task."""
    answer = asked(caller, "sandbox-task: 0 sandbox-fault: secondid").json()
    assert answer["id"] != answer["task_id"]
    assert {answer["id"]} == {polled(caller, answer[name])["data"]["task_id"] for name in ("id", "task_id")}
    assert [answer["id"]] == caller.log()[0]["created"]


def test_a_request_that_makes_two_tasks(caller: Caller) -> None:
    """As where the relay tries another channel: the answer names the second, both are charged."""
    answer = asked(caller, "sandbox-task: 0 sandbox-fault: twotasks").json()
    first, second = caller.log()[0]["created"]
    assert (second, 2 * 108_000) == (answer["id"], caller.log()[0]["tokens"]["total"])
    assert ["SUCCESS", "SUCCESS"] == [polled(caller, task)["data"]["status"] for task in (first, second)]


@both
def test_errors_are_in_the_shape_of_tasks(caller: Caller, path: str) -> None:
    """Any status, with its code; a 429 says the same whatever it was for; then nothing was made."""
    response = asked(caller, "sandbox-fault: 500", path=path)
    assert (500, {"code", "message", "data"}) == (response.status_code, set(response.json()))
    busy = asked(caller, "sandbox-fault: 429=3", path=path)
    assert (429, "3", False) == (busy.status_code, busy.headers["retry-after"], "request id" in busy.json()["message"])
    assert [[], []] == [record["created"] for record in caller.log()]


def test_a_create_whose_answer_is_lost_has_made_a_task(caller: Caller) -> None:
    """Cut before the head: the caller knows nothing, the log knows the task."""
    with pytest.raises(httpx.RemoteProtocolError):
        asked(caller, "sandbox-fault: cutstart")
    assert 1 == len(caller.log()[0]["created"])
