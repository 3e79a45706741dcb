# The commands of a working day.  `make run` and `make test` need nothing but Python 3.11 or newer.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
COOLDOWN ?= $(shell date -u -d '7 days ago' +%Y-%m-%dT00:00:00Z)

.PHONY: install run test coverage lint bench lock clean help

help:            ## list the commands
	@grep -hE '^[a-z]+: .*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

install: $(VENV)/.installed  ## make .venv with the locked dependencies

$(VENV)/.installed: requirements-dev.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make PYTHON=python3.12 install"; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "Python's venv module is missing: apt install python3-venv (or your system's package of that name)"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all: -r requirements-dev.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

run: install     ## start the gateway; with no upstream key, on the sandbox
	@PATH="$(CURDIR)/$(BIN):$$PATH" sh deploy/demo.sh

test: install    ## run the whole suite
	$(BIN)/python -m pytest -n 3

coverage: install  ## run it traced, and fail where less of the package is covered than pyproject.toml asks
	$(BIN)/python -m coverage erase
	$(BIN)/python -m coverage run -m pytest -n 3 --timeout 180
	$(BIN)/python -m coverage combine --quiet
	$(BIN)/python -m coverage report

lint: install    ## ruff and mypy
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

bench: install   ## measure what a call costs; needs nginx and wrk; AGAINST=FOLDER beside another checkout
	$(BIN)/python -m benchmarks.run $(CASES) $(if $(AGAINST),--against "$(AGAINST)") $(if $(ROUNDS),--rounds $(ROUNDS))

lock:            ## resolve the dependencies again; needs uv; nothing younger than a week is taken
	uv pip compile --universal --python-version 3.11 --no-strip-extras --generate-hashes --no-header --no-annotate --exclude-newer $(COOLDOWN) pyproject.toml -o requirements.lock
	uv pip compile --universal --python-version 3.11 --no-strip-extras --generate-hashes --no-header --no-annotate --exclude-newer $(COOLDOWN) --extra dev pyproject.toml -o requirements-dev.lock

clean:           ## forget the virtual environment and the demo's data
	rm -rf $(VENV) .gateway
