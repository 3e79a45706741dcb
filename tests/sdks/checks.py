"""What must hold for every SDK, whichever API it speaks."""

from tests.sdks.driving import Seen

SUNNY = "The tool said “sunny”."
STATUSES = {
    "wrong_key": (401, "AuthenticationError"),
    "not_allowed": (403, "PermissionDeniedError"),
    "spent": (429, "RateLimitError"),
    "busy": (503, "InternalServerError"),
}


def check_answers(seen: Seen, whole: str, streamed: str) -> None:
    """A whole answer and a stream say the same, in several pieces, and both say what was used."""
    assert "Hello from the sandbox!" in seen[whole]["text"]
    assert seen[whole]["text"] == seen[streamed]["text"]
    assert seen[streamed]["pieces"] > 2


def check_tools(seen: Seen, case: str) -> None:
    """The tool's name and arguments arrive; its result is read in the next turn."""
    assert "weather" == seen[case]["tool"]
    assert "weather?" in str(seen[case]["arguments"])
    assert SUNNY in seen[case]["text"]


def check_picture(seen: Seen, case: str) -> None:
    """A picture arrives as one."""
    assert "I also got 1 picture." in seen[case]["text"]


def check_errors(seen: Seen, *cases: str) -> None:
    """Each error is of the class that the vendor documents for its status."""
    for case in cases:
        status, kind = STATUSES[case]
        assert status == seen[case]["status_code"], (case, seen[case])
        assert kind in seen[case]["classes"], (case, seen[case])


def check_waiting(seen: Seen) -> None:
    """A limit is an error with the seconds to wait, and the SDK's own next try, as late as told, is answered."""
    error = seen["limited"]["error"]
    assert 429 == error["status_code"]
    assert 1 <= int(error["retry_after"]) <= 4
    assert "Hello from the sandbox!" in seen["limited"]["text"]
    assert [(200, None), *[(429, "RATE_LIMITED")] * 2, (200, None)] == seen.tries("limited")


def check_request_ids(seen: Seen, *cases: str) -> None:
    """The id that the SDK shows is the one in the gateway's log."""
    logged = {line["request_id"] for line in seen.lines}
    for case in cases:
        assert seen[case]["request_id"] in logged, (case, seen[case])


def check_cut(seen: Seen, *cases: str) -> None:
    """What came of a stream that breaks off ends with an error, never as if it were whole."""
    for case in cases:
        assert seen[case]["error"] is not None, (case, seen[case])
    assert {"UPSTREAM_BROKE"} == {reason for _, reason in seen.tries("cut")}
