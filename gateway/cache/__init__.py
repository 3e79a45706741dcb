"""Is the answer known, or on its way?"""

from gateway.cache.cache import Cache
from gateway.cache.flight import Flight
from gateway.cache.key import pattern
from gateway.cache.lookup import Lookup
from gateway.cache.shelf import PROBE, Shelf

__all__ = ["PROBE", "Cache", "Flight", "Lookup", "Shelf", "pattern"]
