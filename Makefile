# Everything runs from a virtual environment of its own, made when there is none.
PYTHON ?= python3
VENV ?= .venv
EXTRAS ?= dev
RUNS ?= runs/demo
bin := $(VENV)/bin
ready := $(VENV)/.ready-$(EXTRAS)

.PHONY: demo test test-all bench lint clean

# Trains a ResNet on real digits with and without a regulariser, tracks its spectra and writes the report.
demo: $(ready)
	$(bin)/python -m scripts.train --flagfile=scripts/presets/digits_resnet.flags --workdir=$(RUNS)/plain
	$(bin)/python -m scripts.train --flagfile=scripts/presets/digits_resnet.flags --regularizer=so --workdir=$(RUNS)/so
	$(bin)/python -m scripts.analyze --workdir=$(RUNS)/plain,$(RUNS)/so
	$(bin)/python -m scripts.report --workdir=$(RUNS)/plain,$(RUNS)/so --out=$(RUNS)/report.html

test: $(ready)
	$(bin)/python -m pytest -n 2 --dist worksteal -m "not slow and not deep"

test-all: $(ready)
	$(bin)/python -m pytest -n 2 --dist worksteal --hypothesis-profile=random

# Every figure that README and docs quote; writes benchmarks/RESULTS.md.
bench: $(ready)
	$(bin)/python -m scripts.bench

lint: $(ready)
	$(bin)/ruff check .
	$(bin)/ruff format --check .
	$(bin)/pyright --pythonpath $(bin)/python

clean:
	rm -rf $(VENV) .venv-newest .jax_cache .measured .pytest_cache .hypothesis .ruff_cache build dist *.egg-info

$(ready): pyproject.toml .ci/constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "lax-linalg needs Python 3.11 or newer, $(PYTHON) is %d.%d; set PYTHON=python3.12 or the like" % sys.version_info[:2])'
	test -x $(bin)/python || $(PYTHON) -m venv $(VENV)
	$(bin)/python -m pip install --quiet --constraint .ci/constraints.txt --editable '.[$(EXTRAS)]'
	@touch $@
