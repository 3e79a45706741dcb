"""Tests of the store client: connections, failover, faults, parsing."""
