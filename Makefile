# make setup   a virtual environment in .venv with everything the rest needs
# make demo    train the small 1D model for some minutes and leave runs/demo/index.html
# make test    the tests, docstrings' examples included; PYTEST="-k words" and the like are handed on
# make sanitize   the kernels under GCC's address, undefined-behaviour and thread sanitizers; minutes
# make gpu-check   the CUDA and Triton kernels on this machine's GPU, with the PYTHON that has PyTorch; no network, 9 minutes
# make docs    the documentation as static pages in build/site
# PYTHON= chooses the interpreter (3.11 or later), TORCH= the torch to install; both count when .venv is made.
PYTHON ?= python3
TORCH ?= torch==2.13.0
PYTEST ?=

VENV := .venv
VENV_PYTHON := $(VENV)/bin/python
SOURCES := setup.py pyproject.toml CMakeLists.txt $(shell find csrc -name '*.cpp' -o -name '*.h' -o -name '*.cu')

.PHONY: setup demo test test-packaging sanitize gpu-check bench docs lint

setup: $(VENV)/.package

$(VENV)/.torch:
	@command -v $(PYTHON) > /dev/null || { echo "make: no $(PYTHON) here; name a Python, 3.11 or later: make PYTHON=..." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit("make: compvae_fast needs Python 3.11 or later, $(PYTHON) is %d.%d; name another: make PYTHON=..." % sys.version_info[:2] if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(VENV_PYTHON) -m pip install --quiet $(TORCH)
	@touch $@

# First torch, so that the package's own requirement finds it there; the tools of the build are in the environment too,
# so that a later build compiles only what changed.
$(VENV)/.package: $(VENV)/.torch $(SOURCES)
	$(VENV_PYTHON) -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], sep="\n")' > $(VENV)/build-requirements.txt
	$(VENV_PYTHON) -m pip install --quiet -r $(VENV)/build-requirements.txt
	@echo "building compvae_fast; its kernels take some minutes"
	$(VENV_PYTHON) -m pip install --quiet --no-build-isolation --editable '.[cli,test,bench,docs,lint]'
	@$(VENV_PYTHON) -c 'from compvae_fast import backends as b; cpu = b()["cpu"]; cpu.available or print("make: compvae_fast runs, more slowly, on its backend", b.resolve("posterior_sum_and_kl", "cpu") + ";", cpu.reason)'
	@touch $@

demo: setup
	$(VENV)/bin/compvae_fast demo --out runs/demo

test: setup
	$(VENV_PYTHON) -m pytest -m "not packaging and not sanitize" $(PYTEST)

# Builds a wheel and an sdist, installs them, with a compiler and without.
test-packaging: setup
	$(VENV_PYTHON) -m pytest tests/packaging -m packaging $(PYTEST)

# Both instruction sets over odd shapes between guard bands, threads of every kind, and faults planted to be caught.
sanitize: setup
	PATH="$(abspath $(VENV))/bin:$$PATH" $(VENV_PYTHON) -m pytest tests/csrc -m sanitize $(PYTEST)

# Builds, tests, compute-sanitizer and benchmarks; nothing is installed. Whoever has such a machine commits the results.
gpu-check:
	PYTHONPATH="$(CURDIR):$(CURDIR)/bench" $(PYTHON) -m gpu_check.check

bench: setup
	$(VENV_PYTHON) -m pytest bench --benchmark-autosave $(PYTEST)

docs: setup
	$(VENV_PYTHON) docs/build.py

lint: setup
	$(VENV_PYTHON) -m ruff check
	$(VENV_PYTHON) -m mypy
