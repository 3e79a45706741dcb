"""One file for each promise to callers and operators, kept by whole gateways."""
