# make run   serves with a banner that lists every URL     make test   everything that CI runs
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
CONFIG ?=
ARGS ?=

.PHONY: run test unit integration lint docs proto format bench clean

run: $(STAMP)
	$(BIN)/netapp run $(if $(CONFIG),--config $(CONFIG)) $(ARGS)

# The last command is pytest, so that its summary line is the last thing printed.
test: lint docs
	$(BIN)/python -m pytest -q --cov --cov-report=term:skip-covered --cov-report=json:.coverage.json --coverage-gate=.coverage.json tests

unit: $(STAMP)
	$(BIN)/python -m pytest -q tests --ignore=tests/integration

integration: $(STAMP)
	$(BIN)/python -m pytest -q tests/integration

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(STAMP)
	$(BIN)/sphinx-build -q -W --keep-going -b html docs docs/_build/html

proto: $(STAMP)
	$(BIN)/python -m grpc_tools.protoc -I . --python_out=. --pyi_out=. netapp/protocols/calculator.proto

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(STAMP)
	$(BIN)/python -m bench

$(STAMP): setup.py pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[dev]'
	touch $(STAMP)

clean:
	rm -rf $(VENV) build dist docs/_build *.egg-info .mypy_cache .ruff_cache .pytest_cache
