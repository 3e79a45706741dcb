"""What can be asked about tasks that make videos?"""

from gateway.call import Operation
from gateway.dialects.openai.operations import DASHSCOPE_EVENTS

READ = ("GET", "HEAD")
CROSS = frozenset({b"openai-beta", b"idempotency-key"})
FILE = frozenset({
    "content-length", "content-range", "accept-ranges", "etag", "last-modified", "content-disposition",
})  # fmt: skip

# The metrics label is the same whatever the path: either path asks for any task.
GENERATE = Operation(
    name="videoCreate",
    http=("POST",),
    bills="task",
    repeatable=False,
    task="creates",
    upstream_headers=frozenset({b"idempotency-key", DASHSCOPE_EVENTS}),
)
CREATE = Operation(
    name="videoCreate",
    http=("POST",),
    takes="either",
    bills="task",
    repeatable=False,
    task="creates",
    upstream_headers=CROSS,
)
REMIX = Operation(
    name="videoCreate", http=("POST",), bills="task", repeatable=False, task="creates", upstream_headers=CROSS
)
POLL = Operation(name="videoPoll", http=READ, takes="nothing", task="reads")
CONTENT = Operation(
    name="videoContent",
    http=READ,
    takes="nothing",
    task="reads",
    download=True,
    upstream_headers=frozenset({b"range", b"if-range"}),
    answer_headers=FILE,
)
# Without ranges, which are for GET: RFC 9110, section 14.2.
CONTENT_HEAD = Operation(
    name="videoContent", http=READ, takes="nothing", task="reads", download=True, answer_headers=FILE
)
