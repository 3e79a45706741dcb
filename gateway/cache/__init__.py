"""Is the answer cached, or in flight?"""

from gateway.cache.cache import Cache
from gateway.cache.cache_store import PROBE, CacheStore
from gateway.cache.key import pattern
from gateway.cache.result import CacheResult
from gateway.cache.single_flight import SingleFlight

__all__ = ["PROBE", "Cache", "CacheResult", "CacheStore", "SingleFlight", "pattern"]
