# `make help` lists the targets. PYTHON, TORCH_INDEX, NB and LAB_ARGS may be given on the command line.
PYTHON ?=
TORCH_INDEX ?=
NB ?=
LAB_ARGS ?=

BIN := .venv/bin
READY := .venv/.ready

# JupyterLab takes the folder of the notebook it opens for its root, where it would not see jupytext's settings, and
# refuses to run as root (as in a container) unless it is told that this is meant.
ROOT_ARGS := $(if $(filter 0,$(shell id -u)),--allow-root)

.PHONY: help setup lab test bench notebooks prose slides ledger clean
.DEFAULT_GOAL := help

help: ## show this list
	@grep -hE '^[a-z]+:.*## ' Makefile | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

setup: $(READY) ## make .venv and install everything into it
	@echo "flatlab: .venv is ready"

$(READY): pyproject.toml constraints.txt
	@PYTHON="$(PYTHON)" TORCH_INDEX="$(TORCH_INDEX)" sh tools/setup.sh
	@touch $@

lab: $(READY) ## open the course in JupyterLab
	@$(BIN)/python -m jupyterlab --config=tools/jupyter_server_config.py --ServerApp.root_dir=. \
		--LabApp.default_url=/lab/tree/notebooks/00_start_here.ipynb $(ROOT_ARGS) $(LAB_ARGS)

test: $(READY) ## lint, floors, types, unit tests, every notebook, the panels in a browser (one notebook: NB=02)
	@NB="$(NB)" sh tools/test.sh

bench: $(READY) ## time the module
	@$(BIN)/python tools/bench.py

notebooks: $(READY) ## pair, run, clean and check all notebooks (one: NB=02)
	@$(BIN)/python tools/notebooks.py build $(NB)

prose: $(READY) ## the same without running, after an edit of the text alone (one: NB=02)
	@$(BIN)/python tools/notebooks.py prose $(NB)

slides: $(READY) ## a reveal.js deck of each notebook, in build/slides
	@$(BIN)/python tools/notebooks.py slides $(NB)

ledger: $(READY) ## collect the claims of all notebooks in data/ledger.json
	@$(BIN)/python tools/notebooks.py ledger

clean: ## remove what was built (.venv stays)
	@rm -rf build dist .pytest_cache .ruff_cache .hypothesis *.egg-info
	@find flatlab tools tests notebooks -name __pycache__ -o -name .ipynb_checkpoints | xargs rm -rf
