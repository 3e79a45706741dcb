"""Which loads are there?"""

import base64
import json
import secrets
from dataclasses import dataclass

ASKED = "Describe a lighthouse at dusk, please. " * 2
CHAT = {"model": "gpt-5-mini", "messages": [{"role": "user", "content": ASKED}]}
MESSAGE = {"model": "claude-sonnet-4-5", "max_tokens": 1024, "messages": [{"role": "user", "content": ASKED}]}
PICTURE = base64.b64encode(secrets.token_bytes(2_000_000)).decode()
TEXT = json.dumps({"contents": [{"role": "user", "parts": [{"text": ASKED}]}]})
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
    route: str = ""  # where it is not one of Google's
    body: str = TEXT
    kinds: int = 1  # how many calls that differ, in turn
    events: int = 1  # of one answer
    terms: str = ""  # further lines of the client

    @property
    def path(self) -> str:
        return self.route or f"/v1beta/models/{self.model}:{self.method}"


CHAT_ROUTE, MESSAGES_ROUTE, STREAMED = "/v1/chat/completions", "/v1/messages", {"stream": True}
STREAM, IMAGE_MODEL = "streamGenerateContent?alt=sse", "gemini-2.5-flash-image"
CASES = (
    Case(name="text-c1", at_once=1),
    Case(name="text-c32", at_once=32),
    Case(name="image-c8", at_once=8, model=IMAGE_MODEL),
    Case(name="edit-c8", at_once=8, model=IMAGE_MODEL, body=EDIT),
    Case(name="sse-c64", at_once=64, method=STREAM, events=EVENTS),
    Case(name="chat-c32", at_once=32, route=CHAT_ROUTE, body=json.dumps(CHAT)),
    Case(name="messages-c32", at_once=32, route=MESSAGES_ROUTE, body=json.dumps(MESSAGE)),
    Case(name="chat-sse-c64", at_once=64, route=CHAT_ROUTE, body=json.dumps(CHAT | STREAMED), events=EVENTS),
    Case(name="messages-sse-c64", at_once=64, route=MESSAGES_ROUTE, body=json.dumps(MESSAGE | STREAMED), events=EVENTS),
    Case(name="text-c32-miss", at_once=32, kinds=NEVER_AGAIN, terms=PRIVATE),
    Case(name="text-c32-hit", at_once=32, kinds=256, terms=PRIVATE),
    Case(name="image-c8-hit", at_once=8, model=IMAGE_MODEL, kinds=16, terms=PRIVATE),
)
