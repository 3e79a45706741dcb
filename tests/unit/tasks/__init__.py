"""Owners of tasks."""
