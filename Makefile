# Every target sets up what it needs in .venv. PYTHON chooses the interpreter that .venv is made with.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PEERS := .venv-peers
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check

COMPILE := $(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes \
  --no-emit-index-url --no-emit-find-links --no-annotate --no-header

.DEFAULT_GOAL := help
.PHONY: help demo test check format lint types imports cover e2e bench routing soak fuzz lock clean

help: ## show the targets
	@grep -hE '^[a-z0-9]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 10

demo: $(VENV)/demo.stamp ## turns through two gateways on two real llama.cpp servers: token, prompt cache, Codex too where npm is there
	@$(BIN)/turnwire demo

test: $(VENV)/dev.stamp ## all checks, then the tests with branch coverage
	@$(MAKE) --no-print-directory check

check: format lint types imports cover ## ruff, mypy, import-linter, tests with branch coverage

format: $(VENV)/dev.stamp
	@$(BIN)/ruff format --check

lint: $(VENV)/dev.stamp
	@$(BIN)/ruff check

types: $(VENV)/dev.stamp
	@$(BIN)/mypy

imports: $(VENV)/dev.stamp
	@$(BIN)/lint-imports

cover: $(VENV)/dev.stamp
	@$(BIN)/coverage erase
	@$(BIN)/coverage run -m pytest && status=0 || status=$$?; \
	$(BIN)/coverage combine --quiet && $(BIN)/coverage report > .coverage-report || { cat .coverage-report; exit 1; }; \
	exit $$status

e2e: $(VENV)/dev.stamp e2e/node_modules/.stamp ## the real Codex and the Vercel AI SDK on the gateway; needs npm
	@$(BIN)/python -m pytest e2e

e2e/node_modules/.stamp: e2e/package-lock.json e2e/package.json
	@command -v npm >/dev/null || { echo "the clients come by npm: apt-get install npm"; exit 1; }
	@npm ci --prefix e2e --ignore-scripts --loglevel=error
	@touch $@

bench: $(VENV)/dev.stamp ## the figures of docs/performance.md, measured anew
	@$(MAKE) --no-print-directory $(PEERS)/peers.stamp || echo "without LiteLLM's proxy, which can't be set up here"
	@$(BIN)/python benchmarks/run.py

routing: $(VENV)/dev.stamp ## the figures and charts of docs/routing.md, simulated anew in some minutes
	@$(BIN)/python benchmarks/routing_simulation.py --markdown docs/routing.md

soak: $(VENV)/dev.stamp ## ten minutes of 500 streams through the gateway, with cuts on both sides
	@$(BIN)/python benchmarks/soak.py

fuzz: $(VENV)/dev.stamp ## a minute of random mutations against the decoder
	@$(BIN)/python fuzz/fuzz_chat_decoder.py --seconds 60

lock: $(VENV)/dev.stamp ## choose the newest versions of all dependencies and pin them
	@$(PIP) install uv
	@for part in demo dev; do \
	  extra=$$([ $$part = dev ] && echo "--group dev" || true); \
	  $(COMPILE) --extra demo $$extra pyproject.toml -o requirements/$$part.txt; \
	done
	@$(COMPILE) --extra gateway --extra redis --constraint requirements/dev.txt pyproject.toml -o requirements/gateway.txt
	@echo "litellm[proxy]" | $(COMPILE) - -o requirements/peers.txt

clean: ## remove what the targets made
	rm -rf $(VENV) $(PEERS) .coverage* .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache e2e/node_modules

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("turnwire needs Python 3.11 or later, this is " + sys.version.split()[0] + "; name another with make PYTHON=python3.12")'
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { echo "this Python has no venv module: apt-get install python3-venv"; exit 1; }
	@echo "setting up $(VENV), which takes a minute the first time"
	@$(PYTHON) -m venv $(VENV)

$(PEERS)/peers.stamp: requirements/peers.txt
	@echo "setting up $(PEERS) with LiteLLM's proxy, which takes two minutes"
	@$(PYTHON) -m venv --clear $(PEERS)
	@$(PEERS)/bin/python -m pip --quiet --disable-pip-version-check install --require-hashes -r $<
	@touch $@

$(VENV)/%.stamp: requirements/%.txt pyproject.toml | $(VENV)/bin/python
	@$(PIP) install --require-hashes -r $<
	@$(PIP) install --no-deps -e .
	@touch $@
