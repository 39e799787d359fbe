"""Serve a driver on a Unix socket: start, publish, answer, drain, stop.

The order of a sidecar's life: the path is checked and a private place made beside it; the driver's
`lifespan` is entered; the server binds in the private place; when it can answer, the socket is
renamed to its path and health turns to serving. On SIGTERM or SIGINT: not serving, streams end,
calls under way may finish within a limit, the rest is cancelled, `lifespan` is left, the socket is
removed if it is still ours.
"""

from __future__ import annotations

from openshell_drivers._process import run, serve
from openshell_drivers._serving import Running, ServerOptions, running
from openshell_drivers._socket import SocketPolicy

__all__ = ["Running", "ServerOptions", "SocketPolicy", "run", "running", "serve"]
