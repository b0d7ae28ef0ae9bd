# Everything sets itself up: a virtual environment in .venv, installed again only when the requirements change.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Given on the command line only: a variable of the same name in the environment does not count.
SOURCE =
DATA =
BACKBONE =
WEIGHTS =
ALPHA =
PORT =
LARGEST =
# What is given reaches Python as it was written: neither make nor the shell reads quotes, $ or blanks in it.
unexport SOURCE DATA BACKBONE WEIGHTS ALPHA PORT LARGEST
export GIVEN_SOURCE := $(value SOURCE)
export GIVEN_DATA := $(value DATA)
export GIVEN_BACKBONE := $(value BACKBONE)$(if $(value ALPHA),-$(value ALPHA))
export GIVEN_WEIGHTS := $(value WEIGHTS)
export GIVEN_PORT := $(value PORT)
export GIVEN_LARGEST := $(value LARGEST)
SET = --set "source=$$GIVEN_SOURCE" --set "path=$$GIVEN_DATA" --set "backbone=$$GIVEN_BACKBONE" \
	--set "weights=$$GIVEN_WEIGHTS"
# What an environment holds is known by what is asked for, not by its age: a copy of the project is younger, and the same.
ASKED := $(shell cat requirements.txt constraints.txt pyproject.toml | cksum)
ASKED_COLAB := $(shell cat requirements.txt constraints-colab.txt | cksum)

# Colab's Python is 3.13; where there is none, the versions of its packages still are Colab's.
COLAB := .venv-colab
COLAB_PYTHON = $(or $(shell python3.13 -c 'import sys; print(sys.executable)' 2>/dev/null),$(PYTHON))

# The newest keras-hub pins a kagglesdk that constraints.txt excludes.
HUB := .venv-hub

.DEFAULT_GOAL := help
.PHONY: help setup $(VENV) $(COLAB) $(HUB) run run-all colab hub extras engines render book site lab app picture test soak lint audit bench clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 18

setup: ## make the virtual environment and install what is needed
	@test -x $(BIN)/python && test "$$(cat $(VENV)/.installed 2>/dev/null)" = "$(ASKED)" || $(MAKE) --no-print-directory $(VENV)

$(VENV):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
		{ echo "Python 3.10 or newer is needed; $(PYTHON) is $$($(PYTHON) --version). Try: make PYTHON=python3.12 ..."; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing the requirements into $(VENV) (some minutes, the first time) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@$(BIN)/python .ci/link.py
	@echo "$(ASKED)" > $(VENV)/.installed

run: setup ## run notebooks 00 to 08 into build/; for your own photos: make run SOURCE=folder DATA=path
	@$(BIN)/python notebooks/run.py $(SET) 00 01 02 03 04 05 06 07 08

run-all: run extras ## those, then 09 to 12, with their engines; LARGEST= is the largest gallery that 10 searches in
	@$(BIN)/python notebooks/run.py $(SET) 09 11 12
	@$(BIN)/python notebooks/run.py $(SET) --set "largest=$$GIVEN_LARGEST" 10

colab: ## run notebooks 00 to 06 on the sample into build/colab with the versions that Colab has
	@test -x $(COLAB)/bin/python && test "$$(cat $(COLAB)/.installed 2>/dev/null)" = "$(ASKED_COLAB)" || $(MAKE) --no-print-directory $(COLAB)
	@rm -rf build/colab && mkdir -p build/colab
	@$(COLAB)/bin/python notebooks/run.py --set source=sample --set backbone=VGG16Slim --set root=build/colab \
		--output build/colab 00 01 02 03 04 05 06
	@$(COLAB)/bin/python .ci/colab.py
	@$(COLAB)/bin/python -m pytest -q tests/notebooks/test_colab.py
	@$(COLAB)/bin/python -m pytest -q -m hub -k 'not series' tests/test_hub.py

$(COLAB):
	@test -x $(COLAB)/bin/python || $(COLAB_PYTHON) -m venv $(COLAB)
	@$(COLAB)/bin/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { rm -rf $(COLAB); \
		echo "Colab's versions need Python 3.11 or newer; try: make colab COLAB_PYTHON=python3.13"; exit 1; }
	@echo "Installing what Colab has into $(COLAB), on $$($(COLAB)/bin/python --version) (some minutes, the first time) ..."
	@$(COLAB)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints-colab.txt -r requirements.txt \
		gradio ipykernel keras-hub nbconvert nbformat papermill pytest
	@$(COLAB)/bin/python .ci/link.py
	@echo "$(ASKED_COLAB)" > $(COLAB)/.installed

hub: ## check the encoders of keras-hub, with its newest release, in an environment of their own
	@test -x $(HUB)/bin/python && test "$$(cat $(HUB)/.installed 2>/dev/null)" = "$(ASKED)" || $(MAKE) --no-print-directory $(HUB)
	@$(HUB)/bin/python -m pytest -q -m hub tests/test_hub.py

$(HUB):
	@test -x $(HUB)/bin/python || $(PYTHON) -m venv $(HUB)
	@echo "Installing keras-hub and what it needs into $(HUB) (some minutes, the first time) ..."
	@grep -v '^kaggle' constraints.txt > $(HUB)/constraints.txt
	@$(HUB)/bin/python -m pip install --quiet --disable-pip-version-check -c $(HUB)/constraints.txt -e '.[app,export,hub]' \
		ipykernel nbconvert nbformat papermill pytest
	@$(HUB)/bin/python .ci/link.py
	@echo "$(ASKED)" > $(HUB)/.installed

extras: setup ## install the engines of notebooks 09 and 10; Spark also needs Java 17 or newer
	@test "$$(cat $(VENV)/.extras 2>/dev/null)" = "$(ASKED)" || $(MAKE) --no-print-directory engines

engines:
	@echo "Installing the engines of notebooks 09 and 10 into $(VENV) (some minutes, the first time) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[export,scale]'
	@$(BIN)/python .ci/link.py
	@echo "$(ASKED)" > $(VENV)/.extras

render: extras ## run the notebooks on the sample and keep their outputs in notebooks/
	@$(BIN)/python notebooks/run.py --render
	@$(BIN)/ruff format --quiet notebooks
	@$(BIN)/python notebooks/book.py

book: setup ## bring titles, links and set-up of the notebooks and the README's table up to date with series.toml
	@$(BIN)/python notebooks/book.py

site: setup ## the series as static pages in build/site/
	@$(BIN)/python notebooks/web.py

lab: setup ## open the notebooks in JupyterLab
	@$(BIN)/python -m jupyterlab notebooks

app: setup ## open the page on the sample, or on your own photos: make app SOURCE=folder DATA=path
	@$(BIN)/python -u -m lookalike.page --source="$${GIVEN_SOURCE:-auto}" --path="$$GIVEN_DATA" \
		--backbone="$${GIVEN_BACKBONE:-auto}" --weights="$${GIVEN_WEIGHTS:-auto}" \
		$${GIVEN_PORT:+--port="$$GIVEN_PORT"}

picture: setup ## take the picture of the page anew; needs Chromium
	@$(BIN)/python notebooks/picture.py

test: lint ## lint, unit tests, notebook tests, and tests in a browser where Chromium is installed
	@$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder $(PYTEST)

soak: setup ## the tests that take long: 20 kills, 5,000 damaged photos, 20 rounds in one process, every notebook as on Colab
	@$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder -m soak $(PYTEST)

audit: setup ## known vulnerabilities of the versions in constraints.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[audit]'
	@$(BIN)/python .ci/link.py
	@$(BIN)/python .ci/audit.py

lint: setup ## check style, names, imports and spelling, as before each commit
	@$(BIN)/ruff check --quiet
	@$(BIN)/python -m codespell_lib src tests benchmarks models data/sample .ci notebooks/*.py *.md
	@$(BIN)/ruff format --check --quiet || { echo "Not formatted; run: $(BIN)/ruff format"; exit 1; }

bench: setup ## Precision@K and images/s on the sample, or on DATA=path
	@$(BIN)/python benchmarks/quality.py --data="$${GIVEN_DATA:-data/sample}" \
		--backbone="$${GIVEN_BACKBONE:-auto}" --weights="$${GIVEN_WEIGHTS:-auto}"

clean: ## remove what was built; downloads, stores and models stay
	rm -rf build $(VENV) $(COLAB) $(HUB) .pytest_cache .ruff_cache .hypothesis src/*.egg-info
