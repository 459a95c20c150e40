# Every target works from a bare clone: the virtual environment is made when it is missing or out of date.
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
# pip shows its progress on a terminal, and keeps quiet in logs.
PIP_QUIET = $$([ -t 1 ] || echo --quiet)

# A file name may hold anything, also what make or a shell would run: it reaches the program by the environment, unread.
unexport VIDEO
export DEMO_VIDEO := $(value VIDEO)

help: ## show this help
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  \033[1m%-12s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP) ## make .venv with everything installed
	@echo 'vidqueue is installed. Next: export PATH="$(abspath $(BIN)):$$PATH"; vidqueue doctor; vidqueue serve'

$(STAMP): pyproject.toml constraints.txt
	@test -x $(BIN)/python || { echo "1 of 3: making $(VENV)"; $(PYTHON) -m venv $(VENV); }
	@echo "2 of 3: installing torch into $(VENV): gigabytes, because PyPI's build has CUDA; it takes minutes. A machine without a GPU"
	@echo "        needs 200 MB only with: make setup PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu"
	@# torch first and by its exact version, so that no other package pulls another one.
	@$(BIN)/python -m pip install $(PIP_QUIET) --disable-pip-version-check -c constraints.txt torch
	@echo "3 of 3: installing vidqueue and everything else"
	@$(BIN)/python -m pip install $(PIP_QUIET) --disable-pip-version-check -c constraints.txt -e '.[dev,generate]'
	@touch $@

demo: $(STAMP) ## start a daemon, run real jobs, show the results (VIDEO=/path/to/your.mp4)
	@$(BIN)/vidqueue demo $(if $(value VIDEO),--video="$$DEMO_VIDEO")

# The tests of the dashboard want Chromium and skip, visibly, without it.
browser:
	@if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && ! command -v chromium >/dev/null; then \
	  echo "installing chromium"; { apt-get update -qq; DEBIAN_FRONTEND=noninteractive apt-get install -y -qq \
	    --no-install-recommends chromium; } >/dev/null 2>&1 || echo "it cannot be installed: its tests will be skipped"; fi

screenshots: $(STAMP) browser ## photograph every page of the dashboard into screenshots/
	@$(BIN)/python -m tests.dashboard.screenshots screenshots

vendor-check: ## compare the vendored scripts with those of the npm registry
	@cd src/vidqueue/api/web/static/vendor && sha256sum --check SHA256SUMS && folder=$$(mktemp -d) \
	  && for one in idiomorph@0.8.0:idiomorph tus-js-client@4.3.1:tus; do \
	    package=$${one%%:*}; file=$${package%%@*}-$${package##*@}; \
	    (cd $$folder && npm pack --silent $$package >/dev/null && tar xzf $$file.tgz) \
	    && cmp $$folder/package/dist/$${one##*:}.min.js $$file.min.js || exit 1; done \
	  && rm -r $$folder && echo "as published"

# Programs of others for the tests, in an environment of their own: a Cog server, and clients of Replicate and the Comfy API.
.venv-others/.installed: Makefile
	@$(PYTHON) -m venv .venv-others
	@.venv-others/bin/python -m pip install --quiet --disable-pip-version-check cog==0.23.1 coglet==0.23.1 replicate==1.0.7 comfy-sdk==0.5.0
	@# They have the names of those above, so they are installed beside the packages.
	@.venv-others/bin/python -m pip install --quiet --disable-pip-version-check --upgrade --target .venv-others/replicate2 replicate==2.0.0b4
	@.venv-others/bin/python -m pip install --quiet --disable-pip-version-check --upgrade --target .venv-others/cog09 cog==0.9.26 2>/dev/null
	@! command -v npm >/dev/null || npm install --silent --no-audit --no-fund --prefix .venv-others @comfyorg/sdk@0.1.9 \
	  || echo "@comfyorg/sdk cannot be installed: its test will be skipped"
	@touch $@

test: $(STAMP) .venv-others/.installed check browser ## run the gates and every test; what CI calls
	@# Four workers on two cores: tests wait for processes and for the database more than they compute.
	$(BIN)/python -m pytest -n 4 --dist loadfile --no-loadscope-reorder --durations=10 -m 'not long'

test-long: $(STAMP) .venv-others/.installed browser ## run the thorough forms of the slowest tests, which `make test` leaves out
	$(BIN)/python -m pytest -n 3 --dist loadfile --durations=10 -m long

test-comfyui: $(STAMP) ## run the tests of comfyui against a real checkout (DIR=/path/to/ComfyUI)
	@test -f "$(DIR)/main.py" || { echo "DIR=$(DIR) is no ComfyUI checkout"; exit 1; }
	VIDQUEUE_TEST_COMFYUI="$(abspath $(DIR))" $(BIN)/python -m pytest tests/comfyui

storm: $(STAMP) .venv-others/.installed ## ten minutes of jobs under random faults (SEED=7 SECONDS=60 OFTEN=video)
	@$(BIN)/python -m tests.storm $(if $(SEED),--seed $(SEED)) $(if $(SECONDS),--seconds $(SECONDS)) $(if $(OFTEN),--often $(OFTEN))

burst: $(STAMP) ## submit 800 small films within a minute and report what came of each (COUNT=80 for fewer at the same rate)
	@$(BIN)/python -m tests.burst $(if $(COUNT),--count $(COUNT))

fuzz: $(STAMP) ## send 300 mutated media files through probe and transcode (SEED=7 COUNT=1000)
	@$(BIN)/python -m tests.processors.fuzzing $(if $(SEED),--seed $(SEED)) $(if $(COUNT),--count $(COUNT))

quick: $(STAMP) ## run the tests that take seconds
	$(BIN)/python -m pytest -q -n 2 --dist loadfile -m 'not slow and not long and not media'

check: $(STAMP) ## ruff, mypy --strict, import-linter, house budgets
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

bench: $(STAMP) .venv-bench/.installed ## measure against other queues and servers; one table (ONLY="queue backlog" SHORT=1)
	@$(BIN)/python -m benchmarks $(ONLY) $(if $(SHORT),--short)

# Celery and its brokers are measured beside ours where they can be had; the table says which were not.
.venv-bench/.installed: Makefile
	@$(PYTHON) -m venv .venv-bench
	@.venv-bench/bin/python -m pip install --quiet --disable-pip-version-check 'celery[redis]==5.7.*' \
	  || echo "Celery cannot be installed: it will be skipped"
	@if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && ! { command -v redis-server && command -v rabbitmq-server; } >/dev/null; then \
	  echo "installing redis-server and rabbitmq-server; they are not started"; \
	  apt-get update -qq; RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
	    redis-server rabbitmq-server >/dev/null || echo "they cannot be installed: they will be skipped"; fi
	@touch $@

run: $(STAMP) ## run a daemon in this terminal
	$(BIN)/vidqueue serve

docs: $(STAMP) ## write what the documents repeat from the code
	$(BIN)/python docs/generate.py

wheel: $(STAMP) ## build the wheel into dist/
	$(BIN)/python -m pip wheel --quiet --no-deps --no-build-isolation -w dist .

clean: ## remove what was built; keeps .venv
	rm -rf build dist demo-out .pytest_cache .mypy_cache .ruff_cache .import_linter_cache src/*.egg-info

.PHONY: help setup demo test test-comfyui browser screenshots vendor-check storm burst fuzz quick check bench run docs wheel clean
