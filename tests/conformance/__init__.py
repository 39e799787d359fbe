"""The conformance suite: its parts, and the drivers that prove it."""
