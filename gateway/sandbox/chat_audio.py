"""How is a spoken answer written in a chat completion?  Base64 of the sound beside its transcript."""

import base64

from gateway.sandbox import speech
from gateway.sandbox.replies import Reply, pieces
from gateway.sandbox.turn import Turn
from gateway.sandbox.wire import Event

_SLICE = speech.RATE  # bytes in one chunk of a stream: half a second
_KEPT = 3600  # seconds


def whole(reply: Reply, turn: Turn) -> Event:
    """`message.audio`."""
    return {**_end(turn), "data": _base64(reply.sound), "transcript": reply.text}


def deltas(reply: Reply, turn: Turn) -> list[Event]:
    """The deltas of a stream: transcript, sound, and until when it is kept."""
    end = _end(turn)
    said = [{"id": end["id"], "transcript": piece} for piece in pieces(reply.text)]
    slices = [reply.sound[at : at + _SLICE] for at in range(0, len(reply.sound), _SLICE)]
    heard = [{"id": end["id"], "data": _base64(each)} for each in slices]
    return [{"audio": each} for each in (*said, *heard, end)]


def _end(turn: Turn) -> Event:
    return {"id": f"audio_{turn.nonce}", "expires_at": turn.created + _KEPT}


def _base64(sound: bytes) -> str:
    return base64.b64encode(sound).decode()
