"""Is the log an oracle: does it say what was received, what was sent, and how it ended?"""

import contextlib
import hashlib
import json
import socket
import subprocess
import sys
import time
from typing import Any

import httpx
import pytest

from tests.support.waiting import wait_until

from .conftest import KEY, Caller

PATH = "/v1beta/models/gemini-2.5-flash"


def raw_call(address: tuple[str, int], path: str, body: bytes) -> socket.socket:
    """Send a call by hand, so that the caller can hang up when it likes."""
    connection = socket.create_connection(address, timeout=20)
    head = f"POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\ncontent-length: {len(body)}\r\n\r\n"
    connection.sendall(head.encode() + body)
    return connection


def received(caller: Caller) -> dict[str, Any] | None:
    """The one record, once the call's body has come."""
    records = caller.log()
    return records[0] if records and records[0]["body_bytes"] else None


def test_record_joins_with_what_the_caller_has(caller: Caller) -> None:
    """A4, A10: the record has the caller's request id, both bodies' hashes, the usage sent, and no key."""
    body = json.dumps({"contents": [{"parts": [{"text": "hash me"}]}]}).encode()
    headers = [(b"x-request-id", b"r-1"), (b"x-odd", "Ä".encode("latin-1"))]
    answer = caller.http.post(f"{PATH}:generateContent?a=%2F", content=body, headers=headers)
    record = caller.ended()
    assert (answer.json()["responseId"], "r-1") == (record["nonce"], record["request_id"])
    assert ("POST", f"{PATH}:generateContent", "a=%2F") == (record["method"], record["path"], record["query"])
    assert (len(body), hashlib.sha256(body).hexdigest()) == (record["body_bytes"], record["body_sha256"])
    assert len(answer.content) == record["answer_bytes"]
    assert hashlib.sha256(answer.content).hexdigest() == record["answer_sha256"]
    assert answer.json()["usageMetadata"] == record["usage"]
    assert (200, "complete") == (record["status"], record["end"])
    assert record["started"] <= record["ended"] <= time.time()
    assert ["x-odd", "Ä"] in record["headers"]
    assert ["authorization", hashlib.sha256(f"Bearer {KEY}".encode()).hexdigest()] in record["headers"]
    assert KEY not in json.dumps(record)


def test_log_keeps_order_and_forgets_on_request(caller: Caller) -> None:
    """Refused calls are in the log too, the log's own routes are not, and DELETE empties it."""
    caller.call("one")
    caller.http.get("/nowhere")
    assert [200, 404] == [record["status"] for record in caller.log()]
    assert [] == caller.http.delete("/sandbox/log").json() == caller.log()


def test_a_stream_is_noted_whole(caller: Caller) -> None:
    """A4: the usage of a stream is that of its last event."""
    answer = caller.call("stream", method="streamGenerateContent?alt=sse")
    record = caller.ended()
    assert hashlib.sha256(answer.content).hexdigest() == record["answer_sha256"]
    assert json.loads(answer.text.strip().split("\n\n")[-1].removeprefix("data: "))["usageMetadata"] == record["usage"]


@pytest.mark.parametrize(
    ("method", "marker"),
    [
        ("streamGenerateContent?alt=sse", "sandbox-gap: 5"),
        ("generateContent", "sandbox-fault: hang"),
        ("generateContent", "sandbox-fault: slow=30"),
        ("generateContent", "sandbox-fault: drip=30"),
        ("streamGenerateContent", "sandbox-fault: hang"),
    ],
)
def test_a_hang_up_is_noticed_at_once(caller: Caller, address: tuple[str, int], method: str, marker: str) -> None:
    """D4, D5: a caller that leaves is noted within 20 ms (50 on a busy machine), though nothing is being sent."""
    body = json.dumps({"contents": [{"parts": [{"text": marker}]}]}).encode()
    with raw_call(address, f"{PATH}:{method}", body):
        assert None is wait_until(lambda: received(caller))["end"], "a call in flight is in the log, not ended"
        left = time.time()
    record = caller.ended()
    assert "cancelled" == record["end"]
    assert record["ended"] - left < 0.05


def test_a_hang_up_while_drawing_or_sending_is_noticed(caller: Caller, address: tuple[str, int]) -> None:
    """D5: neither a picture being made nor a reader that stopped in the middle of megabytes keeps a call alive."""
    path = "/v1beta/models/gemini-2.5-flash-image:generateContent"
    body = json.dumps({"contents": [{"parts": [{"text": "sandbox-size: 20000000"}]}]}).encode()
    for read_first in (0, 100_000):
        caller.http.delete("/sandbox/log")
        with raw_call(address, path, body) as connection:
            wait_until(lambda: received(caller))
            if read_first:
                connection.recv(read_first)
        record = caller.ended()
        assert "cancelled" == record["end"]
        assert record["answer_bytes"] < 20_000_000


def test_an_upload_that_breaks_off_is_cancelled(caller: Caller, address: tuple[str, int]) -> None:
    """D4: a request that never came whole is noted, and answered by nothing."""
    with socket.create_connection(address, timeout=5) as connection:
        connection.sendall(f"POST {PATH}:generateContent HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n{{".encode())
        wait_until(caller.log)
    record = caller.ended()
    assert ("cancelled", 0, 0) == (record["end"], record["status"], record["body_bytes"])


def test_without_faults_markers_are_just_words() -> None:
    """A sandbox started without faults never misbehaves, whatever a request says."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        code = f"from gateway.sandbox.app import run; run({KEY!r}, fd={listener.fileno()})"
        url = f"http://127.0.0.1:{listener.getsockname()[1]}{PATH}:generateContent"
        headers = {"authorization": f"Bearer {KEY}", "x-sandbox-fault": "503"}
        with subprocess.Popen([sys.executable, "-c", code], pass_fds=[listener.fileno()]) as process:
            with contextlib.ExitStack() as stack:
                stack.callback(process.terminate)
                body = {"contents": [{"parts": [{"text": "sandbox-fault: 503"}]}]}
                response = httpx.post(url, json=body, headers=headers, timeout=10, trust_env=False)
            process.wait(10)
    assert 200 == response.status_code
