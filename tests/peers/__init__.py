"""Real identity providers, a scripted one and a real Kubernetes, for tests and demo to talk to.

``keycloak``: the product the client-credentials driver must work with, run from its own release.
``kube``: a Kubernetes without nodes, with the agent-sandbox controller, built from source.
``canaille``: an identity provider from PyPI, ready in about a second, for the ordinary test run.
``scripted``: a loopback server with the answers no real server gives.
"""

from __future__ import annotations
