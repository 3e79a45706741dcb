"""One script for each SDK, run by the interpreter of the environment that holds it."""
