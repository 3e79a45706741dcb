# The commands of a working day.  `make run` and `make test` need nothing but Python 3.11 or newer.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
COOLDOWN ?= $(shell date -u -d '7 days ago' +%Y-%m-%dT00:00:00Z)

SDKS := .sdks
SDK_SETS := newest older frameworks
LOCKS := tests/sdks/locks
UV := $(SDKS)/uv/bin/uv

.PHONY: install run test coverage test-sdks lint bench lock lock-sdks clean help

help:            ## list the commands
	@grep -hE '^[a-z-]+: .*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

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
	$(BIN)/python -m pytest -n 4

coverage: install  ## run it traced, and fail where less of the package is covered than pyproject.toml asks
	$(BIN)/python -m coverage erase
	$(BIN)/python -m coverage run -m pytest -n 3 --timeout 180
	$(BIN)/python -m coverage combine --quiet
	$(BIN)/python -m coverage report

test-sdks: install $(SDK_SETS:%=$(SDKS)/%/.installed) $(SDKS)/node/.installed  ## drive the gateway with the vendors' own SDKs and tools; needs npm
	$(BIN)/python -m pytest -n 2 --dist loadfile tests/sdks

$(SDKS)/uv/.installed: $(LOCKS)/uv.lock | install
	$(BIN)/python -m venv --without-pip $(@D)
	$(BIN)/python -m pip --python $(@D)/bin/python install --quiet --disable-pip-version-check --require-hashes --only-binary :all: -r $<
	@touch $@

$(SDK_SETS:%=$(SDKS)/%/.installed): $(SDKS)/%/.installed: $(LOCKS)/%.lock $(SDKS)/uv/.installed
	$(UV) venv --quiet --no-project --clear --python $(BIN)/python $(@D)
	$(UV) pip install --quiet --python $(@D)/bin/python --require-hashes --only-binary :all: -r $<
	@touch $@

$(SDKS)/node/.installed: tests/sdks/package.json tests/sdks/package-lock.json
	@command -v npm >/dev/null || { echo "npm is missing: apt install npm (or your system's package of that name)"; exit 1; }
	@mkdir -p $(@D) && cp $^ $(@D)
	cd $(@D) && npm ci --ignore-scripts --silent --no-audit --no-fund
	@touch $@

lint: install    ## ruff and mypy
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

bench: install   ## measure what a call costs; needs nginx and wrk; AGAINST=FOLDER beside another checkout
	$(BIN)/python -m benchmarks.run $(CASES) $(if $(AGAINST),--against "$(AGAINST)") $(if $(ROUNDS),--rounds $(ROUNDS))

lock:            ## resolve the dependencies again; needs uv; nothing younger than a week is taken
	uv pip compile --universal --python-version 3.11 --no-strip-extras --generate-hashes --no-header --no-annotate --exclude-newer $(COOLDOWN) pyproject.toml -o requirements.lock
	uv pip compile --universal --python-version 3.11 --no-strip-extras --generate-hashes --no-header --no-annotate --exclude-newer $(COOLDOWN) --extra dev pyproject.toml -o requirements-dev.lock

lock-sdks: $(SDKS)/uv/.installed $(SDKS)/node/.installed  ## resolve what test-sdks installs again, by the same rule
	for set in uv $(SDK_SETS); do $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --exclude-newer $(COOLDOWN) --upgrade $(LOCKS)/$$set.in -o $(LOCKS)/$$set.lock || exit 1; done
	cp tests/sdks/package.json $(SDKS)/node && rm -f $(SDKS)/node/package-lock.json
	cd $(SDKS)/node && PATH="$$PWD/node_modules/.bin:$$PATH" npm install --package-lock-only --ignore-scripts --omit-lockfile-registry-resolved --before $(COOLDOWN) --silent
	cp $(SDKS)/node/package-lock.json tests/sdks

clean:           ## forget the virtual environment and the demo's data
	rm -rf $(VENV) $(SDKS) .gateway
