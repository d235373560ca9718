# Every target sets up what it needs in .venv. You need Python 3.11 or newer, and for the lab root on Debian.
PYTHON ?= python3
BIN := .venv/bin
PHONES := $(BIN)/pytest tests/lab -m 'phones and not alone'

.PHONY: help run dev quick test lint hooks soak lab-up lab-down test-lab test-browser test-real bench screenshots \
	demo-recordings
.DEFAULT_GOAL := run

# Opens the first session: until there was one, Streamlit doesn't know the addresses of the pages.
FIRST_SESSION := import urllib.request as r; r.urlopen("http://127.0.0.1:8501/_stcore/script-health-check")

help:  ## list these targets
	@sed -nE 's/^([a-z-]+):[^#]*## (.*)/\1\t\2/p' Makefile | expand -t 18

run:  ## start the app and its worker, or the demo until a PBX is set up; prints the address
dev:  ## as run, and pages reload when you save a file
dev: RELOAD := --server.fileWatcherType auto --server.runOnSave true \
	--server.folderWatchBlacklist data --server.folderWatchBlacklist .venv

run dev: .venv/app
	@$(BIN)/python -m pbx demo --if-unconfigured & demo=$$!; $(BIN)/python -m pbx worker --quiet & worker=$$!; \
	trap 'kill $$demo $$worker 2>/dev/null; wait $$demo $$worker' EXIT; \
	for try in 1 2 3 4 5 6 7 8 9; do sleep 1; $(BIN)/python -c '$(FIRST_SESSION)' 2>/dev/null && break; done & \
	$(BIN)/python -m streamlit run streamlit_app.py --server.port 8501 $(RELOAD)

quick: .venv/dev  ## lint, types and the tests of what changed since main; under a minute
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m tests.run_changed

test: .venv/dev  ## all tests that need no PBX, no root and no browser
	$(BIN)/pytest -n auto --dist worksteal

lint: .venv/dev  ## style, spelling, import order and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell $$(git ls-files)
	$(BIN)/lint-imports --no-cache
	$(BIN)/mypy

hooks: .venv/dev  ## run the linters before each commit
	$(BIN)/pre-commit install

soak: .venv/dev  ## run the app for ten minutes on a faulty demo PBX while killing its processes (SOAK_S=30: half a minute)
	$(BIN)/python -m tests.soak

lab-up: .venv/dev  ## start real Asterisk 16 and 22 on loopback (root, Debian; a few minutes the first time)
	$(BIN)/python -m tests.lab up

lab-down: .venv/dev  ## stop them
	$(BIN)/python -m tests.lab down

test-lab: .venv/dev  ## the tests on real Asterisk; needs lab-up
	$(BIN)/pytest tests/lab tests/unit -m 'lab and not phones'
	$(PHONES)
	$(BIN)/pytest tests/lab -m alone

test-browser: .venv/dev  ## the tests of every page of the demo in Chromium
	$(BIN)/pytest tests/browser -m browser

test-real: .venv/dev  ## test-browser and test-lab at the same time; needs lab-up and Chromium
	$(BIN)/pytest tests/browser -m browser; seen=$$?; \
	$(BIN)/pytest tests/lab tests/unit -m 'lab and not phones' & others=$$!; \
	$(PHONES) -k asterisk-22 & newer=$$!; \
	$(PHONES) -k 'not asterisk-22'; failed=$$?; \
	for job in $$others $$newer; do wait $$job || failed=1; done; exit $$((seen + failed))
	$(BIN)/pytest tests/lab -m alone

bench: .venv/dev  ## print the benchmarks' figures; needs lab-up
	for file in benchmarks/*.py; do $(BIN)/python $$file || exit 1; done

screenshots: .venv/dev  ## take docs/screenshots again from the demo; needs Chromium
	$(BIN)/python -m tests.browser.screenshots

demo-recordings: .venv/dev  ## make the demo's recordings again from their scripts; needs espeak-ng
	$(BIN)/python -m tests.simulator.make_sample_calls

.venv/app: requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, this is " + sys.version)'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

.venv/dev: .venv/app requirements-dev.txt
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@
