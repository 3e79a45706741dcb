"""How is sound written to a file?  WAV, FLAC and raw PCM are real; MP3 needs an encoder, so that it is silent."""

import io
import wave
from collections.abc import Callable, Mapping
from typing import NamedTuple

from gateway.sandbox.audio import flac
from gateway.sandbox.speech import RATE

_BYTES = 2  # of a sample
_FRAME = 576  # samples of one MP3 frame at 24 kHz
_SILENCE = b"\xff\xf3\x14\xc4" + bytes(20)  # such a frame (MPEG-2 layer III, 8 kbit/s, mono): nothing in it to be heard


class Sound(NamedTuple):
    """What is known of a sound."""

    seconds: float
    rate: int  # samples a second; 0: not known


class Format(NamedTuple):
    """One way to write PCM."""

    content_type: bytes
    write: Callable[[bytes, str], bytes]  # of the samples and the text that is spoken


def wav(pcm: bytes, _text: str = "") -> bytes:
    """A RIFF file."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(_BYTES)
        file.setframerate(RATE)
        file.writeframes(pcm)
    return buffer.getvalue()


def mp3(pcm: bytes, text: str) -> bytes:
    """Silence as long as the sound, with the text as its title."""
    return _title(text) + _SILENCE * -(-len(pcm) // _BYTES // _FRAME)


def measured(data: bytes) -> Sound:
    """How long a sound is: of WAV and FLAC exactly, of anything else by its size, 16 kB a second."""
    if data.startswith(b"fLaC"):
        return Sound(*flac.measured(data))
    try:
        with wave.open(io.BytesIO(data)) as file:
            rate = file.getframerate()
            return Sound(file.getnframes() / rate if rate else 0.0, rate)
    except (wave.Error, EOFError):
        return Sound(len(data) / 16_000, 0)


def _title(text: str) -> bytes:
    """An ID3v2.4 tag with a title; its sizes are written in sevens of bits."""
    title = b"\x03" + text.encode()
    frame = b"TIT2" + _sevens(len(title)) + b"\0\0" + title
    return b"ID3\x04\0\0" + _sevens(len(frame)) + frame


def _sevens(number: int) -> bytes:
    return bytes(number >> shift & 0x7F for shift in (21, 14, 7, 0))


FORMATS: Mapping[str, Format] = {
    "wav": Format(b"audio/wav", wav),
    "pcm": Format(b"audio/pcm", lambda pcm, _text: pcm),
    "flac": Format(b"audio/flac", lambda pcm, _text: flac.written(pcm)),
    "mp3": Format(b"audio/mpeg", mp3),
}
