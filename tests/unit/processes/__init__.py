"""Tests of `gateway.processes`."""
