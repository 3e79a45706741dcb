"""The vendors' own SDKs and tools, as published, drive a whole gateway.

Each set of packages that agree with each other has a lock file in `locks/` and an environment of its own in `.sdks/`,
so that none of them weighs on the gateway's dependencies; `make test-sdks` makes them, `make lock-sdks` resolves them
again.  `drivers/` has one script for each SDK, which makes the calls and prints what it saw; the tests read that.
"""
