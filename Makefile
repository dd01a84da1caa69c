# shardprep: `make demo` shows what it does, `make test` checks that it does it; both need Python 3.11+ and nothing else.

PYTHON ?= python3
VIDEOS ?= $(DEMO)/videos
SEED ?= 0
COUNT ?= 100
MINUTES ?= 120
JOBS ?= 2

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt
DEMO := build/demo
# Bars on a terminal; elsewhere only what comes of it.
LOG := $(shell [ -t 2 ] && echo auto || echo summary)
BENCHES := cut fused identity memory import growth

.PHONY: help demo test check prove mutants golden doc-tables bench $(addprefix bench-,$(BENCHES)) clean

help:
	@echo 'make demo             four sample videos (one of them broken), from raw files to training shards (VIDEOS=folder: your own)'
	@echo 'make test             make check, then the tests, two files at a time (JOBS=2)'
	@echo 'make check            ruff, mypy, the floors'
	@echo 'make prove            the longer proofs (kills, growth, whole runs)'
	@echo 'make mutants          small wrong changes to the code: do the tests notice? SEED=0 COUNT=100 MINUTES=120'
	@echo 'make golden           against the numbers of the reference systems, where ../shared/golden is there'
	@echo 'make bench            every benchmark; one alone: $(addprefix bench-,$(BENCHES))'
	@echo 'make doc-tables      write the tables in README.md and docs/ anew'
	@echo 'make clean            remove build/ and caches; $(VENV) stays'

# --- the virtual environment, in three layers; each is made once and again when pyproject.toml or constraints.txt change

$(VENV)/.made:
	@command -v $(PYTHON) >/dev/null || { echo '$(PYTHON) is not there. Install Python 3.11 or newer, or name one: make PYTHON=/path/to/python3.12' >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "shardprep needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) -V 2>&1). Name a newer one: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo 'Python has no venv module here. On Debian and Ubuntu: apt install python3-venv' >&2; exit 1; }
	@echo 'making $(VENV)'
	@$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.core: $(VENV)/.made pyproject.toml constraints.txt
	@echo 'installing the core (no torch)'
	@$(PIP) --quiet -e .
	@touch $@

$(VENV)/.models: $(VENV)/.core
	@echo 'installing torch and model libraries, about 6 GB; this takes a while'
	@$(PIP) --quiet -e '.[models]'
	@touch $@

$(VENV)/.lint: $(VENV)/.core
	@echo 'installing the checkers'
	@$(PIP) --quiet ruff mypy import-linter
	@touch $@

$(VENV)/.dev: $(VENV)/.models
	@echo 'installing what the tests need'
	@$(PIP) --quiet -e '.[models,decord,s3,dev]'
	@touch $@ $(VENV)/.lint

# --- what people run

demo: $(VENV)/.core
	@if [ '$(VIDEOS)' = '$(DEMO)/videos' ]; then $(BIN)/python -m shardprep.testing.videos $(DEMO)/videos; fi
	@echo; echo '== 1 of 2: cut, score and pack; the core alone =='
	@$(BIN)/shardprep run recipes/first-clips.yaml --input '$(VIDEOS)' --output $(DEMO)/first --log $(LOG)
	@$(MAKE) --no-print-directory $(VENV)/.models
	@echo; echo '== 2 of 2: every kind of step, with tiny random models of the real architectures =='
	@$(BIN)/shardprep run recipes/quickstart.yaml --input '$(VIDEOS)' --output $(DEMO)/out --log $(LOG)
	@echo; echo '== the training shards are in $(DEMO)/out/train; one batch of them, read with plain webdataset =='
	@$(BIN)/python examples/read_batch.py $(DEMO)/out/train
	@echo; echo '== three commands to try next =='
	@echo '$(BIN)/shardprep table $(DEMO)/first/scores --sort "scores.flow DESC"'
	@echo '$(BIN)/shardprep show broken.mp4 --output $(DEMO)/first'
	@echo '$(BIN)/shardprep plan recipes/first-clips.yaml --input $(VIDEOS) --output $(DEMO)/first --set steps.clips.cut_clips.crf=23'

test: check $(VENV)/.dev
	@$(BIN)/python -m pytest -n $(JOBS) --dist loadfile

check: $(VENV)/.lint
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo

prove: $(VENV)/.dev
	@$(BIN)/python -m pytest -m prove --timeout 3600

mutants: $(VENV)/.dev
	@$(BIN)/python -m tests.mutants --seed $(SEED) --count $(COUNT) --minutes $(MINUTES)

golden: $(VENV)/.dev
	@if [ -d ../shared/golden ]; then $(BIN)/python -m pytest -q tests/golden; else echo 'golden: ../shared/golden is not there; nothing was compared'; fi

doc-tables: $(VENV)/.core
	@$(BIN)/python -m tests.doc_tables

bench: $(addprefix bench-,$(BENCHES))

$(addprefix bench-,$(BENCHES)): bench-%: $(VENV)/.dev
	@echo '== $@ =='
	@$(BIN)/python -m tests.bench.$(patsubst import,import_,$*)

clean:
	rm -rf build dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find shardprep tests examples -name __pycache__ -type d -prune -exec rm -rf {} +
