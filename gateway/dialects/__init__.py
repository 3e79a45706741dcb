"""Which dialects are spoken?  A new one is a module beside Gemini's and a line in `ALL`."""

from typing import Final

from gateway.dialects import gemini
from gateway.dialects.dialect import Dialect, Route
from gateway.dialects.gemini import Gemini

__all__ = ["ALL", "Dialect", "Route", "gemini"]

ALL: Final[tuple[Dialect, ...]] = (Gemini(),)
