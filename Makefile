# Every command people and CI run. `make help` lists them.

SHELL := /bin/bash
.DEFAULT_GOAL := help

# The first interpreter that runs and is new enough; override with `make setup PYTHON=/path/to/python`.
PYTHON ?= $(firstword $(foreach p,python3.11 python3.12 python3.13 python3,$(shell \
	$(p) -c 'import sys; print("$(p)" if sys.version_info >= (3, 11) else "")' 2>/dev/null)))

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

# Hypothesis profile (parity-dev, parity-ci or parity-nightly) and number of test processes.
PROFILE ?= parity-ci
WORKERS ?= 2

# xdist does not limit threads, and workers that each start one per core only slow each other down.
export OMP_NUM_THREADS := 1

# glibc gives pages back between steps: getting them again costs a tenth of a run, and distorts ratios.
export MALLOC_TRIM_THRESHOLD_ := 1000000000
export MALLOC_MMAP_THRESHOLD_ := 1000000000

PYTEST := $(BIN)/pytest --hypothesis-profile=$(PROFILE) --parity-report=reports
# Benchmarks mean nothing beside other processes, so parallel runs switch them off instead of being warned about them.
PARALLEL := -n $(WORKERS) --dist worksteal --benchmark-disable

.PHONY: help setup parity parity-changed test lint nightly faults false-alarms bench parity-gpu clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(STAMP) ## Create or update .venv; quick when nothing changed

$(STAMP): pyproject.toml setup.py constraints.txt
	@[ -x $(BIN)/python ] || [ -n "$(PYTHON)" ] || { echo "make: no Python >= 3.11 found; give one with PYTHON=..." >&2; exit 1; }
	@[ -x $(BIN)/python ] || "$(PYTHON)" -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev,mettagrid]'
	@touch $@

parity: $(STAMP) ## Judge every built-in pair; writes reports/parity.{json,md,html}
	$(PYTEST) tests/parity -m parity $(PARALLEL)

# Without pairs to judge it ends well and says so; --parity-changed=BASE compares with another revision.
parity-changed: $(STAMP) ## Judge the built-in pairs that a change since the main branch touches
	$(PYTEST) tests/parity -m parity --parity-changed $(PARALLEL)

test: lint ## Lint, then the unit, meta and parity tests
	$(PYTEST) -m "not nightly" $(PARALLEL)

lint: $(STAMP) ## Style, formatting, types and import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports

nightly: $(STAMP) ## What is too long for a pull request: more examples, inductor, long training, the collapse watch
	$(MAKE) parity PROFILE=parity-nightly
	$(PYTEST) -m nightly tests/meta tests/nightly $(PARALLEL)

faults: $(STAMP) ## Plant every fault and the mutants; writes reports/faults.{json,md}
	$(BIN)/python -m parity faults

false-alarms: $(STAMP) ## Clean pairs and negative controls at length; writes reports/false-alarms.json
	$(BIN)/python -m parity false-alarms

# pytest-benchmark's own warnings stay warnings: as errors they would hide why nothing was measured.
bench: export OMP_NUM_THREADS := 2
bench: $(STAMP) ## Candidate against reference, paired; writes reports/bench-ratios.{json,md}
	$(BIN)/pytest tests/benchmarks/test_speed.py -n0 -q --benchmark-json=reports/bench.json \
		--benchmark-min-rounds=15 --benchmark-max-time=4 --benchmark-columns=median,iqr,rounds \
		-W default::pytest_benchmark.logger.PytestBenchmarkWarning

# Serial, because two processes on one GPU distort each other; cuBLAS reads its variable before CUDA starts.
parity-gpu: export CUBLAS_WORKSPACE_CONFIG := :4096:8
parity-gpu: $(STAMP) ## Judge every built-in pair on a GPU, which must be there; writes reports/parity-gpu.json
	$(PYTEST) tests/parity -m parity --parity-device=cuda --parity-require-gpu

clean: ## Remove everything generated, .venv included
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache .hypothesis .benchmarks .import_linter_cache
	find parity tests -type d -name __pycache__ -prune -exec rm -rf {} +
	find reports -mindepth 1 -maxdepth 1 ! -name README.md ! -name sample -exec rm -rf {} +
