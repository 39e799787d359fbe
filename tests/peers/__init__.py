"""Real identity providers and a scripted one, for the tests and the demo to talk to.

``keycloak``: the product the client-credentials driver must work with, run from its own release.
``canaille``: an identity provider from PyPI, ready in about a second, for the ordinary test run.
``scripted``: a loopback server with the answers no real server gives.
"""

from __future__ import annotations
