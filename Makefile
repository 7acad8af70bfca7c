PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.DEFAULT_GOAL := help

help: ## Show this help
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(READY): pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "lkd needs Python 3.11 or newer: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable ".[yolo,dev]"
	touch $(READY)

install: $(READY) ## Make the environment in .venv

demo: $(READY) ## The main job: an oracle teaches nine cameras without labels (4 to 5 minutes on two idle cores)
	$(BIN)/python cli.py fit --config configs/parking/oracle.yaml

demo-short: $(READY) ## The main job with a few frames and steps, for CI
	$(BIN)/python benchmarks/short_demo.py

$(VENV)/.nvflare: $(READY) pyproject.toml
	$(BIN)/python -m pip install --quiet --editable ".[nvflare]"
	touch $(VENV)/.nvflare

deploy-demo: $(VENV)/.nvflare ## A server and three cameras by mutual TLS, of which one is killed and comes back (2 to 3 minutes)
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/deploy_demo.py

docs: $(READY) ## Check what the docs name, and build the site into build/site, strictly and offline
	$(BIN)/python -m pytest tests/test_docs.py tests/test_reference.py -q -k "not examples"
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

docs-serve: $(READY) ## Show the site at http://127.0.0.1:8000, and what changes in it
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs serve --livereload

notebooks: $(READY) ## Run the notebooks as they are, and keep the pictures that they end with
	$(BIN)/python docs/run_notebooks.py

test: lint types tests ## Lint, types, doctests and tests

lint: $(READY) ## Check style and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(READY) ## Format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(READY) ## Check types
	$(BIN)/mypy

# a worker that crashes ends the run: with a new one in its place xdist waits forever
TESTS := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile --max-worker-restart 0 -m "not slow"

tests: $(READY) ## Run doctests and tests, without the slow ones
	$(TESTS)

coverage: $(READY) ## Run the same and say which lines they miss (half as long again)
	$(TESTS) --cov=lkd --cov-report=term-missing:skip-covered

test-all: $(READY) ## Run all tests, the slow ones too
	$(BIN)/python -m pytest

MINIMUM := build/minimum
# what finds a version too old soonest: the command line, losses, networks and a federation
MINIMUM_TESTS := tests/test_cli.py tests/test_parser.py tests/test_own_arguments.py tests/test_taps.py tests/losses \
	tests/models tests/modules tests/metrics tests/callbacks/test_distillation.py tests/federated/test_rounds.py

minimum: ## Run a short part of the tests with the oldest versions that pyproject.toml allows
	$(PYTHON) -m venv $(MINIMUM)
	$(MINIMUM)/bin/python -m pip install --quiet uv
	$(MINIMUM)/bin/uv pip install --quiet --python $(MINIMUM)/bin/python --resolution lowest-direct \
		--requirements pyproject.toml --extra yolo "pytest>=8.2"
	$(MINIMUM)/bin/python cli.py doctor
	OMP_NUM_THREADS=1 $(MINIMUM)/bin/python -m pytest -q -m "not slow" $(MINIMUM_TESTS) \
		-k "not where_a_rectangle_is" # other versions draw other start weights, by which it misses its bound

LOCK := .github/requirements.txt

lock: $(READY) ## Pin all packages, with hashes, to the versions that are in .venv: run the tests there first
	$(PYTHON) -m venv build/lock
	build/lock/bin/python -m pip install --quiet uv
	$(BIN)/python -m pip freeze --exclude-editable > build/lock/versions.txt
	build/lock/bin/uv pip compile pyproject.toml --extra yolo --extra dev --universal --python-version 3.11.5 \
		--generate-hashes --no-annotate --constraint build/lock/versions.txt --custom-compile-command "make lock" \
		--output-file $(LOCK)

install-locked: ## Make the environment in .venv from the pinned packages alone, each with its hash
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes --requirement $(LOCK)
	$(BIN)/python -m pip install --quiet --no-deps --editable .
	touch $(READY)

RELEASE := build/release

release: ## Build wheel and source distribution into dist/, check them in a fresh environment, write the notes
	$(PYTHON) release/notes.py > /dev/null
	rm -rf dist $(RELEASE)
	$(PYTHON) -m venv $(RELEASE)
	$(RELEASE)/bin/python -m pip install --quiet build twine
	$(RELEASE)/bin/python -m build --outdir dist
	$(RELEASE)/bin/twine check --strict dist/*
	$(PYTHON) release/check.py dist
	$(PYTHON) release/notes.py > dist/NOTES.md

zoo: $(READY) ## Train and export small students, with a card each, into dist/zoo (an hour)
	$(BIN)/python release/zoo.py

leaderboard: $(READY) ## Write docs/leaderboard.md and the tables in docs/ from the studies in studies/
	$(BIN)/python cli.py leaderboard studies --folder docs --pages README.md docs/*.md

bench: $(READY) ## Measure where time goes: rounds, steps, loaders, sums (a quarter of an hour)
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/bench.py

clean: ## Remove the environment and what runs have written
	rm -rf $(VENV) runs build *.egg-info

.PHONY: help install demo demo-short deploy-demo docs docs-serve notebooks test lint format types tests coverage test-all minimum lock install-locked release zoo leaderboard bench clean
