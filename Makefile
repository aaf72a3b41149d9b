# Everything a developer does, by name. `make help` lists it.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Node and npm of the wheel, whatever else the machine has.
WITH_NODE := PATH="$(CURDIR)/$(BIN):$$PATH"
PYTHON_CONTRACT := clients/python/src/inglenook_client/contract
ROUNDS ?= 10
# Files of tests that run at once, each worker on a stack of its own: they wait more than they work.
JOBS ?= 3

.DEFAULT_GOAL := help
.PHONY: help install protos clients web browser run certs test torture bench lint format locks clean

help: ## List the targets.
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "%-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(VENV)/.installed generated/inglenook.binpb ## Install everything into .venv and compile the contract.

protos: $(VENV)/.installed ## Compile the contract into generated/.
	$(BIN)/python -m contract.compile
	$(BIN)/python -m contract.reference
	$(BIN)/python -m contract.python $(PYTHON_CONTRACT)

clients: install clients/typescript/dist/index.js ## Build the typed clients.

web: install web/dist/index.html ## Build the web app.

browser: ## Make sure that there is a Chromium for the tests in a browser.
	@command -v chromium >/dev/null || \
		{ [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && \
			apt-get update -qq && apt-get install -qq -y --no-install-recommends chromium >/dev/null; } || \
		{ echo "The tests in a browser need Chromium: install your system's package \`chromium\`."; exit 1; }

run: install ## Run everything on this machine: PostgreSQL, the services, the gateway, the web app.
	@$(MAKE) --no-print-directory web || \
		echo "There is no web app, since it could not be built (the reason is above); all else runs."
	@exec $(BIN)/python -m local run

certs: install ## Make certificates for the parts of `make run`, which speak TLS with each other from then on.
	$(BIN)/python -m deploy.certificates $(or $(INGLENOOK_HOME),.inglenook)/secrets/certificates

test: install lint web browser ## Run every check and every test, on a PostgreSQL of their own.
	$(WITH_NODE) npm run check --silent
	$(WITH_NODE) npm test --silent
	$(BIN)/python -m pytest --numprocesses $(JOBS) --dist loadfile

torture: install ## Run the fault tests for as many rounds as asked: make torture ROUNDS=50.
	INGLENOOK_TORTURE_ROUNDS=$(ROUNDS) $(BIN)/python -m pytest tests/faults

bench: install ## Measure the budget and write docs/benchmarks.md; QUICK=1 for a rough run.
	@$(BIN)/python -m bench $(if $(QUICK),--quick)

lint: install ## Check formatting, style and types.
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: install ## Format the code and the protos.
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/buf format --write protos

locks: install ## Resolve the dependencies anew into requirements/*.lock.
	$(BIN)/uv pip compile requirements/installer.in --universal --python-version 3.11 \
		--upgrade --generate-hashes --no-header --quiet --output-file requirements/installer.lock
	$(BIN)/uv pip compile pyproject.toml --all-extras \
		--group contract --group local --group bench --group test \
		--universal --python-version 3.11 \
		--upgrade --generate-hashes --no-header --quiet --output-file requirements/everything.lock
	$(BIN)/uv pip compile pyproject.toml --all-extras --constraint requirements/everything.lock \
		--universal --python-version 3.11 \
		--generate-hashes --no-header --quiet --output-file requirements/services.lock
	$(BIN)/uv pip compile pyproject.toml --group gateway --constraint requirements/everything.lock \
		--universal --python-version 3.11 \
		--generate-hashes --no-header --quiet --output-file requirements/gateway.lock

clean: ## Remove what was installed and compiled; data and keys in .inglenook/ stay.
	rm -rf $(VENV) generated $(PYTHON_CONTRACT) .mypy_cache .ruff_cache .pytest_cache .hypothesis
	rm -rf node_modules clients/typescript/src/generated clients/typescript/dist web/dist

$(VENV)/.installed: requirements/installer.lock requirements/everything.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Inglenook needs Python 3.11 or newer; set PYTHON=python3.x")'
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes \
		--requirement requirements/installer.lock
	UV_PYTHON_DOWNLOADS=never $(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes \
		--requirement requirements/everything.lock
	@$(BIN)/python -c 'import pathlib, sysconfig; here = pathlib.Path.cwd(); \
		pathlib.Path(sysconfig.get_path("purelib"), "inglenook.pth").write_text( \
		f"{here}\n{here}/generated\n{here}/clients/python/src\n")'
	@touch $@

generated/inglenook.binpb: $(VENV)/.installed $(shell find protos -name '*.proto') $(wildcard contract/*.py contract/*.css)
	$(BIN)/python -m contract.compile
	$(BIN)/python -m contract.reference
	$(BIN)/python -m contract.python $(PYTHON_CONTRACT)

clients/typescript/dist/index.js: node_modules/.installed generated/inglenook.binpb contract/typescript.py \
		$(shell find clients/typescript/src -path '*/generated' -prune -o -type f -print)
	$(WITH_NODE) $(BIN)/python -m contract.typescript node_modules/.bin/protoc-gen-es clients/typescript/src/generated
	$(WITH_NODE) npm run build --silent --workspace clients/typescript

web/dist/index.html: clients/typescript/dist/index.js web/index.html web/vite.config.ts \
		$(shell find web/src -type f)
	$(WITH_NODE) npm run build --silent --workspace web -- --logLevel warn

node_modules/.installed: package-lock.json | $(VENV)/.installed
	$(WITH_NODE) npm ci --loglevel error
	@touch $@
