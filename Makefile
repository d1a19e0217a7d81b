# Everything runs in .venv, which the first target that needs it makes.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/installed
EXTRAS ?= sample,rtx,parquet,mlperf,dev

# make compare MODEL=model.pt DATA=/data/val RUNTIMES=torch,ort PRECISIONS=fp32,int8 RUNS=200 OUT=runs/mine ARGS='--strict'
MODEL ?=
ARGS  ?=
COMPARE = $(MODEL) $(if $(DATA),--data '$(DATA)') $(if $(RUNTIMES),--runtimes '$(RUNTIMES)') \
          $(if $(PRECISIONS),--precisions '$(PRECISIONS)') $(if $(RUNS),--runs $(RUNS)) $(if $(OUT),--out '$(OUT)') $(ARGS)

# In the container, results, engines and the cache are the caller's own folders; models and images are read only, under
# the path that they have outside.
DOCKER      ?= docker
DOCKER_USER ?= $$(id -u):$$(id -g)
IMAGE       ?= rtbench
GPUS        ?= all
DOCKER_RUN   = $(DOCKER) run --rm --init $(if $(MAKE_TERMOUT),--interactive --tty) $(if $(GPUS),--gpus $(GPUS)) \
               --user "$(DOCKER_USER)" \
               --mount type=bind,src="$$PWD/runs",dst=/rtbench/runs \
               --mount type=bind,src="$$PWD/engines",dst=/rtbench/engines \
               --mount type=bind,src="$$PWD/.cache",dst=/home/rtbench/.cache \
               $(foreach path,$(filter-out $(DATA),$(MODEL_FOLDERS)),$(call read_only,$(path))) \
               $(if $(DATA),$(call read_only,$(DATA))) $(IMAGE)
read_only     = --mount type=bind,src='$(1)',dst='$(1)',readonly
MODEL_FOLDERS = $(sort $(patsubst %/,%,$(dir $(filter /%,$(MODEL)))))
model_path    = $(if $(wildcard $(1)),$(patsubst $(CURDIR)/engines/%,engines/%,$(abspath $(1))),$(1))

.PHONY: help install compare export doctor test check format benchmark pycuda gpu-check clean \
        docker-build docker-doctor docker-compare docker-gpu-check docker-test docker-smoke

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  \1|/' | column -t -s '|'

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "rtbench needs Python 3.10 or newer: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --constraint constraints.txt --editable '.[$(EXTRAS)]'
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

check: $(STAMP) $(VENV)/stubs ## lint, formatting and types
	$(BIN)/ruff check rtbench tests benchmarks
	$(BIN)/ruff format --check rtbench tests benchmarks
	$(BIN)/mypy
	$(BIN)/hadolint docker/Dockerfile

$(VENV)/stubs: $(STAMP)
	tests/tensorrt_stubs.sh $(BIN)/python

pycuda: $(STAMP) ## build pycuda, which the tests of the TensorRT runtime need, without a CUDA toolkit
	tests/build_pycuda.sh $(BIN)/python

format: $(STAMP) ## format the code
	$(BIN)/ruff check --fix rtbench tests benchmarks
	$(BIN)/ruff format rtbench tests benchmarks

benchmark: $(STAMP) ## run BENCH=main_job with the images in DATA=
	$(BIN)/python benchmarks/$(BENCH).py $(if $(DATA),--data '$(DATA)') $(ARGS)

docker-build: ## build the container image
	$(DOCKER) build --file docker/Dockerfile --tag $(IMAGE) $(ARGS) .

docker-%: override MODEL := $(foreach model,$(MODEL),$(call model_path,$(model)))
docker-%: override DATA := $(if $(DATA),$(shell realpath --canonicalize-missing --no-symlinks -- '$(DATA)'))

docker-doctor: | runs engines .cache ## say what the container can run here
	$(DOCKER_RUN) rtbench doctor

docker-compare: | runs engines .cache ## run the comparison in the container
	$(if $(filter-out runs/%,$(OUT)),$(error docker-compare keeps nothing outside runs/: give OUT=runs/NAME))
	$(DOCKER_RUN) rtbench compare $(COMPARE)

docker-gpu-check: | runs engines .cache ## run gpu-check in the container
	$(DOCKER_RUN) make gpu-check $(foreach name,MODEL DATA RUNS ARGS,$(if $($(name)),$(name)='$($(name))'))

docker-test: | runs engines .cache ## run all tests in the container
	$(DOCKER_RUN) make test ARGS='$(ARGS)'

docker-smoke: ## build and try the container without Docker or a GPU: needs root, buildah, debootstrap, 30 GB
	docker/smoke.sh

runs engines .cache:
	mkdir -p $@

# On a machine with a GPU, once: everything on every runtime, judged line by line. GPU_CHECK= names the run directory.
GPU_CHECK ?= runs/gpu-check
gpu-check: $(STAMP) ## on a GPU: run all runtimes, check what they say of themselves, PASS or FAIL
	$(BIN)/rtbench compare $(or $(MODEL),resnet18 --random-weights) --runtimes torch:cuda,ort:cuda,ort:trt,trt,torch:cpu,ort:cpu \
	    --build-repeats 2 $(if $(DATA),--data '$(DATA)') --runs $(or $(RUNS),300) --out '$(GPU_CHECK)' $(ARGS) || true
	$(BIN)/rtbench gpu-check '$(GPU_CHECK)'

clean: ## remove .venv and caches; runs/ and engines/ stay
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache build *.egg-info
