"""May the picture of an answer be a link?  Some channels give a picture's address instead of it, and it expires.

In an answer that should bring a picture any link may be the picture.  In others a link is a citation, unless it has
one of the forms in which a picture is shown: Markdown's, HTML's, a picture's file name, or no word before it.  A data
URI is the picture itself and no link, whatever form it has.
"""

import re

CARRY = 2048  # characters kept, for a link that is cut across events
HEAD = 64  # characters of an answer's beginning

IMAGE_MODEL = re.compile(r"image|banana", re.IGNORECASE)  # whose answers bring pictures, also if no catalogue knows it

_ADDRESS = re.compile(r"https?://\S+", re.IGNORECASE)
_PICTURE = re.compile(r"\.(?:png|jpe?g|gif|webp|avif|heic|bmp|svg|tiff?)\b", re.IGNORECASE)
_FIRST = re.compile(r"[\W\d_]*https?://", re.IGNORECASE)
_TAG = re.compile(r"<(?:img|image|picture)\b", re.IGNORECASE)
# What shows a data URI; also one that is cut where it may still become one: the next piece will tell.
_ITSELF = re.compile(
    r"!\[[^\[\]]*+\]\s?[(\[]\s*+(?:<\s*+)?(?:data:|d?a?t?a?$)"
    r"|<(?:img|image)\b(?:[^<>]*?\s(?:src|href)\s*+=\s*+(?:[\"']\s*+)?(?:data:|d?a?t?a?$)|[^<>:]*$)",
    re.IGNORECASE,
)


class Links:
    """What the text of one candidate holds, as far as it has come."""

    def __init__(self) -> None:
        self.any = False  # a link, of whatever kind
        self.shown = False  # a link in a form that shows a picture
        self._head = self._tail = ""

    def see(self, text: str) -> None:
        """Take the next piece of the text."""
        seen = self._tail + text
        self._tail = seen[-CARRY:]
        if len(self._head) < HEAD:
            self._head = (self._head + text).lstrip()[:HEAD]
            self.shown |= _FIRST.match(self._head) is not None
        if "://" in seen:
            self.any = True
            self.shown |= any(_PICTURE.search(address) for address in _ADDRESS.findall(seen))
        if "![" in seen or "<" in seen:
            others = _ITSELF.sub("", seen)
            self.shown |= _TAG.search(others) is not None or _markdown(others)


def _markdown(text: str) -> bool:
    """Whether there is a picture in Markdown, whose description holds no empty line."""
    return "![" in text and any(
        0 <= paragraph.find("![") < max(paragraph.rfind("]("), paragraph.rfind("]["))
        for paragraph in text.split("\n\n")
    )
