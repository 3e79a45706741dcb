"""Errors as OpenAI's Responses API writes them: plain ones as elsewhere, but in a stream as an event of its own."""

from typing import Any

import msgspec

from gateway.errors.openai import SERVER, OpenAIShape

_BODY = msgspec.json.Decoder(dict[str, dict[str, Any]])


class ResponsesShape(OpenAIShape):
    """OpenAI's shape, whose `ending` is the event `error`.

    Some clients read nothing but `type`, some `code` and `message`, and others the object `error`: each finds its own.
    The `sequence_number` is 0, since what came before is not known here; clients that read it require a number.
    """

    def ending(self, body: bytes) -> bytes:
        error = _error_of(body)
        code = error.get("code")
        said = {
            "type": "error",
            "sequence_number": 0,
            "code": code if code is None else str(code),
            "message": str(error.get("message", "")),
            "param": error.get("param"),
            "error": error,
        }
        return b"event: error\ndata: " + msgspec.json.encode(said) + b"\n\n"


def _error_of(body: bytes) -> dict[str, Any]:
    """The error object of a body; of one that cannot be read, that it is an error."""
    try:
        return _BODY.decode(body)["error"]
    except (msgspec.MsgspecError, KeyError):
        return {"message": "The stream ended with an error.", "type": SERVER, "param": None, "code": None}


RESPONSES = ResponsesShape()
