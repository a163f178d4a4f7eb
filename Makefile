# perdure: what a developer runs. `make` lists the targets.

VENV := .venv
BIN := $(VENV)/bin
# Any Python >= 3.11, e.g. `make setup PYTHON=/path/to/python3.12`; empty: the first of CANDIDATES that fits.
PYTHON ?=
CANDIDATES := python3 python3.13 python3.12 python3.11
# Test processes: one per CPU, at least 2, at most 4.
JOBS ?= $(shell n=$$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2); \
	[ "$$n" -lt 2 ] && n=2; [ "$$n" -gt 4 ] && n=4; echo $$n)
# Seed of the random tests; `make test SEED=...` repeats a run.
# Drawn once: with `?=` every use would draw another.
ifeq ($(origin SEED),undefined)
SEED := $(shell od -An -N4 -tu4 /dev/urandom | tr -d ' ')
endif
# What perdure is compared with beside DBOS, from npm.
RESTATE_SERVER := @restatedev/restate-server@1.7.12
# Whole runs of the benchmark that `make bench-record` records.
RUNS ?= 3
# How often `make torture` does harm, and how many seeds `make sim` tries.
ROUNDS ?= 30
# How often `make power` cuts the power.
CUTS ?= 5000
# How long `make soak` runs.
MINUTES ?= 30
# How long `make fuzz` runs.
SECONDS ?= 300
# More arguments for pytest or for the benchmark, e.g. `make test ARGS="-k replay"`.
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help setup test test-fast lint format demo
.PHONY: torture power faults fuzz sim soak model
.PHONY: bench bench-json bench-check bench-record bench-docs clean
.DELETE_ON_ERROR:

help: ## List the targets
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(VENV)/.stamp ## Create .venv with everything that development needs (PYTHON= picks the interpreter)

# Repeated only when the dependencies changed. All output goes to stderr: that of `bench-json` is one JSON object.
$(VENV)/.stamp: pyproject.toml constraints.txt
	@{ \
	for python in $(if $(PYTHON),$(PYTHON),$(CANDIDATES)); do \
		if "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then found=$$python; break; fi; \
	done; \
	if [ -z "$${found:-}" ]; then \
		echo "perdure needs Python 3.11 or newer; tried: $(or $(PYTHON),$(CANDIDATES))."; \
		echo "Install one, or name it: make setup PYTHON=/path/to/python3.12"; \
		exit 1; \
	fi; \
	version=$$("$$found" --version); \
	echo "setup: $(VENV) with $$version"; \
	clear=--clear; \
	if [ "$$($(BIN)/python --version 2>/dev/null)" = "$$version" ]; then clear=; fi; \
	if ! "$$found" -m venv $$clear $(VENV); then \
		echo "\"$$found -m venv\" failed; on Debian and Ubuntu: apt-get install python3-venv"; \
		exit 1; \
	fi; \
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]' -c constraints.txt || exit 1; \
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[fuzz]' -c constraints.txt || \
		echo "setup: atheris could not be installed; what needs it will be left out"; \
	touch $@; \
	} >&2

# What only the benchmark needs, on demand. Restate is one npm package and two of Python; without it, or without npm, its
# figures are reported as not run.
$(VENV)/.stamp-bench: $(VENV)/.stamp
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[bench]' -c constraints.txt >&2
	@{ command -v npm >/dev/null && \
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[bench-restate]' -c constraints.txt && \
	npm install --prefix $(VENV) --ignore-scripts --no-audit --no-fund --loglevel=error $(RESTATE_SERVER); } >&2 || \
	echo "bench: Restate could not be installed; its figures will be reported as not run" >&2
	@touch $@

test: $(VENV)/.stamp ## Run all tests (ARGS= more for pytest, SEED= repeats a run, JOBS= processes)
	@echo "random tests: SEED=$(SEED)"
	@$(BIN)/python -m pytest -n $(JOBS) --hypothesis-seed=$(SEED) $(ARGS)

test-fast: $(VENV)/.stamp ## Run the tests without the slow ones, stop at the first failure
	@echo "random tests: SEED=$(SEED)"
	@$(BIN)/python -m pytest -n $(JOBS) --hypothesis-seed=$(SEED) -m "not slow" -x $(ARGS)

lint: $(VENV)/.stamp ## Check style, format, types and layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy src bench $(wildcard tests/typing)
	$(BIN)/lint-imports --no-logo

format: $(VENV)/.stamp ## Format the code and fix what can be fixed safely
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# --- proof: what goes wrong on purpose. Each target prints the seed that repeats it; CI runs all of them in a short version.

torture: $(VENV)/.stamp ## Kill workers ROUNDS= times and look for anything lost or repeated (SEED= repeats what is done)
	@$(BIN)/python tests/crash/torture.py --rounds $(ROUNDS) --seed $(SEED) $(ARGS)

power: $(VENV)/.stamp ## Cut the power CUTS= times, and look at what each cut left on the disk (SEED= repeats it)
	@$(BIN)/python tests/power/power_run.py --rounds $(CUTS) --seed $(SEED) $(ARGS)

faults: $(VENV)/.stamp ## Let every call to the system fail in every way, and fill a disk: half an hour (ARGS= for pytest)
	@PERDURE_FAULTS=all $(BIN)/python -m pytest -n $(JOBS) -o timeout=7200 -o faulthandler_timeout=0 tests/faults $(ARGS)

fuzz: $(VENV)/.stamp ## Feed noise, poison and damaged files to what reads them, for SECONDS= (ARGS="rounds" chooses)
	@$(BIN)/python tests/fuzz --seconds $(SECONDS) --seed $(SEED) $(ARGS)

# With SEED= on the command line and no ROUNDS= one seed, with all that happens in it; else ROUNDS= seeds from SEED= on.
ONE_SEED := $(and $(filter command% environment%,$(origin SEED)),$(if $(filter command% environment%,$(origin ROUNDS)),,one))
sim: $(VENV)/.stamp ## Simulate engines, clients and faults: SEED= repeats one seed exactly, ROUNDS= runs many
	@PYTHONPATH=src:tests $(BIN)/python -m simulation --seed $(SEED) $(if $(ONE_SEED),,--rounds $(ROUNDS)) $(ARGS)

soak: $(VENV)/.stamp ## Run a mixed load for MINUTES= and look for anything that grows (ARGS="--svg lines.svg" draws it)
	@$(BIN)/python -m bench.soak --minutes $(MINUTES) --seed $(SEED) $(ARGS)

model: $(VENV)/.stamp ## Have spin try every order of steps of the protocol of the runner (minutes)
	@$(BIN)/python tests/model/spin.py

# --- the rest

demo: $(VENV)/.stamp ## See a workflow survive a crash
	@$(BIN)/perdure demo

bench: $(VENV)/.stamp-bench ## Measure speed, and compare it (ARGS="--quick" for a first look)
	@$(BIN)/python -m bench $(ARGS)

bench-json: $(VENV)/.stamp-bench ## Same, as one JSON object on stdout
	@$(BIN)/python -m bench --json $(ARGS)

bench-check: $(VENV)/.stamp-bench ## Measure, and say what got worse than recorded by more than noise
	@$(BIN)/python -m bench --check $(ARGS)

bench-record: $(VENV)/.stamp-bench ## Measure RUNS= times, and write that to bench/recorded.json
	@$(BIN)/python -m bench --record $(RUNS) $(ARGS)

bench-docs: $(VENV)/.stamp-bench ## Bring the tables and plots of docs/performance.md up to date with bench/recorded.json
	@$(BIN)/python -m bench.docs

clean: ## Remove .venv, caches and build output
	rm -rf $(VENV) build dist .bench .fuzz .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
