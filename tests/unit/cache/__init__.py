"""The cache on a real Valkey, as the pipeline uses it."""
