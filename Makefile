# The two commands of the README, and what they need.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Never beside one another: tensorflow-tpu and tensorflow are written to the same folder,
# and the compiler's libtpu is newer than TensorFlow's can be.
TPU_VENV := .venv-tpu
TPU_COMPILER_VENV := .venv-tpu-compiler
WORK_DIR ?= runs/digits

.PHONY: demo test test-slow torture lint format tpu-compile

demo: $(VENV)/installed
	$(BIN)/python -m tpu_scripts.iterate --recipe=digits --work_dir=$(WORK_DIR)

test: lint
	$(BIN)/python -m pytest --numprocesses=2 --dist=worksteal

test-slow: $(VENV)/installed-peers
	$(BIN)/python -m pytest -m slow

# Hours: docs/results/reliability.md.
torture: $(VENV)/installed-torture
	$(BIN)/python -m benchmarks.torture.everything

lint: $(VENV)/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy
	$(BIN)/shellcheck --external-sources tpu_scripts/*.sh

format: $(VENV)/installed-test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

tpu-compile: $(TPU_VENV)/installed $(TPU_COMPILER_VENV)/installed
	$(TPU_VENV)/bin/python -m benchmarks.tpu_compile \
	    --compiler=$(TPU_COMPILER_VENV)/bin/python

$(VENV)/installed: requirements.txt requirements-corruptions.txt
	$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14) and \
	    "Python 3.11 to 3.13 is needed: make PYTHON=python3.11 …")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --requirement requirements.txt
	$(BIN)/pip install --quiet --no-deps --requirement requirements-corruptions.txt
	touch $@

$(VENV)/installed-test: $(VENV)/installed requirements-test.txt examples/requirements-serve.txt
	$(BIN)/pip install --quiet --requirement requirements-test.txt
	touch $@

$(VENV)/installed-peers: $(VENV)/installed-test requirements-peers.txt
	$(BIN)/pip install --quiet "torch>=2.6" huggingface_hub distributed nbclient ipykernel
	$(BIN)/pip install --quiet --no-deps --requirement requirements-peers.txt
	touch $@

$(VENV)/installed-torture: $(VENV)/installed-peers
	$(BIN)/pip install --quiet "atheris>=3"
	touch $@

# As on a TPU VM: docs/tpu.md.
$(TPU_VENV)/installed: requirements-tpu.txt requirements-tpu-no-deps.txt requirements-corruptions.txt
	tpu_scripts/setup_tpu_vm.sh --venv=$(TPU_VENV) --python=$(PYTHON) --no_tpu
	touch $@

$(TPU_COMPILER_VENV)/installed: requirements-tpu-compiler.txt
	$(PYTHON) -m venv $(TPU_COMPILER_VENV)
	$(TPU_COMPILER_VENV)/bin/pip install --quiet --requirement requirements-tpu-compiler.txt
	touch $@
