"""The path of one call, from the first byte in to the last byte out."""

from gateway.pipeline.pipeline import Pipeline

__all__ = ["Pipeline"]
