"""The sandbox, run for real in a process of its own."""
