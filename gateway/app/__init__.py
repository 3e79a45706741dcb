"""What is a worker made of, and what does it look after?"""

from gateway.app.app import PROBES, App, create, watched_store

__all__ = ["PROBES", "App", "create", "watched_store"]
