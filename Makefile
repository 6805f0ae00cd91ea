# One command each, from a fresh clone: what is missing is installed first (scripts/setup.sh says what).

.DEFAULT_GOAL := help
.PHONY: help demo test lint bench clean
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

bench: ## pybuild beside the builders found here, in turn; ARGS="--quick" for a short look
	@scripts/venv.sh run
	@benchmarks/run.sh $(ARGS)

clean: ## remove what these targets made in this folder
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
