# The commands of this project. `make` or `make help` lists them.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PEERS := .venv-bench
CATALOGUES := $(patsubst %.po,%.mo,$(wildcard locale/*/LC_MESSAGES/django.po))
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.NOTPARALLEL: # the environment first: what follows needs its programs
.PHONY: help install run test chaos mutants fuzz soak bench check check-deploy fmt hooks lock schema secrets
.PHONY: up logs down clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(VENV)/dev.installed ## Install everything for working on the project into .venv

run: $(VENV)/run.installed $(CATALOGUES) ## Run the whole system on this machine (PORT=8000 DATA_DIR=.data; Ctrl-C stops it)
	@exec $(BIN)/python -m deploy.local

test: $(VENV)/dev.installed $(CATALOGUES) ## Run all tests against real PostgreSQL and RabbitMQ (ARGS="-k name" narrows them)
	@exec $(BIN)/python -m deploy.local.testbed $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

chaos: $(VENV)/dev.installed $(CATALOGUES) ## All crash tests, then each guard taken away once (CHAOS_ROUNDS=10 CHAOS_SEED=n)
	@CHAOS_ROUNDS=$${CHAOS_ROUNDS:-10} exec $(BIN)/python -m deploy.local.testbed sh -c \
		'$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder tests/chaos $(ARGS) && exec $(BIN)/python -m tests.chaos.guards'

mutants: $(VENV)/dev.installed $(CATALOGUES) ## Small changes of the code, each of which must fail a test (FILES="payments/*.py" SAMPLE=n SEED=n MINUTES=n JOBS=n)
	@exec $(BIN)/python -m deploy.local.testbed $(BIN)/python -m tests.mutants $(FILES) \
		$(if $(SAMPLE),--sample $(SAMPLE)) $(if $(SEED),--seed $(SEED)) $(if $(MINUTES),--minutes $(MINUTES)) \
		$(if $(JOBS),--jobs $(JOBS)) $(ARGS)

fuzz: $(VENV)/dev.installed $(CATALOGUES) ## Requests made up from the API's own documentation, many more than in `make test`, and the processor time of the worst (EXAMPLES=200)
	@FUZZ_EXAMPLES=$(or $(EXAMPLES),200) exec $(BIN)/python -m deploy.local.testbed \
		$(BIN)/python -m pytest tests/integration/test_fuzz.py $(ARGS)

soak: $(VENV)/dev.installed $(CATALOGUES) ## Load and every fault for hours, against the gateway's own journal (MINUTES=10 SEED=n)
	@exec $(BIN)/python -m tests.chaos.soak --minutes $(or $(MINUTES),10) $(if $(SEED),--seed $(SEED))

bench: $(VENV)/dev.installed $(PEERS)/installed $(CATALOGUES) ## Limits, peers and ours in one run (QUICK=1 ONLY=drain GROWTH=1 PROFILE=1 SOAK=1)
	@exec $(BIN)/python -m bench

check: $(VENV)/dev.installed $(CATALOGUES) ## Run all linters, type checks, contracts and Django's own checks
	@exec $(BIN)/python -m deploy.checks code

check-deploy: $(VENV)/dev.installed ## Validate the Dockerfile, compose file, workflows and scripts (offline)
	@exec $(BIN)/python -m deploy.checks artefacts

fmt: $(VENV)/dev.installed ## Format the code and mend what can be mended by itself
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .

hooks: $(VENV)/dev.installed ## Install the git hooks (pre-commit)
	$(BIN)/pre-commit install

lock: $(VENV)/dev.installed ## Compile requirements*.in into requirements*.txt, each package with the hashes of its files
	@for name in requirements requirements-local requirements-dev requirements-bench; do \
		$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --no-header \
			--generate-hashes --no-emit-index-url --no-emit-find-links $$name.in --output-file $$name.txt || exit 1; \
	done

schema: $(VENV)/dev.installed $(CATALOGUES) ## Write openapi.yaml anew
	@$(BIN)/python -m deploy.checks schema

secrets: ## Make the secrets of the production shape that are missing, in .secrets
	@sh deploy/secrets.sh

up: secrets ## Start the production shape with Docker Compose
	docker compose up --detach --build --wait

logs: ## Follow the logs of the compose stack
	docker compose logs --follow

down: ## Stop the compose stack; its data stays
	docker compose down

clean: ## Stop the compose stack and delete its data
	docker compose down --volumes --remove-orphans

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed; name it with PYTHON=python3.12 make …" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || \
		{ rm -rf $(VENV); echo "Python's venv module is needed (Debian/Ubuntu: apt-get install python3-venv)." >&2; exit 1; }

%.mo: %.po
	@$(BIN)/pybabel --quiet compile --input-file $< --output-file $@

# The stamps say what was installed last; a changed requirements file installs anew.
$(VENV)/run.installed: $(VENV)/bin/python requirements-local.txt
	@echo "Installing packages into $(VENV) …"
	@$(BIN)/python -m pip install --quiet --require-hashes -r requirements-local.txt
	@touch $@

$(VENV)/dev.installed: $(VENV)/bin/python requirements-dev.txt
	@echo "Installing packages into $(VENV) …"
	@$(BIN)/python -m pip install --quiet --require-hashes -r requirements-dev.txt
	@touch $@ $(VENV)/run.installed

# None of what the peers of the benchmark need is ours.
$(PEERS)/installed: $(VENV)/bin/python requirements-bench.txt
	@echo "Installing packages into $(PEERS) …"
	@$(PYTHON) -m venv $(PEERS)
	@$(PEERS)/bin/python -m pip install --quiet --require-hashes -r requirements-bench.txt
	@touch $@
