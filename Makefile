# Every target makes what it needs under the tree first. make help lists them.
.DEFAULT_GOAL := help
.PHONY: help venv demo kube test lint types wire-check compat thorough matrix kube-acceptance bench wire format clean

PYTHON_RUN := .venv/bin/python
CONFORMANCE := tests/reference/test_conformance.py examples/keycloak_credentials/tests/test_conformance.py

help: ## this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

venv: ## the virtual environment that all else uses
	@scripts/bootstrap

demo: venv ## start two drivers, a gateway and an identity provider, and watch them work
	@$(PYTHON_RUN) -m demo

kube: venv ## run a real Kubernetes to point the driver at, until Ctrl-C; scripts/kube does it aside
	@$(PYTHON_RUN) -m tests.peers.kube run

test: venv ## the tests
	$(PYTHON_RUN) -m pytest -n 2

lint: venv ## ruff and the import floors
	$(PYTHON_RUN) -m ruff check .
	$(PYTHON_RUN) -m ruff format --check .
	.venv/bin/lint-imports

types: venv ## mypy, strict
	$(PYTHON_RUN) -m mypy

wire-check: venv ## that the generated code is what proto/ says
	$(PYTHON_RUN) scripts/wire --check

compat: venv ## the tests on the oldest supported dependencies
	$(PYTHON_RUN) scripts/compat

thorough: venv ## every fault against its checks, what is lawful against all, the drivers' conformance; 20 min
	$(PYTHON_RUN) -m pytest -n 2 -m thorough --ignore-glob='*/test_conformance.py'
	$(PYTHON_RUN) -m pytest -m thorough $(CONFORMANCE) # alone: checks of time are among them

matrix: venv ## that no other check blames a fault; an hour
	$(PYTHON_RUN) -m pytest -n 2 -m matrix

kube-acceptance: venv ## the Kubernetes driver's long tests; ten minutes
	$(PYTHON_RUN) -m pytest -m 'kube and matrix' examples/k8s_compute

bench: venv ## the benchmarks; a few minutes
	$(PYTHON_RUN) -m benchmarks.run

wire: venv ## generate src/openshell_drivers/_wire anew
	$(PYTHON_RUN) scripts/wire

format: venv ## lay the code out
	$(PYTHON_RUN) -m ruff check --fix .
	$(PYTHON_RUN) -m ruff format .

clean: ## remove what the targets made
	rm -rf .venv .cache .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
