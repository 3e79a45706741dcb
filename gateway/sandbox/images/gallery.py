"""What is shown in one answer?  A plain value that each family writes in its own way, and that a fault may change."""

from dataclasses import dataclass
from typing import NamedTuple

from gateway.sandbox.images.wanted import Wanted
from gateway.sandbox.pictures import Size
from gateway.sandbox.tokens import Tokens
from gateway.sandbox.wire import Event, base64_of


class Picture(NamedTuple):
    """One picture as a file."""

    data: bytes
    size: Size
    url: str = ""  # where it is served, in place of its bytes
    sketches: tuple[bytes, ...] = ()  # what is shown of it before

    @property
    def shown(self) -> Event:
        """The picture as it stands in JSON."""
        return {"url": self.url} if self.url else {"b64_json": base64_of(self.data)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Gallery:
    """One answer, before it is written."""

    wanted: Wanted
    pictures: tuple[Picture | None, ...]  # None: that one failed
    tokens: Tokens | None  # None: the maker counts none
    usage_hidden: bool = False
    usage_each: bool = False  # in a stream of GPT Image each picture reports its own
    nonce: str
    created: int  # seconds since 1970

    @property
    def reported(self) -> Tokens | None:
        """The tokens as the answer has them."""
        return None if self.usage_hidden else self.tokens

    @property
    def made(self) -> list[Picture]:
        return [picture for picture in self.pictures if picture]
