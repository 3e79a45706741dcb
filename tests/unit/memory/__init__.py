"""Tests of `gateway.memory`."""
