# Kami: `make run` starts everything, `make test` checks everything. Needs Python 3.11 or newer.
.DEFAULT_GOAL := help
.PHONY: help setup run test bench format lock clean reset

help: ## Show this list
	@echo "make run [PORT=9000]   start database, queue, API, workers; Ctrl-C stops them all"
	@echo "make test              linters, types, layers and all tests"
	@echo "make bench             measure; results go to bench/results"
	@echo "make setup             only install the locked packages into .venv"
	@echo "make format            let ruff format and fix the code"
	@echo "make lock              resolve the dependencies of pyproject.toml anew"
	@echo "make clean             remove .venv and caches (the data in .kami stays)"
	@echo "make reset             remove the data in .kami: shops, orders, keys, secrets"

setup:
	@PYTHON="$(PYTHON)" bin/setup base

run:
	@PYTHON="$(PYTHON)" bin/setup base
	@exec env $(if $(PORT),KAMI_PORT="$(PORT)") bin/kami up

test:
	@PYTHON="$(PYTHON)" bin/setup dev
	@bin/test $(ARGS)

bench:
	@PYTHON="$(PYTHON)" bin/setup dev
	@.venv/bin/python -m bench $(ARGS)

format:
	@PYTHON="$(PYTHON)" bin/setup dev
	@.venv/bin/ruff check --fix-only --quiet .
	@.venv/bin/ruff format .

# Hashes, no addresses: the locks install from whatever index or mirror a machine is set up with.
COMPILE = .venv/uv/bin/uv pip compile --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --quiet
lock:
	@PYTHON="$(PYTHON)" bin/setup dev
	$(COMPILE) pyproject.toml -o requirements/base.lock $(UPGRADE)
	$(COMPILE) pyproject.toml --extra dev -c requirements/base.lock -o requirements/dev.lock $(UPGRADE)
	echo uv | $(COMPILE) - -o requirements/uv.lock $(UPGRADE)

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis tests/node/node_modules
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

reset:
	@bin/kami reset
