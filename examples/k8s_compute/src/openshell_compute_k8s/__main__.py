"""``python -m openshell_compute_k8s`` is the console script."""

from __future__ import annotations

from openshell_compute_k8s.main import main

main()
