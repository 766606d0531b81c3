# make demo | test | attacks | federation | bench | lint | clean | help. Needs Python 3.11 or later; nothing else.

SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help install demo test attacks federation bench lint clean

VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DEMO_ARGS ?=
PYTEST_ARGS ?=
BENCH_ARGS ?=

# The first that starts (a pyenv shim may not), is new enough, and can make environments.
define FIND_PYTHON
for p in python3.13 python3.12 python3.11 python3 python; do \
  "$$p" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' \
    >/dev/null 2>&1 && { echo "$$p"; exit; }; \
done
endef
PYTHON ?= $(shell $(FIND_PYTHON))

help:  ## Show this list.
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(STAMP)  ## Make .venv and install the package with all it needs.

# uv, which Flower brings, installs in a tenth of the time; pip where uv cannot (its index or
# proxy may be set up for pip alone).
$(STAMP): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { \
	  echo "No Python 3.11 or later with venv was found. Install one (Debian: apt-get install" \
	    "python3 python3-venv), or name it: make $(MAKECMDGOALS) PYTHON=/path/to/python3"; exit 1; }
	@echo "Installing into $(VENV) with $$($(PYTHON) --version) …"
	@$(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt uv
	@UV_SYSTEM_CERTS=1 $(BIN)/uv pip install --quiet --python $(BIN)/python -c constraints.txt -e '.[dev]' \
	    2>$(VENV)/uv.log \
	  || $(BIN)/python -m pip install --quiet --disable-pip-version-check \
	       -c constraints.txt -e '.[dev]'
	@touch $@

demo: $(STAMP)  ## Three hospitals, a real federation, one study: results/demo/report.html.
	@$(BIN)/federated-analytics demo $(DEMO_ARGS)

test: $(STAMP)  ## Run all tests.
	@$(BIN)/python -m pytest -n 2 --dist loadgroup $(PYTEST_ARGS)

attacks: $(STAMP)  ## Attack a site in every way that is known, and 5,000 random studies.
	@FEDERATED_ANALYTICS_ATTACKS=$${FEDERATED_ANALYTICS_ATTACKS:-5000} \
	  $(BIN)/python -m pytest -n 2 tests/attacks $(PYTEST_ARGS)

federation: $(STAMP)  ## The longest tests, all of real federations; about a quarter of an hour.
	@FEDERATED_ANALYTICS_FEDERATION=1 $(BIN)/python -m pytest -m federation \
	  -n 2 --dist loadgroup $(PYTEST_ARGS)

bench: $(STAMP)  ## Measure against the baseline and the floor, and print the table.
	@$(BIN)/python -m benchmarks $(BENCH_ARGS)

lint: $(STAMP)  ## ruff and mypy (strict).
	@$(BIN)/ruff check .
	@$(BIN)/mypy

clean:  ## Remove the environment, caches, build files and results.
	rm -rf $(VENV) build dist results .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
