"""Which misbehaviour was asked for, and is it due?

Asked for by `x-sandbox-fault: SPEC` or by `sandbox-fault: SPEC` anywhere in the request body.  SPEC is
`NAME[=ARGUMENT][*TIMES]`; with TIMES only the first so many calls with the same path and body misbehave.  Polls and
downloads of a video do what `sandbox-poll-fault: SPEC` and `sandbox-content-fault: SPEC` asked for when it was created.
The names, on every route unless it is said otherwise:

* `429`, `503`, `529` or any other status in the shape of the route, the argument being `Retry-After`;
  `google=STATUS[/SECONDS]`, `openai=`, `anthropic=`, `task=` in that shape; `quota`, `key`, `echokey`, `invalidurl`,
  `error200`, `redirect`, `html`, `html200`, `empty`: another answer altogether
* `blocked`, `safety`, `link`, `nousage`, `toolong=BYTES`: an answer with unusual content; not on Gemini's routes
  `nofinish`, `othermodel[=NAME]`, `moretokens[=N]`, `beside`; pictures `onefails[=NUMBER]`; transcripts `byduration`
* `badjson`, `twice[=STATUS]`, `gzip`, `bomb`: an answer that does not match its head
* `slow=SECONDS`, `drip=SECONDS`, `hang`, `cut`, `cutstart`, `cutafter=SECONDS`: an answer that comes late, slowly, not,
  or in part
* `sse`, `json`: a stream for a call that did not ask for one, and the reverse
* `crlf`, `ping`, `nonewline`, `oddfields`, `noevents`: streams as other relays frame them
* `streamerror`, `bareerror`, `earlyping`, `earlyerror`, `cutend`, `cutdone`, `nolast`, `late[=SECONDS]`,
  `silence[=SECONDS]`: streams that fail, or fall silent
* `usageall` (chat, completions, pictures), `holes`, `unclosed` (messages), `failed` (responses): streams of one dialect
* `taskfails`, `twotasks`, `secondid`, `lostid` (create, remix), `norange` (content): videos

`docs/sandbox.md` says of each what it does.
"""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from gateway.sandbox import gemini_twists, lies, stream_twists, twists
from gateway.sandbox.audio import lies as audio_lies
from gateway.sandbox.audio.transcript import Transcript
from gateway.sandbox.images import lies as image_lies
from gateway.sandbox.images.gallery import Gallery
from gateway.sandbox.log import Record
from gateway.sandbox.turn import Turn
from gateway.sandbox.videos import report
from gateway.sandbox.videos.report import Report
from gateway.sandbox.wire import Answer, Event, Frame

_SPEC = re.compile(r"(?P<name>[a-z0-9]+)(?:=(?P<argument>[^*\s]+))?(?:\*(?P<times>[0-9]+))?")
_STATUS = re.compile(r"[2-5][0-9]{2}")
_MOST_COUNTED = 20_000
NAMES = frozenset(
    {
        "sse",
        "json",
        *gemini_twists.EVENTS,
        "onefails",
        "taskfails",
        "twotasks",
        "secondid",
        "lostid",
        "norange",
        *report.LIES,
        *lies.TURNS,
        *image_lies.GALLERIES,
        *audio_lies.TRANSCRIPTS,
        *twists.ANSWERS,
        *stream_twists.STREAMS,
        *stream_twists.FRAMES,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One misbehaviour.  Each way to misbehave has its method; those that the fault has not change nothing."""

    name: str
    argument: str

    def streams(self, *, asked: bool) -> bool:
        """Whether the answer is server-sent events, where that was asked for or not."""
        return self.name != "json" if asked else self.name == "sse"

    @property
    def forces_sse(self) -> bool:
        """Whether a stream of Gemini's is server-sent events even without `alt=sse`."""
        return self.name == "sse" or self.name in stream_twists.STREAMS

    def change_events(self, events: list[Event]) -> list[Event]:
        """The events of an answer on Gemini's routes, changed.  `ValueError` when the argument is no number."""
        twist = gemini_twists.EVENTS.get(self.name)
        return twist(events, self.argument) if twist else events

    def change_turn(self, turn: Turn) -> Turn:
        """What is said on the text routes, changed.  `ValueError` as above."""
        lie = lies.TURNS.get(self.name)
        return lie(turn, self.argument) if lie else turn

    def change_gallery(self, gallery: Gallery) -> Gallery:
        """The pictures of an answer, changed.  `ValueError` as above."""
        lie = image_lies.GALLERIES.get(self.name)
        return lie(gallery, self.argument) if lie else gallery

    def change_transcript(self, transcript: Transcript) -> Transcript:
        """What was heard, changed.  `ValueError` as above."""
        lie = audio_lies.TRANSCRIPTS.get(self.name)
        return lie(transcript, self.argument) if lie else transcript

    def change_report(self, told: Report) -> Report:
        """What a poll says, changed.  `ValueError` as above."""
        lie = report.LIES.get(self.name)
        return lie(told, self.argument) if lie else told

    def change_frames(self, frames: list[Frame]) -> list[Frame]:
        """The events of a stream on the text routes, changed."""
        twist = stream_twists.FRAMES.get(self.name)
        return twist(frames) if twist else frames

    def change_answer(self, answer: Answer, record: Record) -> Answer:
        """The bytes of the answer, changed.  `ValueError` as above."""
        if _STATUS.fullmatch(self.name):
            return twists.status(int(self.name), self.argument, record)
        if self.name in stream_twists.STREAMS:
            return stream_twists.changed(self.name, answer, self.argument, record)
        twist = twists.ANSWERS.get(self.name)
        return twist(answer, self.argument, record) if twist else answer


class Faults:
    """Counts which calls have had their fault."""

    def __init__(self) -> None:
        self._had: Counter[tuple[str, str]] = Counter()

    def due(self, record: Record, markers: Mapping[str, str]) -> Fault | None:
        """The fault for this call.  `ValueError` when there is no such fault."""
        spec = record.header(b"x-sandbox-fault").decode("latin-1") or markers.get("fault")
        if not spec:
            return None
        match = _SPEC.fullmatch(spec)
        if not match or not (match["name"] in NAMES or _STATUS.fullmatch(match["name"])):
            raise ValueError(f"There is no sandbox fault {spec!r}.")
        if match["times"] and self._count(spec, f"{record.path} {record.body_sha256}") > int(match["times"]):
            return None
        return Fault(name=match["name"], argument=match["argument"] or "")

    def forget(self) -> None:
        """Count from the start."""
        self._had.clear()

    def _count(self, spec: str, call: str) -> int:
        if len(self._had) >= _MOST_COUNTED:
            self.forget()
        self._had[spec, call] += 1
        return self._had[spec, call]
