"""How is a secret cut out of a text, in whatever spelling it is echoed?

Raw, URL-encoded, hexadecimal, JSON-escaped, and base64 of any text around it: base64 spells a secret in three ways,
depending on how many bytes stand before it.
"""

import base64
import json
from urllib.parse import quote

REMOVED = b"[removed]"


def scrubbed(text: bytes, secret: str) -> bytes:
    """Cut every spelling of the secret out; the same object when there is none."""
    for spelling in _spellings(secret):
        if spelling in text:
            text = text.replace(spelling, REMOVED)
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
