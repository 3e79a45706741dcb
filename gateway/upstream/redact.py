"""How is a secret cut out of a text, in whatever spelling it is echoed?

Raw, URL-encoded, hexadecimal, JSON-escaped, and base64 of any text around it: base64 spells a secret in three ways,
depending on how many bytes stand before it.  Any of its characters may be written as an escape of JSON, of a program's
string, of HTML or of a URL, each in another way.
"""

import base64
import json
import re
from functools import lru_cache
from urllib.parse import quote

REMOVED = b"[removed]"


def redacted(text: bytes, secret: str) -> bytes:
    """Cut every spelling of the secret out; the same object when there is none."""
    for spelling in _spellings(secret):
        if spelling in text:
            text = text.replace(spelling, REMOVED)
    if secret and any(mark in text for mark in (b"\\", b"&#", b"%")):
        cut, found = _escaped(secret).subn(REMOVED, text)
        return cut if found else text
    return text


def _spellings(secret: str) -> list[bytes]:
    if not secret:
        return []
    raw = secret.encode()
    escaped = json.dumps(secret)[1:-1]
    spellings = [raw, quote(secret, safe="").encode(), escaped.encode(), raw.hex().encode(), raw.hex().upper().encode()]
    for before in range(3):
        # Only the characters that the secret alone decides: the first and the last may hold bits of its neighbours.
        inner = base64.b64encode(bytes(before) + raw)[-(-before * 8 // 6) : (before + len(raw)) * 8 // 6]
        spellings += [inner, inner.replace(b"+", b"-").replace(b"/", b"_")]
    return sorted({one for one in spellings if len(one) > 3}, key=len, reverse=True)


@lru_cache(maxsize=4)  # a key, and the one before it
def _escaped(secret: str) -> re.Pattern[bytes]:
    """What matches the secret with any of its characters escaped, or base64 of it whose slashes are."""
    raw = secret.encode()
    inner = [
        base64.b64encode(bytes(before) + raw)[-(-before * 8 // 6) : (before + len(raw)) * 8 // 6].decode()
        for before in range(3)
    ]
    slashed = [
        "".join(rf"(?:\\*+{re.escape(char)}|{_escapes(ord(char))})" if char in "+/=" else char for char in one)
        for one in inner
    ]
    return re.compile("|".join(["".join(map(_character, raw)), *slashed]).encode())


def _character(byte: int) -> str:
    own = re.escape(chr(byte)) if byte < 128 else rf"\x{byte:02x}"
    if not chr(byte).isalnum():
        own = rf"\\*+{own}"
    return f"(?:{own}|{_escapes(byte)})"


def _escapes(byte: int) -> str:
    """A character of ASCII as JSON, C, Python, JavaScript, HTML and URLs may escape it, however often."""
    digits = f"(?i:{byte:02x})"
    backslash = rf"(?<!\\)\\++(?:[uU]\{{?0*{digits}\}}?|x0*{digits}|0*{byte:o})"
    return rf"{backslash}|&(?:amp;)*+#(?:0*{byte}|[xX]0*{digits});?|%(?:25)*{digits}"
