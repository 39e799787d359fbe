"""The reference drivers, through a real server."""
