"""Tests of `gateway.asgi`."""
