# The two commands of the README, and what they need.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
WORK_DIR ?= runs/digits

.PHONY: demo test test-slow lint format

demo: $(VENV)/installed
	$(BIN)/python -m tpu_scripts.iterate --recipe=digits --work_dir=$(WORK_DIR)

test: lint
	$(BIN)/python -m pytest --numprocesses=2 --dist=worksteal

test-slow: $(VENV)/installed-peers
	$(BIN)/python -m pytest -m slow

lint: $(VENV)/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy

format: $(VENV)/installed-test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(VENV)/installed: requirements.txt requirements-corruptions.txt
	$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14) and \
	    "Python 3.11 to 3.13 is needed: make PYTHON=python3.11 …")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --requirement requirements.txt
	$(BIN)/pip install --quiet --no-deps --requirement requirements-corruptions.txt
	touch $@

$(VENV)/installed-test: $(VENV)/installed requirements-test.txt
	$(BIN)/pip install --quiet --requirement requirements-test.txt
	touch $@

$(VENV)/installed-peers: $(VENV)/installed-test requirements-peers.txt
	$(BIN)/pip install --quiet "torch>=2.6" huggingface_hub distributed
	$(BIN)/pip install --quiet --no-deps --requirement requirements-peers.txt
	touch $@
