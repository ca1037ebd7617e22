# SPDX-License-Identifier: GPL-2.0-or-later
# Only calls things: `make help` says what. Whatever is missing for a goal is set up first.

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
unexport ARGS REPORT INVENTORY BOOTS RESTORES MAX_SIZE MAX_AGE

# The same for the program itself, which takes the shell's place and gets the time to end its machines in order. Ctrl-C
# reaches it once, from the terminal, as it is in make's process group; make waits for it. -E: Python's variables
# (PYTHONPATH, PYTHONOPTIMIZE ...) change nothing. What the program starts itself gets an environment that it makes.
RUN := /usr/bin/setpriv --pdeathsig TERM -- $(PYTHON) -E

ARGS :=
REPORT := reports/latest
INVENTORY :=
BOOTS := 50
RESTORES := 200
MAX_SIZE := 20GiB
MAX_AGE := 30

# `make signoff` ends with 1 for "a claim failed" and with 2 for "not proven", but make turns every failure of a recipe
# into 2. Except in question mode (-q), where it passes on a status 1, as that is what a `make -q` further down would
# answer. So this goal runs in question mode, in which only recipes marked + run; and its set-up never ends with 1.
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

.PHONY: signoff
signoff: bootstrap ## prove every claim; exit 0: all PASS, 1: a FAIL, 2: not proven (ARGS='...' for pytest)
	$(ALWAYS)@exec $(RUN) -m pytest tests_e2e $(ARGS)

# Where nothing protects every probe must get through, and where something does none. Status 5 of the second run: ARGS
# chose tests, and none of these.
# What is trusted unless ARGS names more: this checkout's contract and the user's own key. The second look makes page and
# exports anew, byte for byte, which the verifier alone cannot.
.PHONY: verify
verify: bootstrap ## check REPORT=FOLDER|ARCHIVE against its evidence; exit 0: PROTECTED (ARGS='--commit ... --key ...')
	$(ALWAYS)@key="$${XDG_CONFIG_HOME:-$$HOME/.config}/sealproof/signing-key.pem"; \
	$(PYTHON) -m verifier '$(REPORT)' --contract tests_e2e/contract $$([ -f "$$key" ] && echo --key "$$key") $(ARGS) && \
	if [ -d '$(REPORT)' ]; then $(PYTHON) -m signoff --same '$(REPORT)'; fi

.PHONY: rebuild
rebuild: bootstrap ## make the kernel of REPORT=FOLDER again, from nothing, and compare (ARGS='--series ~/my-series')
	@exec $(RUN) -m host_setup.rebuild '$(REPORT)' $(ARGS)

.PHONY: test
test: lint ## lint, then run the project's own tests, unit and end to end (ARGS='...' for pytest)
	@exec $(RUN) -m pytest tests_unit tests_machines tests_e2e --mode protected --series protected-memory $(ARGS)
	@$(RUN) -m pytest tests_e2e --mode plain --series protected-memory -m quick $(ARGS) || [ $$? -eq 5 ]

.PHONY: test-stock
test-stock: bootstrap ## run every claim in mode plain on the stock kernel, where every probe must get through
	@exec $(RUN) -m pytest tests_e2e --mode plain --series stock $(ARGS)

.PHONY: test-oldest
test-oldest: bootstrap ## run the unit tests with the oldest versions allowed of all libraries
	@sh host_setup/bootstrap.sh .venv-oldest requirements-oldest.lock
	@exec /usr/bin/setpriv --pdeathsig TERM -- .venv-oldest/bin/python -m pytest tests_unit $(ARGS)

.PHONY: doctor
doctor: $(if $(INVENTORY),bootstrap) ## say what this machine offers, or each of INVENTORY=FILE, and what is missing; changes nothing
	@$(if $(INVENTORY),exec $(RUN) -m host_setup.remote.doctor '$(INVENTORY)',python=$$(sh host_setup/bootstrap.sh python) && exec "$$python" -B -m host_setup.doctor $(ARGS))

.PHONY: shell
shell: bootstrap ## a shell on a fresh host, or in a guest of it (ARGS='--guest plain --series stock'; '-- uname -a')
	@exec $(RUN) -m host_setup.shell $(ARGS)

.PHONY: debug
debug: bootstrap ## gdb on a fresh host's kernel (ARGS='--drgn': drgn; '--dump FILE': drgn on a dump; '-- ARGUMENTS')
	@exec $(RUN) -m host_setup.debug $(ARGS)

.PHONY: soak
soak: bootstrap ## boot and restore again and again: BOOTS=50 RESTORES=200
	@exec $(RUN) -m host_setup.soak --boots $(BOOTS) --restores $(RESTORES) $(ARGS)

.PHONY: stress
stress: bootstrap ## protect, share, take back and kill again and again (ARGS='--rounds 20 --shares 10000 --layers debug')
	@exec $(RUN) -m host_setup.stress $(ARGS)

.PHONY: mutate
mutate: bootstrap ## put faults into the series, see whether a claim names each (ARGS='--kind hand', '--sample 10 --seed 1')
	@exec $(RUN) -m host_setup.mutate $(ARGS)

.PHONY: bisect
bisect: bootstrap ## find the first patch, or commit, with which a claim fails (ARGS='CLAIM --series ~/my-series --good 5')
	@exec $(RUN) -m host_setup.bisect $(ARGS)

.PHONY: coverage
coverage: bootstrap ## which lines that the series adds are executed, and by which claim (ARGS='-k gup'; '--no-run')
	@exec $(RUN) -m host_setup.coverage $(ARGS)

.PHONY: bench
bench: bootstrap ## time our machines beside virtme-ng's
	@exec $(RUN) -m host_setup.bench $(ARGS)

.PHONY: fleet
fleet: bootstrap ## spread a sign-off over machines (ARGS='--workers 2', or --machine root@HOST ...; see README)
	@exec $(RUN) -m fleet run $(ARGS)

.PHONY: history
history: bootstrap ## what became of each claim over many runs (ARGS='record reports/latest', 'compare RUN RUN', 'claim NAME')
	@exec $(RUN) -m history $(or $(ARGS),--help)

.PHONY: nightly
nightly: bootstrap ## run a matrix of sign-offs within a time (ARGS='matrix.toml --minutes 240'; see README)
	@exec $(RUN) -m history nightly $(ARGS)

.PHONY: selftests
selftests: bootstrap ## run the kernel's own selftests (ARGS='--series stock --series NAME' compares)
	@exec $(RUN) -m host_setup.selftests $(ARGS)

.PHONY: test-hosts
test-hosts: bootstrap ## try a real machine's whole way and all that can go wrong, on a stand-in, and fleets (ARGS='-k grub')
	@exec $(RUN) -m pytest tests_hosts tests_fleet $(ARGS)

.PHONY: clean-cache
clean-cache: bootstrap ## shrink the cache to MAX_SIZE=20GiB, and to what was used in the last MAX_AGE=30 days
	@exec $(RUN) -m host_setup.clean_cache --max-size '$(MAX_SIZE)' --max-age '$(MAX_AGE)'

.PHONY: lint
lint: bootstrap ## check types, style, layout, shell and licences
	@exec bash .ci/lint

LOCK := $(PYTHON) -m uv pip compile --quiet --no-config --no-annotate --no-emit-index-url --generate-hashes \
	--universal --python-version 3.11 --upgrade --custom-compile-command 'make lock' pyproject.toml

.PHONY: lock
lock: bootstrap ## pin the newest and the oldest versions that pyproject.toml allows
	@$(LOCK) --group dev --output-file requirements.lock
	@$(LOCK) --group test --resolution lowest-direct --output-file requirements-oldest.lock

.PHONY: bootstrap
bootstrap:
	$(ALWAYS)@sh host_setup/bootstrap.sh || exit 2
