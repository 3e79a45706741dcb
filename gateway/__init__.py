"""tokenhot-gateway: the local door in front of a paid Gemini-style upstream."""

__version__ = "0.1.0"
