# The commands of a checkout. Needs make and any Python from 3.11 on; everything else goes into .venv.

SHELL := /bin/sh
PYTHON ?=
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
PYTEST := $(BIN)/python -m pytest
WORKERS ?= 4
# What Python has compiled is kept, whatever the environment says: a start takes half as long.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup demo test up cluster cluster-demo bench chaos fuzz screenshots dist lint clean

help:
	@echo "make setup   install into .venv"
	@echo "make demo    see the main job on real input, in under 30 s"
	@echo "make up      the service on http://127.0.0.1:8000 until Ctrl-C"
	@echo "make cluster   three PostgreSQLs, two of each of our processes, until Ctrl-C"
	@echo "make cluster-demo   such a cluster loses its primary: what is lost with it?"
	@echo "make test    the whole test suite"
	@echo "make bench   the benchmarks"
	@echo "make chaos   1,000 kills at random moments (up to an hour)"
	@echo "make fuzz    five minutes of hostile requests over sockets"
	@echo "make screenshots   pictures of the main pages, in docs/screenshots"
	@echo "make dist    the wheel and the source distribution, in dist"
	@echo "make lint    ruff, mypy and import-linter"
	@echo "make clean   remove .venv and what tools left behind"

setup: .venv/installed

demo: setup
	@$(BIN)/tocsin demo

up: setup
	@exec $(BIN)/tocsin up

cluster: .venv/installed-dev
	@exec $(BIN)/python -m tests.cluster

cluster-demo: .venv/installed-dev
	@$(BIN)/python -m tests.cluster.demo $(ARGS)

test: .venv/installed-dev
	$(PYTEST) -n $(WORKERS) --dist worksteal $(ARGS)

bench: .venv/installed-dev
	$(BIN)/python -m bench $(ARGS)

chaos: .venv/installed-dev
	$(BIN)/python -m tests.chaos --kills 1000 $(ARGS)

fuzz: .venv/installed-dev
	$(BIN)/python -m tests.fuzz --seconds 300 $(ARGS)

screenshots: .venv/installed-dev
	$(BIN)/python -m tests.screenshots

dist: .venv/installed-dev
	@rm -rf dist build
	$(BIN)/python -m build --no-isolation --outdir dist .

lint: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache build dist *.egg-info

.venv/installed: pyproject.toml constraints.txt .venv/bin/python
	@echo "installing Tocsin into .venv …"
	@$(PIP) install --quiet --constraint constraints.txt --editable .
	@touch $@

.venv/installed-dev: .venv/installed
	@echo "installing what tests need into .venv …"
	@$(PIP) install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

# A name on the PATH may be a shim without a Python behind it, so each candidate is run.
.venv/bin/python:
	@for python in $(PYTHON) python3.13 python3.12 python3.11 python3 python; do \
	    if $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then found=$$python; break; fi; \
	done; \
	if [ -z "$$found" ]; then \
	    echo "Tocsin needs Python 3.11 or later; none was found (name one with: make PYTHON=/path/to/python3)" >&2; exit 1; \
	fi; \
	if ! $$found -c 'import ensurepip, venv' 2>/dev/null; then \
	    echo "$$found lacks the venv module; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; \
	fi; \
	rm -rf .venv && $$found -m venv .venv
