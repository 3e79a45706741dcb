"""Which loads are there?"""

import base64
import json
import secrets
from dataclasses import dataclass

TEXT = json.dumps({"contents": [{"role": "user", "parts": [{"text": "Describe a lighthouse at dusk, please. " * 2}]}]})
PICTURE = base64.b64encode(secrets.token_bytes(2_000_000)).decode()
EDIT = json.dumps(
    {"contents": [{"parts": [{"text": "Make it blue"}, {"inlineData": {"mimeType": "image/png", "data": PICTURE}}]}]}
)
PRIVATE = 'cache = "private"'
NEVER_AGAIN = 10**9
EVENTS = 50  # of one stream
EVENT_SECONDS = 0.01  # between two of them


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One kind of load."""

    name: str
    at_once: int
    model: str = "gemini-2.5-flash"
    method: str = "generateContent"
    body: str = TEXT
    kinds: int = 1  # how many calls that differ, in turn
    events: int = 1  # of one answer
    terms: str = ""  # further lines of the client

    @property
    def path(self) -> str:
        return f"/v1beta/models/{self.model}:{self.method}"


STREAM, IMAGE_MODEL = "streamGenerateContent?alt=sse", "gemini-2.5-flash-image"
CASES = (
    Case(name="text-c1", at_once=1),
    Case(name="text-c32", at_once=32),
    Case(name="image-c8", at_once=8, model=IMAGE_MODEL),
    Case(name="edit-c8", at_once=8, model=IMAGE_MODEL, body=EDIT),
    Case(name="sse-c64", at_once=64, method=STREAM, events=EVENTS),
    Case(name="text-c32-miss", at_once=32, kinds=NEVER_AGAIN, terms=PRIVATE),
    Case(name="text-c32-hit", at_once=32, kinds=256, terms=PRIVATE),
    Case(name="image-c8-hit", at_once=8, model=IMAGE_MODEL, kinds=16, terms=PRIVATE),
)
