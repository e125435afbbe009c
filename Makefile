# Two commands are all the set-up: `make quickstart` and `make test`. Each makes .venv if it is missing.
PYTHON ?= python3
PIP_ARGS ?=
VENV := .venv
BIN := $(VENV)/bin

.PHONY: quickstart test check docs light clean

$(VENV)/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet $(PIP_ARGS) --constraint constraints.txt --editable ".[runtimes,dev]"
	touch $@

quickstart: $(VENV)/.installed
	$(BIN)/hwnas run

# one thread a process: torch's threads of several processes would wait for each other; neighbouring tests go to one
# process, so that what a module's tests share is made once
test: $(VENV)/.installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist worksteal

check: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy devices exporters docs examples light

# the site of the documentation, in site/: open site/index.html
docs: $(VENV)/.docs-installed
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build

$(VENV)/.docs-installed: $(VENV)/.installed
	$(BIN)/pip install --quiet $(PIP_ARGS) --constraint constraints.txt --editable ".[docs]"
	touch $@

# the wheel of hwnas-light, in dist/: without torch, see light/backend.py
light:
	$(PYTHON) -m pip wheel --quiet $(PIP_ARGS) --no-deps --wheel-dir dist ./light

clean:
	rm -rf $(VENV) build dist site *.egg-info
