# Everything runs in .venv, which `make` builds by itself and only when needed.
# Another interpreter: make PYTHON=python3.12 test

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check

# Stamps: the environment, the run-time install, those with the development tools, the peers, and
# what builds the documentation.
CREATED := $(VENV)/.created
INSTALLED := $(VENV)/.installed
INSTALLED_DEV := $(VENV)/.installed-dev
INSTALLED_BENCH := $(VENV)/.installed-bench
INSTALLED_DOCS := $(VENV)/.installed-docs

# Extra arguments, for example: make demo DEMO_ARGS='--http-port 8081'
PYTEST_ARGS ?=
DEMO_ARGS ?=
BENCH_ARGS ?=
LOOP_BENCH_ARGS ?=
ECHO_BENCH_ARGS ?=
COMPARE_ARGS ?=
RPC_BENCH_ARGS ?=

.PHONY: help venv demo test lint format docs bench clean

help:
	@echo "make demo    run the demonstration (DEMO_ARGS='...' adds arguments)"
	@echo "make test    run the tests (PYTEST_ARGS='...' adds arguments)"
	@echo "make lint    check format, style and types"
	@echo "make format  put the source into the house's format"
	@echo "make docs    build the documentation into site/"
	@echo "make bench   compare with libevent in C and other servers (BENCH_ARGS='...' adds arguments)"
	@echo "make venv    make .venv with evsvc in it, for programs of your own"
	@echo "make clean   remove all that the other targets made"

venv: $(INSTALLED)

# In place of the shell, so that signals meet the demonstration itself.
demo: $(INSTALLED)
	@exec $(BIN)/evsvc demo $(DEMO_ARGS)

test: $(INSTALLED_DEV)
	$(BIN)/python -m pytest $(PYTEST_ARGS)

lint: $(INSTALLED_DEV)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(INSTALLED_DEV)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Fails for a link that leads nowhere.
docs: $(INSTALLED_DOCS)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

bench: $(INSTALLED_BENCH)
	$(BIN)/python -m bench.http_server_bench $(BENCH_ARGS)
	$(BIN)/python -m bench.gateway_bench $(GATEWAY_BENCH_ARGS)
	$(BIN)/python -m bench.http_client_bench $(CLIENT_BENCH_ARGS)
	$(BIN)/python -m bench.event_loop_bench $(LOOP_BENCH_ARGS)
	$(BIN)/python -m bench.echo_bench $(ECHO_BENCH_ARGS)
	$(BIN)/python -m bench.dns_server_bench $(DNS_BENCH_ARGS)
	$(BIN)/python -m bench.dns_client_bench $(DNS_CLIENT_BENCH_ARGS)
	$(BIN)/python -m bench.rpc_bench $(RPC_BENCH_ARGS)
	$(BIN)/python -m bench.compare $(COMPARE_ARGS)

clean:
	rm -rf $(VENV) build dist site evsvc.egg-info bench/build .coverage .hypothesis
	rm -rf .mypy_cache .pytest_cache .ruff_cache
	find bench evsvc tests -type d -name __pycache__ -prune -exec rm -rf {} +

$(CREATED):
	@command -v $(PYTHON) >/dev/null || \
	  { echo "evsvc: no $(PYTHON) here; install Python 3.11 or later, or name one: make PYTHON=..." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "evsvc: needs Python 3.11 or later, and $(PYTHON) is older; name another: make PYTHON=..." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	  { echo "evsvc: $(PYTHON) has no venv/ensurepip; install it (Debian, Ubuntu: apt install python3-venv)" >&2; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
	@touch $@

# Editable: a change of the source needs no second install, a change of pyproject.toml does.
$(INSTALLED): $(CREATED) pyproject.toml
	$(PIP_INSTALL) --editable .
	@touch $@

# Holds all that the run-time install holds, so that `make demo` after it has nothing to do.
$(INSTALLED_DEV): $(CREATED) pyproject.toml
	$(PIP_INSTALL) --editable '.[dev]'
	@touch $(INSTALLED) $@

$(INSTALLED_DOCS): $(CREATED) pyproject.toml
	$(PIP_INSTALL) --editable '.[docs]'
	@touch $(INSTALLED) $@

# bjoern is built from source, and is left out where that cannot be.
$(INSTALLED_BENCH): $(CREATED) pyproject.toml
	$(PIP_INSTALL) --editable '.[bench]'
	@$(PIP_INSTALL) --editable '.[bench-bjoern]' >/dev/null 2>&1 || \
	  echo "evsvc: bjoern cannot be built here, so its rows are left out (Debian, Ubuntu: apt install libev-dev)"
	@touch $(INSTALLED) $@
