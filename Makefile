# Everything runs in .venv, which the first target that needs it makes.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/installed
EXTRAS ?= sample
DEVELOPED = $(VENV)/developed
DEVELOPING ?= sample,timm,hf,rtx,openvino,tf,litert,parquet,mlperf,dev
PIP = $(BIN)/python -m pip install --disable-pip-version-check --quiet --constraint constraints.txt
# Without an NVIDIA driver PyTorch's CPU build will do, a twentieth of the size. CPU_TORCH= takes PyPI's all the same.
CPU_TORCH ?= $(if $(shell command -v nvidia-smi),,https://download.pytorch.org/whl/cpu)

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

.PHONY: help install develop compare export doctor test check format docs screenshots benchmark fuzz chaos mutants pycuda gpu-check clean \
        docker-build docker-doctor docker-compare docker-gpu-check docker-test docker-smoke

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  \1|/' | column -t -s '|'

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "rtbench needs Python 3.10 or newer: make PYTHON=python3.12")'
	@$(PYTHON) -c 'import sys; sys.version_info < (3, 11) and print("Python 3.10 will do on a CPU; on a GPU, ONNX Runtime needs 3.11 or newer")'
	$(PYTHON) -m venv $(VENV)
	@$(if $(CPU_TORCH),$(PIP) --no-deps --retries 0 --index-url $(CPU_TORCH) torch torchvision \
	    || echo "PyTorch's CPU build was not found: the one for NVIDIA's GPUs is installed. It runs on the CPU too.")
	$(PIP) --editable '.[$(EXTRAS)]'
	touch $@

# Tests look at the CUDA libraries that PyPI's PyTorch brings, on any machine.
$(DEVELOPED): CPU_TORCH :=
$(DEVELOPED): $(STAMP)
	! $(BIN)/python -m pip freeze | grep -q '^torch==.*+cpu' || $(BIN)/python -m pip uninstall --quiet --yes torch torchvision
	$(PIP) --editable '.[$(DEVELOPING)]'
	touch $@

install: $(STAMP) ## make .venv with everything pinned that a comparison needs; more with EXTRAS=sample,timm,openvino

develop: $(DEVELOPED) ## add what the tests and all optional parts need

compare: $(STAMP) ## run the comparison: of the built-in sample, or of MODEL=
	$(BIN)/rtbench compare $(COMPARE)

export: $(STAMP) ## write the artifacts of MODEL=
	$(BIN)/rtbench export $(MODEL) $(ARGS)

doctor: $(STAMP) ## say what this machine can run
	$(BIN)/rtbench doctor

test: $(DEVELOPED) $(VENV)/tensorrt ## run all tests
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile $(ARGS)

check: $(DEVELOPED) $(VENV)/tensorrt ## lint, formatting and types
	$(BIN)/ruff check rtbench tests benchmarks examples
	$(BIN)/ruff format --check rtbench tests benchmarks examples
	MYPYPATH=$(VENV)/tensorrt/10/types $(BIN)/mypy
	MYPYPATH=$(VENV)/tensorrt/11/types $(BIN)/mypy --cache-dir .mypy_cache/11
	$(BIN)/hadolint docker/Dockerfile

$(VENV)/tensorrt: $(DEVELOPED) tests/tensorrt_bindings.sh tests/standin/tensorrt.c
	tests/tensorrt_bindings.sh $(BIN)/python
	touch $@

pycuda: $(DEVELOPED) ## build pycuda, which the tests of the TensorRT runtime need, without a CUDA toolkit
	tests/build_pycuda.sh $(BIN)/python

format: $(DEVELOPED) ## format the code
	$(BIN)/ruff check --fix rtbench tests benchmarks examples
	$(BIN)/ruff format rtbench tests benchmarks examples

benchmark: $(DEVELOPED) ## run BENCH=main_job with the images in DATA=
	$(BIN)/python benchmarks/$(BENCH).py $(if $(DATA),--data '$(DATA)') $(ARGS)

fuzz: $(DEVELOPED) ## give bad inputs to every reader for MINUTES=30, tables on stdout
	$(BIN)/python benchmarks/fuzz.py --minutes $(or $(MINUTES),30) $(ARGS)

chaos: $(DEVELOPED) ## kill comparisons 100 times, resume them, and see that nothing is lost
	$(BIN)/python benchmarks/chaos.py $(ARGS)

mutants: $(DEVELOPED) ## change the pure modules in every place and see that their tests notice: by hand, or weekly
	$(PIP) --editable '.[mutants]'
	$(BIN)/python benchmarks/mutants.py $(ARGS)

docs: $(DEVELOPED) ## build the site of the documentation into build/site, and check its links
	rm -rf build/pages && mkdir -p build/pages
	cp --recursive --parents *.md docs benchmarks/*.md benchmarks/results examples/*/README.md engines/README.md build/pages
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

screenshots: $(DEVELOPED) ## make the README's table and the pictures of the docs anew, on a quiet machine
	$(BIN)/python benchmarks/screenshots.py

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
GPU_CHECK_RUN = $(if $(DATA),--data '$(DATA)') --runs $(or $(RUNS),300) $(ARGS)
gpu-check: $(DEVELOPED) ## on a GPU: run all runtimes, check what they say of themselves, PASS or FAIL
	@$(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11) and "on a GPU, ONNX Runtime needs Python 3.11 or newer: make clean, then make PYTHON=python3.12 gpu-check")'
	$(BIN)/rtbench compare $(MODEL) --runtimes torch:cuda,torch:cuda+channels_last+benchmark+fp16,torch+benchmark,ort:cuda,ort:trt,trt,torch:cpu,ort:cpu \
	    --build-repeats 2 --scenario single-stream $(GPU_CHECK_RUN) --out '$(GPU_CHECK)' || true
	$(BIN)/rtbench compare $(MODEL) --runtimes ort:trt $(GPU_CHECK_RUN) --out '$(GPU_CHECK)/again' || true
	$(BIN)/rtbench gpu-check '$(GPU_CHECK)'

clean: ## remove .venv and caches; runs/ and engines/ stay
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache build *.egg-info
