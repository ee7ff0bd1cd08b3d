# Every target sets up all that it needs: a virtual environment in .venv with the project and its tools.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
ARGS   ?=
KILLS  ?= 200
SEED   ?= 1

.DEFAULT_GOAL := help
.PHONY: help run test check kills bench bench-quick bench-waits bench-long bench-postgres format clean

help:
	@echo "make run     the home-care demo (make run ARGS=--once: one working day, then a summary)"
	@echo "make test    all tests"
	@echo "make check   format, lint, types, layers"
	@echo "make kills   kill -9 at 200 points, on SQLite and on PostgreSQL (make kills KILLS=1000 SEED=7)"
	@echo "make simulate   500 histories of the simulator (make simulate ARGS='--seeds 20000')"
	@echo "make bench   the benchmark, each figure beside plain SQLite's; make bench-quick: smaller, in some minutes"
	@echo "make bench-waits   how long a busy host waits because Syncline stands beside it"
	@echo "make bench-long   what a million edits leave behind (make bench-long ARGS='--edits 20000': in some minutes)"
	@echo "make bench-postgres   what it costs a PostgreSQL host (make bench-postgres ARGS=--quick: in some minutes)"
	@echo "make format  put the code into the project's format"

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Syncline needs Python 3.11 or newer; try make PYTHON=python3.12"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

run: $(STAMP)
	@$(BIN)/python -m examples.homecare $(ARGS)

test: $(STAMP)
	$(BIN)/python -m pytest -n auto $(ARGS)

kills: $(STAMP)
	SYNCLINE_TEST_KILLS=$(KILLS) SYNCLINE_TEST_SEED=$(SEED) $(BIN)/python -m pytest -s --newest tests/integration/test_kill.py tests/postgres/test_kill.py $(ARGS)

check: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

simulate: $(STAMP)
	@$(BIN)/syncline simulate --seeds 500 $(ARGS)

bench: $(STAMP)
	@$(BIN)/python -m bench $(ARGS)

bench-quick: $(STAMP)
	@$(BIN)/python -m bench --quick $(ARGS)

bench-waits: $(STAMP)
	@$(BIN)/python -m bench.host_waits $(ARGS)

bench-long: $(STAMP)
	@$(BIN)/python -m bench.long_lives $(ARGS)

bench-postgres: $(STAMP)
	@$(BIN)/python -m bench.postgres $(ARGS)

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) demo-data .mypy_cache .ruff_cache .hypothesis
