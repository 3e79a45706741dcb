"""The deployment: images, compose, stores, relay, rules and dashboards."""
