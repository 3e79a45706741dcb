"""Tests of the way to a store."""
