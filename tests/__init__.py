"""The suite: real sockets, real stores, Google's own SDK."""
