"""Tests of what is on the wire: against every revision's own schema, byte by byte, and over it."""
