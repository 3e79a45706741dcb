"""Tests of `gateway.dialects`."""
