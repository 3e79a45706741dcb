"""Is the answer known, or on its way?"""

from gateway.cache.cache import Cache
from gateway.cache.cache_store import PROBE, CacheStore
from gateway.cache.key import pattern
from gateway.cache.result import CacheResult
from gateway.cache.single_flight import SingleFlight

__all__ = ["PROBE", "Cache", "CacheResult", "CacheStore", "SingleFlight", "pattern"]
