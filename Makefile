# Everything a developer does, by name. `make help` lists it.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help install protos clients run test bench lint format locks clean

help: ## List the targets.
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "%-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(VENV)/.installed generated/inglenook.binpb ## Install everything into .venv and compile the contract.

protos: $(VENV)/.installed ## Compile the contract into generated/.
	$(BIN)/python -m contract.compile

clients: install node_modules/.installed ## Build the TypeScript client; needs Node.
	$(BIN)/python -m contract.typescript node_modules/.bin/protoc-gen-es clients/typescript/src/generated
	npm run build --silent --workspace clients/typescript

run: install ## Run everything on this machine: PostgreSQL, the services and the gateway.
	@exec $(BIN)/python -m local run

test: install lint clients ## Run every check and every test, on a PostgreSQL of their own.
	npm run check --silent
	npm test --silent
	$(BIN)/python -m pytest

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

clean: ## Remove what was installed and compiled; data and keys in .inglenook/ stay.
	rm -rf $(VENV) generated .mypy_cache .ruff_cache .pytest_cache .hypothesis
	rm -rf node_modules clients/typescript/src/generated clients/typescript/dist web/dist

$(VENV)/.installed: requirements/installer.lock requirements/everything.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Inglenook needs Python 3.11 or newer; set PYTHON=python3.x")'
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes \
		--requirement requirements/installer.lock
	UV_PYTHON_DOWNLOADS=never $(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes \
		--requirement requirements/everything.lock
	@$(BIN)/python -c 'import pathlib, sysconfig; here = pathlib.Path.cwd(); \
		pathlib.Path(sysconfig.get_path("purelib"), "inglenook.pth").write_text(f"{here}\n{here}/generated\n")'
	@touch $@

generated/inglenook.binpb: $(VENV)/.installed $(shell find protos -name '*.proto') contract/compile.py
	$(BIN)/python -m contract.compile

node_modules/.installed: package-lock.json
	@node -e 'process.exit(parseInt(process.versions.node) < 20 ? 1 : 0)' 2>/dev/null || { \
		echo "The TypeScript client and the web app need Node 20 or newer: https://nodejs.org has it," \
			"and so has \`apt-get install nodejs npm\`. Everything else runs without."; exit 1; }
	npm ci --loglevel error
	@touch $@
