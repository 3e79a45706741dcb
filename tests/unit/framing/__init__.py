"""Tests of `gateway.framing`."""
