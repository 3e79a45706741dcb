"""The processes of one gateway: a supervisor that serves no calls, workers that do, and what they are given."""

from gateway.processes import streams

__all__ = ["streams"]
