# One command each, from a fresh clone: what is missing is installed first (scripts/setup.sh says what).

.DEFAULT_GOAL := help
.PHONY: help demo test lint fuzz bench clean
SHELL := /bin/bash

# Arguments for pytest: make test ARGS="-k differential"
ARGS ?=

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' Makefile

demo: ## build, push and run a real Dockerfile from a real base image, in under five minutes
	@scripts/setup.sh demo
	@scripts/venv.sh run
	@scripts/setup.sh apparmor
	@scripts/demo.sh

test: ## every test, as every kind of user that this machine lets us be
	@scripts/setup.sh test
	@scripts/venv.sh dev
	@scripts/setup.sh apparmor
	@scripts/test.sh $(ARGS)

lint: ## ruff, mypy --strict and the import contract
	@scripts/venv.sh dev
	@scripts/lint.sh

fuzz: ## feed the Dockerfile reader nonsense for a while; ARGS="-max_total_time=600"
	@scripts/venv.sh dev
	@.venv/bin/python3 -m pip install --quiet --disable-pip-version-check 'atheris>=2.3'
	@.venv/bin/python3 tests/fuzz/fuzz_dockerfile.py $(or $(ARGS),-max_total_time=45)

bench: ## pybuild beside the builders found here, in turn; ARGS="--quick" for a short look
	@scripts/venv.sh run
	@benchmarks/run.sh $(ARGS)

clean: ## remove what these targets made in this folder
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
