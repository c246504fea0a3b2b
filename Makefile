# Two commands do all the set-up on a fresh machine: `make run` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PYTEST_ARGS ?= -n 2 --dist loadfile

.PHONY: run demo test bench lint clean

# The serving install: no torch.
$(VENV)/.serving: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	touch $@

$(VENV)/.testing: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test,postgres,oidc,train,imagenet]'
	touch $(VENV)/.serving $@

run: $(VENV)/.serving
	$(BIN)/prioritizer serve --config config/demo.toml

demo: $(VENV)/.serving
	$(BIN)/prioritizer demo --config config/demo.toml

test: $(VENV)/.testing lint
	$(BIN)/python -m pytest $(PYTEST_ARGS)

lint: $(VENV)/.testing
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.testing
	$(BIN)/python -m benchmarks

clean:
	rm -rf var build dist demo-results
