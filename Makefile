# Every target works on a bare machine with python3 (3.11 or later), git and make, asks nothing,
# and is quick when it is run again.

PYTHON ?= python3
VENV ?= .venv
WORKERS ?= 2
PY := $(VENV)/bin/python

export PYTHON VENV
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_NO_INPUT := 1
# Wheels of 100 MB on slow lines.
export PIP_DEFAULT_TIMEOUT ?= 180
export UV_HTTP_TIMEOUT ?= 180
# Nothing leaves the machine.
export DO_NOT_TRACK := 1
export PREFECT_SERVER_ANALYTICS_ENABLED := false

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help install test quick lint types notebooks copies demo lab bench clean

help: ## say what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# --- what has to be there ---------------------------------------------------------------------

# uv is quicker; pip is there when uv cannot reach or read the index that pip is configured for.
# Bytecode as pip makes it: where Python may not write its own, each of the hundreds of kernels and
# scripts of the suite would compile Prefect again.
pip_install = $(PY) -m uv pip install --quiet --compile-bytecode --python $(PY) $(1) \
	|| { echo "uv could not; pip tries"; $(PY) -m pip install --quiet $(1); }

$(VENV)/.made: scripts/need.sh
	@sh scripts/need.sh python
	@$(PY) -m uv --version >/dev/null 2>&1 || $(PY) -m pip install --quiet uv || true
	@touch $@

$(VENV)/.demo: $(VENV)/.made pyproject.toml
	@echo "installing pulpo and what its notebooks import into $(VENV)"
	@$(call pip_install,-e '.[notebooks]')
	@# The font cache is built once, here, and not in the middle of somebody's cell.
	@$(PY) -c 'import matplotlib.font_manager' 2>/dev/null
	@touch $@

$(VENV)/.dev: $(VENV)/.made pyproject.toml
	@echo "installing pulpo and its development tools into $(VENV)"
	@$(call pip_install,-e '.[dev$(,)notebooks]')
	@$(PY) -c 'import matplotlib.font_manager' 2>/dev/null
	@touch $@ $(VENV)/.demo

node_modules/.made: .npmrc package.json package-lock.json
	@sh scripts/need.sh node
	@echo "installing eslint into node_modules"
	@npm ci --no-audit --no-fund --ignore-scripts --loglevel=error >/dev/null
	@touch $@

$(VENV)/.lab: $(VENV)/.demo
	@$(call pip_install,-e '.[lab$(,)notebooks]')
	@touch $@

$(VENV)/.bench: $(VENV)/.demo
	@$(call pip_install,-e '.[benchmarks$(,)notebooks]')
	@touch $@

, := ,

install: $(VENV)/.dev ## make .venv with pulpo and its development tools

# --- checks -----------------------------------------------------------------------------------

test: $(VENV)/.dev ## everything: lint, types, tests, browser tests, notebooks
	@sh scripts/need.sh graphviz chromium
	@$(MAKE) --no-print-directory lint types copies
	@# One process for tests and notebooks, so that the closing line counts them all; by file,
	@# because the cells of one notebook share a kernel.
	@$(PY) -m pytest tests $(NBVAL) -n $(WORKERS) --dist loadfile --no-loadscope-reorder

quick: lint types ## lint, types and the tests that need no server and no browser
	@$(PY) -m pytest -p no:nbval -n $(WORKERS) --dist loadfile -m "not slow and not browser and not prefect"

notebooks: $(VENV)/.dev copies ## run the notebooks and compare what comes out
	@sh scripts/need.sh graphviz
	@$(PY) -m pytest $(NBVAL) -n $(WORKERS) --dist loadfile

NBVAL = --nbval $(COPIES)/*/*.ipynb --nbval-current-env --nbval-sanitize-with pulpo/nbval.cfg \
	--nbval-cell-timeout 300
COPIES := build/notebooks

# Each notebook in a folder of its own: all of them export to run_cache/ where they stand.
copies:
	@rm -rf $(COPIES)
	@for notebook in notebooks/*.ipynb; do \
		to=$(COPIES)/$$(basename $$notebook .ipynb); \
		mkdir -p $$to && cp -R notebooks/. $$to && rm -rf $$to/run_cache $$to/*.ipynb && \
		cp $$notebook $$to || exit 1; \
	done

NO_NODE := $(filter 1,$(PULPO_NO_NODE))
ESLINT := node_modules/.bin/eslint --max-warnings 0 eslint.config.js pulpo

lint: $(VENV)/.dev $(if $(NO_NODE),,node_modules/.made) ## ruff and eslint
	@$(PY) -m ruff check
	@$(PY) -m ruff format --check
	@$(if $(NO_NODE),echo "PULPO_NO_NODE=1: JavaScript is not linted",$(ESLINT))

types: $(VENV)/.dev ## mypy
	@$(PY) -m mypy

# --- use --------------------------------------------------------------------------------------

demo: $(VENV)/.demo ## two cities' temperatures: notebook, graph, run, export, run of the export
	@sh scripts/need.sh graphviz
	@$(PY) scripts/demo.py

lab: $(VENV)/.lab ## the notebooks in JupyterLab
	@sh scripts/need.sh graphviz
	$(PY) -m jupyter lab --notebook-dir notebooks

bench: $(VENV)/.bench ## pulpo against its peers, in one run
	@for script in benchmarks/[a-z]*.py; do echo "== $$script"; $(PY) $$script || exit 1; done

clean: ## remove caches, node_modules and what the demo left, keep .venv
	@rm -rf build dist node_modules .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@find . -path ./$(VENV) -prune -o -type d -name __pycache__ -print | xargs rm -rf
