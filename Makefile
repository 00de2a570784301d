# Needs Python 3.11 to 3.13, make and a C toolchain. Everything else is installed into .venv and node_modules.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.stamp
RESTATE := node_modules/.stamp
# More than cores: tests mostly wait for something.
WORKERS ?= 5
MINUTES ?= 60
SEED ?= 1
# Histories and Redis's files of the chaos runs. On /dev/shm no job waits for a disk.
KEEP ?= .chaos
.DEFAULT_GOAL := help
.PHONY: help venv restate up demo test check bench chaos chaos-quick chaos-long chaos-proof chaos-stock chaos-drills pins format clean
.PHONY: check-format check-lint check-types check-imports check-lua check-docs

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

venv: $(STAMP)

$(STAMP): constraints.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' \
		|| { echo "Python 3.11 to 3.13 is needed: make PYTHON=python3.12 ..." >&2; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

restate: $(RESTATE) ## Install the Restate server (for up --with-restate, and the tests) with npm

$(RESTATE): package.json package-lock.json | $(STAMP)
	$(BIN)/python tools/npm.py ci --ignore-scripts --no-audit --no-fund --loglevel=error
	@touch $@

up: venv ## Run the whole fleet on this machine; Ctrl-C stops it
	$(BIN)/joelclaw up

demo: venv ## Start a fleet, send real events through it and show what became of them
	$(BIN)/joelclaw demo

test: check restate ## Everything CI runs: the checks, then all tests
	@# Hundreds of processes import the package; where Python may not keep what it compiled, each would compile it anew.
	$(BIN)/python -m compileall -q joelclaw_tasks tests bench chaos beat_schedule.py celeryconfig.py
	@# In the order of the folders: those with many processes come early, so that none is left alone with one at the end.
	$(BIN)/python -m pytest -m "not timing and not drill" -n $(WORKERS) --dist loadfile --no-loadscope-reorder --cache-clear \
		|| $(BIN)/python tools/alone.py $$?
	$(BIN)/python -m pytest -m timing -n 0 || $(BIN)/python tools/alone.py $$?

check: check-format check-lint check-types check-imports check-lua check-docs ## Format, lint, types, import contracts, Lua, documents

check-format: venv
	$(BIN)/ruff format --check .

check-lint: venv
	$(BIN)/ruff check .

check-types: venv
	$(BIN)/mypy

check-imports: venv
	$(BIN)/lint-imports

check-lua: venv
	$(BIN)/python tools/lint_lua.py

check-docs: venv
	$(BIN)/python tools/lint_docs.py

format: venv ## Format the code and fix what can be fixed by itself
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: venv ## Compare with stock Celery (QUICK=1: one small round)
	$(BIN)/python -m bench

chaos-quick: venv ## Each fault but the longest once, then several at once, under 3 minutes (SEED=1)
	$(BIN)/python -m chaos --seed $(SEED) --mixed 8 --keep $(KEEP)

chaos: venv ## All faults, with many mixed ones, for about 10 minutes
	$(BIN)/python -m chaos --seed $(SEED) --minutes 10 --keep $(KEEP)

chaos-long: venv ## Rounds of 10 minutes with seeds in turn (MINUTES=60, KEEP=/dev/shm/chaos)
	$(BIN)/python -m chaos --seed $(SEED) --minutes $(MINUTES) --keep $(KEEP)

chaos-proof: venv ## Five builds that are broken on purpose: each must be caught
	$(BIN)/python -m chaos --seed $(SEED) --prove --keep $(KEEP)

chaos-stock: venv ## What the same faults do to stock Celery, for comparison
	$(BIN)/python -m chaos.resets --seed $(SEED)
	$(BIN)/python -m chaos.stock --seed $(SEED)

chaos-drills: venv ## Measure the promises one by one, for about 30 minutes
	$(BIN)/python -m chaos.drills kills --seed $(SEED)
	$(BIN)/python -m chaos.drills rolling --seed $(SEED)
	$(BIN)/python -m chaos.drills resume --seed $(SEED)
	$(BIN)/python -m chaos.drills busy --seed $(SEED)
	$(BIN)/python -m pytest -m drill -n 0

pins: ## Write constraints.txt anew (UPGRADE=1: take the newest versions)
	$(PYTHON) -m venv .venv-pins
	.venv-pins/bin/python -m pip install --quiet --disable-pip-version-check uv
	.venv-pins/bin/python tools/pins.py $(if $(UPGRADE),--upgrade)

clean: ## Remove the environments and caches, never a fleet's data
	rm -rf node_modules $(VENV) .venv-pins .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis build dist
