# Everything runs in .venv, which the first target that needs it makes.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/installed

# make compare MODEL=model.pt DATA=/data/val RUNTIMES=torch,ort PRECISIONS=fp32,int8 RUNS=200 OUT=runs/mine ARGS='--strict'
MODEL ?=
ARGS  ?=
COMPARE = $(MODEL) $(if $(DATA),--data '$(DATA)') $(if $(RUNTIMES),--runtimes '$(RUNTIMES)') \
          $(if $(PRECISIONS),--precisions '$(PRECISIONS)') $(if $(RUNS),--runs $(RUNS)) $(if $(OUT),--out '$(OUT)') $(ARGS)

.PHONY: help install compare export doctor test check format benchmark clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  \1|/' | column -t -s '|'

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "rtbench needs Python 3.10 or newer: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --constraint constraints.txt --editable '.[sample,mlperf,dev]'
	touch $@

install: $(STAMP) ## make .venv with everything pinned

compare: $(STAMP) ## run the comparison: of the built-in sample, or of MODEL=
	$(BIN)/rtbench compare $(COMPARE)

export: $(STAMP) ## write the artifacts of MODEL=
	$(BIN)/rtbench export $(MODEL) $(ARGS)

doctor: $(STAMP) ## say what this machine can run
	$(BIN)/rtbench doctor

test: $(STAMP) ## run all tests
	$(BIN)/python -m pytest $(ARGS)

check: $(STAMP) ## lint, formatting and types
	$(BIN)/ruff check rtbench tests benchmarks
	$(BIN)/ruff format --check rtbench tests benchmarks
	$(BIN)/mypy

format: $(STAMP) ## format the code
	$(BIN)/ruff check --fix rtbench tests benchmarks
	$(BIN)/ruff format rtbench tests benchmarks

benchmark: $(STAMP) ## run BENCH=main_job with the images in DATA=
	$(BIN)/python benchmarks/$(BENCH).py $(if $(DATA),--data '$(DATA)') $(ARGS)

clean: ## remove .venv and caches; runs/ and engines/ stay
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache build *.egg-info
