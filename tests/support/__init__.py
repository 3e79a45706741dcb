"""The few real servers that the suite talks to."""
