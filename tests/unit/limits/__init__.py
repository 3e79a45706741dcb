"""Tests of the limits, on real stores."""
