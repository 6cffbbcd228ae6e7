# Two commands are all there is to set up: `make demo` and `make test`. Both make .venv from hash-locked files first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
SUPPLY := $(VENV)-supply/.installed
OLDEST := /usr/lib/postgresql/15/bin

.PHONY: audit sbom wheel demo docs test test-slow lint types bench lock clean help

help:
	@sed -n 's/^## //p' Makefile

## make demo       run the main job and show it (about a minute)
demo: $(STAMP)
	@PYTHON=$(CURDIR)/$(BIN)/python ZOPP=$(CURDIR)/$(BIN)/zopp examples/demo.sh $(ENV_FILE)

## make test       everything that CI runs: lint, types, layers, unit, oracle, attack and scenario tests
test: $(STAMP) lint types
	@echo '== tests'
	@$(BIN)/python -m pytest -n 2 -m 'not slow' tests

## make test-slow  the slow tier: larger sizes of the same properties, and the server on Debian's PostgreSQL 15 where present
test-slow: $(STAMP)
	@echo '== slow tier'
	@for tool in rsync direnv jq; do command -v $$tool >/dev/null || { echo "$$tool is not installed: apt-get install rsync direnv jq" >&2; exit 1; }; done
	@$(BIN)/python -m tests.tools
	@ZOPP_POLICY_TRANSITIONS=$${ZOPP_POLICY_TRANSITIONS:-1000000} ZOPP_RACES=1000 ZOPP_STORMS=134 \
	  HYPOTHESIS_PROFILE=slow $(BIN)/python -m pytest -n 2 tests
	@if [ -d $(OLDEST) ]; then echo '== the server on $(OLDEST)'; \
	  ZOPP_TEST_POSTGRES=$(OLDEST) $(BIN)/python -m pytest -n 2 -m 'not slow' tests/server; \
	  else echo '== no $(OLDEST) here: the server was not run on it'; fi

lint: $(STAMP)
	@echo '== ruff'
	@$(BIN)/ruff check zopp server tests examples benchmarks deploy actions docs
	@$(BIN)/ruff format --check zopp server tests examples benchmarks deploy actions docs
	@echo '== import-linter'
	@$(BIN)/lint-imports --no-cache

types: $(STAMP)
	@echo '== mypy --strict'
	@$(BIN)/mypy

## make bench      the benchmarks against the peers, from an installed wheel
bench: $(STAMP)
	@$(BIN)/python benchmarks/run.py

$(STAMP): requirements/dev.txt requirements/tools.txt pyproject.toml
	@command -v git >/dev/null || { echo 'git is not installed' >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo 'Python 3.11 or newer is needed; say make PYTHON=…' >&2; exit 1; }
	@echo '== making $(VENV) (once; about a minute)'
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements/tools.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

## make docs       make docs/reference/cli.md anew from the commands' own help
docs: $(STAMP)
	@$(BIN)/python docs/make_cli.py > docs/reference/cli.md.new && mv docs/reference/cli.md.new docs/reference/cli.md

## make lock       lock the requirements anew (needs pip-tools and npm)
lock:
	@for name in runtime dev server build supply; do pip-compile --quiet --generate-hashes --no-emit-index-url --no-emit-trusted-host \
	  --no-emit-find-links --allow-unsafe --strip-extras -o requirements/$$name.txt requirements/$$name.in; done
	@for name in tools foreign; do { \
	  grep '^#' requirements/$$name.txt; \
	  while read -r package; do dir=$$(mktemp -d); \
	    pip download --quiet --no-deps --only-binary :all: --python-version 3.12 --dest $$dir "$$package" >&2; \
	    echo "$$package \\"; pip hash $$dir/*.whl | sed -n 's/^--hash=/    &/p'; rm -r $$dir; \
	  done < requirements/$$name.in; } > requirements/$$name.new && mv requirements/$$name.new requirements/$$name.txt; done
	@cd tests/tools && npm install --package-lock-only --ignore-scripts --omit-lockfile-registry-resolved --silent

## make audit      ask the advisory database about everything that is locked (needs the network beyond the registries)
audit: $(SUPPLY)
	@for name in runtime server dev; do echo "== $$name"; \
	  $(VENV)-supply/bin/pip-audit --strict --require-hashes --disable-pip -r requirements/$$name.txt || exit 1; done

## make sbom       dist/zopp.cdx.json: what the wheel needs, from the lock file, as CycloneDX
sbom: $(SUPPLY)
	@mkdir -p dist
	@$(VENV)-supply/bin/cyclonedx-py requirements requirements/runtime.txt --pyproject pyproject.toml --output-reproducible \
	  --of JSON -o dist/zopp.cdx.json && echo dist/zopp.cdx.json

## make wheel      build the wheel twice, in two places, and fail unless the bytes are the same
wheel: $(STAMP)
	@PYTHON=$(CURDIR)/$(BIN)/python deploy/wheel.sh dist

$(SUPPLY): requirements/supply.txt
	@$(PYTHON) -m venv $(VENV)-supply
	@$(VENV)-supply/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/supply.txt
	@touch $@

clean:
	rm -rf $(VENV) $(VENV)-supply build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
