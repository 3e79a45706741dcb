"""What is a worker made of, and which background tasks does it run?"""

from gateway.app.app import PROBES, App, create, watched_store
from gateway.app.intervals import Intervals

__all__ = ["PROBES", "App", "Intervals", "create", "watched_store"]
