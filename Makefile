# Everything a person or a machine does with this repository. `make help` lists it.
#
# Needs Python 3.11 or newer, make and git. Another interpreter: `make PYTHON=python3.12 run`.

PYTHON ?= python3
VENV ?= .venv
PORT ?= 8080
PYTEST_ARGS ?=
BENCH_ARGS ?=
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
IMAGE ?= goagents:$(VERSION)
STORE ?= sqlite
OVERLAY ?= dev

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --quiet --disable-pip-version-check
INSTALLED := $(VENV)/.installed
DEVELOPMENT := $(VENV)/.development
PEERS := tests/support/peers

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help run install dev peers test lint types layers format security security-source security-dependencies \
	build build-all functions docker docker-build docker-up docker-down deploy-k8s bench docs clean

help: ## list what can be made
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-22s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

run: $(INSTALLED) ## serve examples/customer-support on 127.0.0.1:8080 (PORT=…); Ctrl-C ends it
	@exec $(BIN)/python scripts/run_example.py --port $(PORT)

install: $(INSTALLED) ## make .venv with what running needs
dev: $(DEVELOPMENT) ## make .venv with what developing needs, too
peers: $(PEERS)/node_modules/.package-lock.json ## install the third-party fakes from npm (tests use them)

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "GoAgents needs Python 3.11 or newer, and $(PYTHON) is not: choose another by 'make PYTHON=python3.12 …'." >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
		echo "$(PYTHON) cannot make a virtual environment; on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }

# Bytecode is compiled here because a cold start without it takes several times as long.
define compile
	@$(BIN)/python -m compileall -q -j 0 shared functions examples "$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')" > /dev/null || true
endef

$(INSTALLED): pyproject.toml | $(BIN)/python
	@if [ -e $(DEVELOPMENT) ] && [ $(DEVELOPMENT) -nt pyproject.toml ]; then touch $@; exit 0; fi; \
		echo "Installing GoAgents into $(VENV) (once) …" >&2; \
		$(PIP) install --editable '.[all]'
	$(compile)
	@touch $@

$(DEVELOPMENT): pyproject.toml | $(BIN)/python
	@echo "Installing GoAgents and its development tools into $(VENV) (once) …" >&2
	@$(PIP) install --editable '.[dev]'
	$(compile)
	@touch $@

$(PEERS)/node_modules/.package-lock.json: $(PEERS)/package.json
	@npm install --prefix $(PEERS) --no-audit --no-fund --ignore-scripts --loglevel=error
	@touch $@

test: $(DEVELOPMENT) ## run the whole test suite (what is not installed is skipped, and says how to get it)
	@$(BIN)/python -m pytest -n 2 --dist loadfile $(PYTEST_ARGS)

lint: $(DEVELOPMENT) types layers ## style, format, strict types, layers
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: $(DEVELOPMENT)
	@$(BIN)/mypy

layers: $(DEVELOPMENT)
	@$(BIN)/python -m pytest -q tests/unit/test_layers.py

format: $(DEVELOPMENT) ## mend style and format
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

security: security-source security-dependencies ## scan the source and the dependencies

security-source: $(DEVELOPMENT) ## scan the source only (offline)
	@$(BIN)/python -m tests.ci.scan
	@$(BIN)/python -m pip check

# Fails where the vulnerability service cannot be asked: an audit that did not happen is not a pass.
security-dependencies: $(DEVELOPMENT) ## audit the dependencies (needs the network)
	@$(BIN)/python -m pip freeze --exclude-editable > $(VENV)/audit.txt
	@$(BIN)/pip-audit --strict --disable-pip --no-deps --progress-spinner off --requirement $(VENV)/audit.txt || { \
		echo "The audit found something, or (\"not found on PyPI\", connection errors) could not ask the vulnerability service: then NOTHING was audited." >&2; exit 1; }

build: $(DEVELOPMENT) ## make dist/*.whl and *.tar.gz, and try the wheel in a clean environment
	@rm -rf dist build/try
	@$(BIN)/python -m build --no-isolation --outdir dist . > /dev/null
	@$(PYTHON) -m venv build/try
	@build/try/bin/python -m pip --quiet --quiet --disable-pip-version-check install dist/*.whl
	@cd build/try && bin/python -c 'import goagents, sys; assert "shared" not in goagents.__file__, goagents.__file__' && bin/goagents version
	@rm -rf build/try
	@ls dist

build-all: build functions ## build, load every function, and make the image where Docker runs
	@if docker info > /dev/null 2>&1; then $(MAKE) --no-print-directory docker-build; else \
		echo "NO IMAGE was made: no Docker engine answers (docker info). Where one does: make docker-build"; fi

# What functions-framework does when it starts one: import it, find its target.
functions: $(DEVELOPMENT)
	@for source in functions/*/main.py; do \
		name=$$(basename $$(dirname $$source)); \
		$(BIN)/python -c 'import sys; from functions_framework import create_app; create_app(*sys.argv[1:])' \
			$$name $$source || { echo "functions-framework cannot load $$source" >&2; exit 1; }; \
		echo "function $$name loads"; done

docker:
	@docker info > /dev/null 2>&1 || { echo "No Docker engine answers: install or start Docker (docker info says more)." >&2; exit 1; }

docker-build: docker ## make the image goagents:VERSION (IMAGE=…)
	docker build --file infra/docker/Dockerfile --tag $(IMAGE) .

COMPOSE = docker compose --file infra/compose/compose.yaml
ON_FIRESTORE = --file infra/compose/compose.firestore.yaml
# A port that was asked for; without one, GOAGENTS_PORT of infra/compose/.env or of the environment holds.
GATEWAY_PORT = $(if $(filter file,$(origin PORT)),,GOAGENTS_PORT=$(PORT) )
UP = $(GATEWAY_PORT)$(COMPOSE)$(if $(filter firestore,$(STORE)), $(ON_FIRESTORE))

docker-up: docker ## start gateway, Prometheus, Grafana with Docker Compose (STORE=sqlite or firestore, PORT=…)
	@case "$(STORE)" in sqlite|firestore) ;; *) echo "STORE=$(STORE): must be sqlite or firestore" >&2; exit 1;; esac
	@docker compose version > /dev/null 2>&1 || { echo "Docker has no Compose: install its plugin (docker-compose-plugin)." >&2; exit 1; }
	@$(PYTHON) infra/compose/prepare.py
	$(UP) up --build --detach --wait --remove-orphans
	@echo "gateway    http://$$($(UP) port gateway 8080)    (your key: infra/compose/secrets/api_key)"
	@echo "Prometheus http://$$($(UP) port prometheus 9090)"
	@echo "Grafana    http://$$($(UP) port grafana 3000)    (admin, GRAFANA_PASSWORD of infra/compose/.env)"

# Both files, so that the emulator ends as well, whatever STORE it was started with.
docker-down: docker ## end what docker-up started; its volumes stay
	@test -e infra/compose/.env || { echo "There is no infra/compose/.env, so docker-up has started nothing." >&2; exit 1; }
	$(COMPOSE) $(ON_FIRESTORE) down --remove-orphans

deploy-k8s: ## apply the overlay dev to kubectl's cluster (OVERLAY=prod, or a folder of your own)
	@infra/kubernetes/deploy.sh "$(OVERLAY)"

bench: $(DEVELOPMENT) ## measure: cold start, memory, local operations, streams (BENCH_ARGS=--json FILE)
	@$(BIN)/python -m tests.benchmarks $(BENCH_ARGS)

docs: $(DEVELOPMENT) ## write the generated pages of docs/ and the OpenAPI document anew
	@$(BIN)/python -m goagents.spec.reference > docs/configuration.md
	@$(BIN)/python -m goagents.cli.reference > docs/cli.md
	@$(BIN)/python -m goagents.api.openapi

clean: ## remove everything made here
	@rm -rf $(VENV) dist build .goagents .pytest_cache .mypy_cache .ruff_cache .hypothesis .schemathesis $(PEERS)/node_modules
	@find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +
