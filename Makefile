# Twin's commands. `make` lists them.
# Each target that needs Python sets up .venv from the hashed locks first; a second run finds it there.
.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3 python; do \
	$$p -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
UV := $(BIN)/uv

.PHONY: help
help: ## List the commands
	@awk 'BEGIN {FS = ":.*## "} /^[a-z_-]+:.*## / {printf "  make %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# ── Setting up ──────────────────────────────────────────────────────────────────────────────────────

$(UV): locks/uv.txt
	@test -n "$(PYTHON)" || { echo "Twin needs Python 3.11 or newer with its venv module: install it (Debian: apt install python3 python3-venv) or say make PYTHON=/path/to/python3"; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { echo "Twin needs Python's venv module: install it (Debian: apt install python3-venv)"; exit 1; }
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all: -r locks/uv.txt
	@touch $@

# A stamp records which lock the environment was last made from; the larger ones contain the smaller.
$(VENV)/run: $(UV) locks/run.txt pyproject.toml
	@test -e $(VENV)/dev || $(UV) pip install --quiet --python $(BIN)/python --require-hashes -r locks/run.txt
	@$(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/dev: $(UV) locks/dev.txt pyproject.toml
	@$(UV) pip install --quiet --python $(BIN)/python --require-hashes -r locks/dev.txt
	@$(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $(VENV)/run $@

$(VENV)/bench: $(VENV)/dev locks/bench.txt
	@$(UV) pip install --quiet --python $(BIN)/python --require-hashes -r locks/bench.txt
	@touch $@

.PHONY: lock
lock: $(UV) ## Resolve the hashed lock files again from pyproject.toml
	$(UV) pip compile $(LOCK) --extra embedded -o locks/run.txt
	$(UV) pip compile $(LOCK) --extra embedded --extra llamacpp --group dev -c locks/run.txt -o locks/dev.txt
	$(UV) pip compile $(LOCK) --extra embedded --extra llamacpp --group dev --group bench -c locks/dev.txt -o locks/bench.txt
LOCK := --quiet --universal --generate-hashes --no-emit-index-url --no-header --python-version 3.11 pyproject.toml locks/build.in
