# make demo   train, evaluate and predict on real pictures, from nothing, in a few minutes
# make test   everything that must hold: ruff, mypy, import-linter, the documentation, pytest
# make fuzz   damaged weights, pictures, data sets, recipes and requests: some twenty minutes; FUZZ="--pictures 500" shortens it
# make clean  remove .venv and what the two left behind
#
# Both install into .venv, with the versions of constraints.txt. PYTHON=... chooses the interpreter, DEMO="--model cmt_nano" adds
# arguments to the demo.

VENV := .venv
BIN := $(VENV)/bin
INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
# One thread per test process: two processes on two cores are fastest so.
ONE_THREAD := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1

.PHONY: demo test fuzz clean
.DELETE_ON_ERROR:

demo: $(VENV)/.demo
	$(BIN)/hybridvit demo $(DEMO)

test: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	$(ONE_THREAD) $(BIN)/pytest -n 2 -q

fuzz: $(VENV)/.dev
	$(ONE_THREAD) $(BIN)/python benchmarks/fuzz_weights.py --files 5000
	$(ONE_THREAD) $(BIN)/python benchmarks/fuzz.py $(FUZZ)

clean:
	rm -rf $(VENV) build src/*.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis

$(VENV)/.demo: $(BIN)/python pyproject.toml constraints.txt
	@echo "Installing hybridvit and its libraries into $(VENV) (a few minutes, most of it downloads) ..."
	$(INSTALL) --editable ".[demo]"
	@touch $@

$(VENV)/.dev: $(BIN)/python pyproject.toml constraints.txt
	@echo "Installing hybridvit, its libraries and the development tools into $(VENV) (a few minutes, most of it downloads) ..."
	$(INSTALL) --editable ".[dev]"
	@touch $@ $(VENV)/.demo

# The first interpreter that is new enough and can make environments with pip in them (Debian splits that off).
$(BIN)/python:
	@for python in $(PYTHON) python3.13 python3.12 python3.11 python3; do \
	  if $$python -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	    echo "Making $(VENV) with `$$python --version`"; \
	    $$python -m venv $(VENV) && exit 0; rm -rf $(VENV); exit 1; \
	  fi; \
	done; \
	echo "No Python 3.11 or newer with venv was found. Install one (Debian, Ubuntu: apt install python3 python3-venv)," >&2; \
	echo "or name it: make PYTHON=/path/to/python3.11 demo" >&2; \
	exit 1
