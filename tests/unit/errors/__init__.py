"""Tests of `gateway.errors`."""
