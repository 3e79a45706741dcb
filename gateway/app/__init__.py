"""What is a worker made of, and which background tasks does it run?"""

from gateway.app.app import PROBES, App, create, watched_store

__all__ = ["PROBES", "App", "create", "watched_store"]
