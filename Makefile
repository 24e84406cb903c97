# `make demo` and `make test` do everything on a machine with Python 3.11 to 3.13 and make; `make help` lists the rest.
PYTHON ?= python3
HOST ?= 127.0.0.1
PORT ?= 4200
# Two processes, each a file at a time, in the order of tests/conftest.py.
WORKERS := --numprocesses 2 --dist loadfile --no-loadscope-reorder --durations 25
export PATH := $(CURDIR)/.venv/bin:$(PATH)

.PHONY: help install demo up down test test-slow test-all coverage lint hooks lock clean

help:  ## List what can be made
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 10

install: .venv/.installed  ## Create .venv with everything in it

# The lock files name every library with the digests that its files may have, and nothing else is installed. But torch
# comes first, by its version alone: PyTorch's builds without CUDA differ from PyPI's, which bring CUDA libraries.
.venv/.installed: pyproject.toml constraints.txt constraints-dev.txt
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check "$$(grep --only-matching '^torch==[^ ]*' constraints.txt)"
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes \
		--requirement constraints.txt --requirement constraints-dev.txt
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

demo: .venv/.installed  ## Run the whole pipeline on the demo data set, or whatever params.yaml says has changed
	dvc repro
	cpfd results

up: .venv/.installed  ## Start a Prefect server (HOST, PORT) and a worker, and deploy prefect.yaml
	python -m flows.services up --host $(HOST) --port $(PORT)

down: .venv/.installed  ## Stop them
	python -m flows.services down

test: .venv/.installed  ## Run the tests
	python -m pytest $(WORKERS)

test-slow: .venv/.installed  ## Run the tests that take minutes: a project's first days under Prefect
	python -m pytest -m slow

test-all: .venv/.installed  ## Run both, side by side
	python -m pytest $(WORKERS) -m ''

# Also shown where a test has failed.
coverage: .venv/.installed  ## Run all tests and list lines and branches that none of them reaches, worst modules first
	coverage erase
	-coverage run -m pytest $(WORKERS) -m ''
	coverage combine --quiet
	coverage report

lint: .venv/.installed  ## Check style and types
	ruff check .
	ruff format --check .
	mypy

hooks: .venv/.installed  ## Run what `git commit` runs, on every file
	pre-commit run --all-files

# First what the pipeline needs, which decides what its stages run with; then what developers and flows need on top. torch
# comes by its exact version: left to itself, pip would take the newest, CUDA libraries included.
lock:  ## Resolve the newest allowed versions: constraints.txt for the pipeline, constraints-dev.txt for all else
	rm -rf build/lock
	$(PYTHON) -m venv build/lock
	build/lock/bin/python -m pip install --quiet torch==2.13.0 --editable .
	build/lock/bin/python -m pip freeze --exclude-editable | sed 's/+cpu$$//' > build/lock/pipeline.txt
	build/lock/bin/python -m pip install --quiet --constraint build/lock/pipeline.txt --editable '.[dev,flows]'
	build/lock/bin/python -m pip freeze --all --exclude pip --exclude-editable | sed 's/+cpu$$//' \
		| grep --invert-match --line-regexp --fixed-strings --file build/lock/pipeline.txt > build/lock/dev.txt
	build/lock/bin/python tools/hashes.py < build/lock/pipeline.txt > constraints.txt
	build/lock/bin/python tools/hashes.py < build/lock/dev.txt > constraints-dev.txt
	rm -rf build/lock

clean:  ## Remove the environment, caches and unfinished work, but no data, model or report
	rm -rf .venv .scratch build .mypy_cache .pytest_cache .ruff_cache .hypothesis
