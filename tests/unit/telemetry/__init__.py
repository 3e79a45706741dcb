"""Tests of `gateway.telemetry`."""
