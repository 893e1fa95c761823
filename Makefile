# make test       all the set-up, then linters, types and tests (what CI runs)
# make reproduce  all the set-up, then the main job: train NiN and its root variants, correlate, plot
# make caffe      a CPU Caffe with our patches, in the user's cache
# make test-fast  the tests without Caffe
# make test-slow  the long tests: Caffe's own, every architecture, the CUDA build
# make lint       ruff and mypy
# make prototxt   render prototxt/ again
# make plots      draw plots/ again: what is reported, README's net, and what is measured in benchmarks/evidence/
# make clean      remove what the others made here
#
# PYTHON=python3.12     another interpreter (3.10 or newer)
# VENV=FOLDER           the virtual environment (.venv)
# PIP_ARGS="..."        more options for pip, e.g. an index that has PyTorch's CPU-only wheels

PYTHON ?= python3
VENV ?= .venv
PIP_ARGS ?=
BIN := $(VENV)/bin
MEASURED := benchmarks/evidence/h100/results.csv
READY := $(VENV)/.ready
# two processes at a time, of one thread each: threads that share the cores would wait for each other
PYTEST_2 := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: test test-fast test-slow lint reproduce caffe prototxt plots clean help

help:
	@sed -n '/^$$/q; s/^# \{0,1\}//p' Makefile

$(READY): requirements.txt setup.py pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	  { echo "rootgen needs Python 3.10 or newer; $(PYTHON) is older: make PYTHON=python3.12 ..." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' || \
	  { echo "$(PYTHON) cannot make virtual environments: apt-get install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet $(PIP_ARGS) -r requirements.txt
	$(BIN)/python -m pip install --quiet $(PIP_ARGS) --editable .
	@touch $@

caffe: $(READY)
	$(BIN)/rootgen caffe build --apt --link

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: lint
	$(MAKE) caffe || echo "make: no Caffe here; the tests that need it are skipped, and say so" >&2
	$(PYTEST_2)

test-fast: $(READY)
	$(PYTEST_2) -m "not caffe"

test-slow: caffe
	if command -v nvcc; then $(BIN)/python -m pip install --quiet $(PIP_ARGS) -r requirements-cuda.txt; fi
	$(BIN)/python -m pytest --slow

reproduce: $(READY)
	$(BIN)/rootgen reproduce nin --engine torch --out out/nin

prototxt: $(READY)
	$(BIN)/rootgen emit --all

plots: $(READY)
	$(BIN)/rootgen plot
	$(BIN)/rootgen draw prototxt/nin/root-8/deploy.prototxt -o plots/nin_root-8.svg
	if [ -e $(MEASURED) ]; then $(BIN)/rootgen plot nin --measured $(MEASURED) -o plots/measured; fi

clean:
	rm -rf $(VENV) build dist rootgen.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
