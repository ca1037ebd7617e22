# SPDX-License-Identifier: GPL-2.0-or-later
# A convenience: `make GOAL ARGS='...'` is `./sealproof GOAL ...` (cli/), and `make` lists the goals. Whatever is missing
# for a goal is set up first. REPORT, INVENTORY, CLAIMS, BOOTS, RESTORES, MAX_SIZE and MAX_AGE stand for options of some.

.DEFAULT_GOAL := help
.NOTPARALLEL:
.SUFFIXES:

VENV := .venv
PYTHON := $(VENV)/bin/python

# A recipe's shell dies with make, also when make is killed with SIGKILL. And it does not hand make's own flags on:
# the kernel's build, far below, is a make too. Nor pytest's and Python's variables: what is run is what the command says.
FOREIGN := PYTEST_ADDOPTS PYTEST_PLUGINS PYTHONPATH PYTHONHOME PYTHONOPTIMIZE PYTHONWARNINGS
SHELL := /usr/bin/env
.SHELLFLAGS := -u MAKEFLAGS -u MFLAGS -u MAKELEVEL -u MAKEOVERRIDES $(FOREIGN:%=-u %) /usr/bin/setpriv --pdeathsig KILL -- /bin/sh -c
unexport ARGS REPORT INVENTORY BOOTS RESTORES MAX_SIZE MAX_AGE CLAIMS

# The same for the program itself, which takes the shell's place and gets the time to end its machines in order. Ctrl-C
# reaches it once, from the terminal, as it is in make's process group; make waits for it. -E: Python's variables
# (PYTHONPATH, PYTHONOPTIMIZE ...) change nothing. What the program starts itself gets an environment that it makes.
# Ctrl-C waits until the program can take it (./sealproof says why).
CLI := /usr/bin/setpriv --pdeathsig TERM -- env --block-signal=INT $(PYTHON) -E -m cli
TESTS := $(CLI).tests

ARGS :=
REPORT := reports/latest
INVENTORY :=
BOOTS := 50
RESTORES := 200
MAX_SIZE := 20GiB
MAX_AGE := 30
CLAIMS := all
ifeq ($(filter all quick,$(CLAIMS)),)
$(error CLAIMS is 'all' or 'quick', not '$(CLAIMS)')
endif

# `make signoff` ends with 1 for "a claim failed" and with 2 for "not proven": a script must tell the two apart. But GNU
# make turns every failure of a recipe into 2, also with exec, .ONESHELL or $(error). Question mode (-q) is its only way
# to end with 1: there it passes on the 1 of a recipe that could be a `make -q`. So this goal runs in question mode, in
# which only recipes marked + run, and its set-up never ends with 1.
ifneq ($(filter signoff verify,$(MAKECMDGOALS)),)
FLAGS := $(firstword -$(MAKEFLAGS))
ifneq ($(filter-out 1,$(words $(MAKECMDGOALS)))$(findstring i,$(FLAGS)),)
$(error ask for it alone, without -i: the exit status is the verdict)
endif
ifeq ($(findstring n,$(FLAGS)),)
MAKEFLAGS += -q
ALWAYS := +
endif
endif

.PHONY: help
help: ## say what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo "Options go in ARGS='...'; './sealproof GOAL --help' lists them, and gives examples."

.PHONY: signoff
signoff: bootstrap ## prove every claim, and write the report
	$(ALWAYS)@exec $(CLI) $@ $(ARGS)

.PHONY: verify
verify: bootstrap ## check a report against its evidence
	$(ALWAYS)@exec $(CLI) $@ '$(REPORT)' $(ARGS)

.PHONY: rebuild
rebuild: bootstrap ## build the kernel of a report again, from nothing, and compare
	@exec $(CLI) $@ '$(REPORT)' $(ARGS)

# With CLAIMS=quick no more than the quick list, which tests/machines has in both modes: on a slow machine the whole list
# takes an hour.
.PHONY: test
test: lint ## check the files, then run the project's own tests, unit and end to end
	@exec $(TESTS) tests/unit tests/machines $(if $(filter quick,$(CLAIMS)),,tests_e2e) --mode protected --series protected-memory $(ARGS)

.PHONY: test-stock
test-stock: bootstrap ## run every claim in mode plain on the stock kernel, where every probe must get through
	@exec $(TESTS) tests_e2e --mode plain --series stock $(ARGS)

.PHONY: test-oldest
test-oldest: bootstrap ## run the unit tests with the oldest versions allowed of all libraries
	@sh host_setup/bootstrap.sh .venv-oldest requirements-oldest.lock
	@exec /usr/bin/setpriv --pdeathsig TERM -- .venv-oldest/bin/python -m pytest tests/unit $(ARGS)

.PHONY: doctor
doctor: $(if $(INVENTORY),bootstrap) ## say what this machine, or each machine of an inventory, offers and lacks; changes nothing
	@$(if $(INVENTORY),exec $(CLI) $@ '$(INVENTORY)',python=$$(sh host_setup/bootstrap.sh python) && exec env --block-signal=INT "$$python" -E -B -m cli $@)

.PHONY: soak
soak: bootstrap ## boot, restore and reboot again and again, and count stalls and failures
	@exec $(CLI) $@ --boots $(BOOTS) --restores $(RESTORES) $(ARGS)

COMMANDS := shell debug stress bench fleet history nightly selftests mutate bisect coverage
.PHONY: $(COMMANDS)
shell: ## open a shell on a fresh host, or in one of its guests
debug: ## open gdb or drgn on the kernel of a fresh host
stress: ## make guests protect memory, share it, take it back and die, again and again
bench: ## compare the times of our machines with virtme-ng's, or the costs of two series
fleet: ## spread a sign-off over machines
history: ## keep finished runs, compare them, and say how a claim fared
nightly: ## run a matrix of sign-offs within a time limit
selftests: ## run the kernel's own selftests on one series, or on two to compare them
mutate: ## put faults into the series, and check that a claim names each
bisect: ## find the first patch, or commit, with which a claim fails
coverage: ## say which of the series' lines are executed, and by which claims
$(COMMANDS): bootstrap
	@exec $(CLI) $@ $(ARGS)

.PHONY: test-hosts
test-hosts: bootstrap ## try a real machine's whole way and all that can go wrong, on a stand-in, and fleets (ARGS='-k grub')
	@exec $(TESTS) tests/hosts tests/fleet $(ARGS)

.PHONY: clean-cache
clean-cache: bootstrap ## shrink the cache to a size, and to entries used in the last days
	@exec $(CLI) $@ --max-size '$(MAX_SIZE)' --max-age '$(MAX_AGE)'

.PHONY: lint
lint: bootstrap ## check types, style, layout, shell and licences
	@exec bash .ci/lint

LOCK := $(PYTHON) -m uv pip compile --quiet --no-config --no-annotate --no-emit-index-url --generate-hashes \
	--universal --python-version 3.11 --upgrade --custom-compile-command 'make lock' pyproject.toml

.PHONY: lock
lock: bootstrap ## pin the newest and the oldest versions that pyproject.toml allows
	@$(LOCK) --group dev --output-file requirements.lock
	@$(LOCK) --resolution lowest-direct --output-file requirements-oldest.lock

.PHONY: bootstrap
bootstrap:
	$(ALWAYS)@sh host_setup/bootstrap.sh || exit 2
