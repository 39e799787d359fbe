"""Small drivers and peers with behaviour, for tests of the runtime."""
