# make demo, make test: everything a fresh machine needs is installed into .venv by name.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test test-long lint bench accuracy soak clean help
help:            ## what there is
	@grep -E '^[a-z-]+: .*##' $(MAKEFILE_LIST) | sed 's/:.*##/:/'

$(READY): requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV) || (apt-get update -q && apt-get install -qy python3-venv && $(PYTHON) -m venv $(VENV))
	$(BIN)/python -m pip install -q -r requirements.lock
	$(BIN)/python -m pip install -q --no-deps --no-build-isolation -e .
	touch $(READY)

demo: $(READY)   ## simulator, master and two workers, about 40 s of load, ends with a report
	$(BIN)/loadtest demo

test: $(READY)   ## the whole test suite but faults, soak and browser; under 15 minutes
	$(BIN)/python -m pytest -m "not long"

test-long: $(READY) ## faults, soak and browser; installs chromium, nginx, prometheus, iproute2 and iptables when root
	@command -v chromium >/dev/null || (apt-get update -q && apt-get install -qy chromium)
	@PATH="$$PATH:/usr/sbin" command -v nginx >/dev/null || (apt-get update -q && apt-get install -qy nginx)
	@command -v prometheus >/dev/null || (apt-get update -q && RUNLEVEL=1 apt-get install -qy --no-install-recommends prometheus)
	@PATH="$$PATH:/usr/sbin" command -v ip >/dev/null || (apt-get update -q && apt-get install -qy iproute2)
	@PATH="$$PATH:/usr/sbin" command -v iptables >/dev/null || (apt-get update -q && apt-get install -qy iptables)
	$(BIN)/python -m pytest -m long

lint: $(READY)   ## ruff and mypy --strict
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

bench: $(READY)  ## hot paths, as ratios against references of the same run
	$(BIN)/python benchmarks/traffic.py
	PYTHONPATH=. $(BIN)/python benchmarks/master.py
	PYTHONPATH=. $(BIN)/python benchmarks/metrics.py
	$(BIN)/python benchmarks/swarm_cost.py
	$(BIN)/python benchmarks/accuracy.py --quick

accuracy: $(READY) ## every client against a server that knows the truth, 10 minutes; writes docs/accuracy.md
	$(BIN)/python benchmarks/accuracy.py

soak: $(READY)   ## 30 minutes of load: memory and descriptors of every process of a swarm
	$(BIN)/python benchmarks/soak.py

clean:           ## remove the virtual environment and caches; run folders stay
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache
