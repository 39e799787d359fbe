"""Tests of the server and the client, with real sockets and real processes."""
