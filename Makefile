# Everything is made in .venv; all that is needed beforehand is Python 3.11 or newer (and root on Debian for the lab).
PYTHON ?= python3
BIN := .venv/bin
PHONES := $(BIN)/pytest tests/lab -m 'phones and not alone'

.PHONY: run test lint soak lab-up lab-down test-lab test-browser test-real bench screenshots demo-recordings
.DEFAULT_GOAL := run

# The first session is opened here, as until there was one Streamlit doesn't know the addresses of the pages.
FIRST_SESSION := import urllib.request as r; r.urlopen("http://127.0.0.1:8501/_stcore/script-health-check")

run: .venv/app  ## the app and its worker, or the demo while nothing is configured; prints the address
	@$(BIN)/python -m pbx demo --if-unconfigured & demo=$$!; $(BIN)/python -m pbx worker --quiet & worker=$$!; \
	trap 'kill $$demo $$worker 2>/dev/null; wait $$demo $$worker' EXIT; \
	for try in 1 2 3 4 5 6 7 8 9; do sleep 1; $(BIN)/python -c '$(FIRST_SESSION)' 2>/dev/null && break; done & \
	$(BIN)/python -m streamlit run streamlit_app.py --server.port 8501

test: .venv/dev  ## needs no PBX, no root and no browser
	$(BIN)/pytest -n auto --dist worksteal

lint: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache
	$(BIN)/mypy

soak: .venv/dev  ## ten minutes of the whole app on a demo PBX that misbehaves, while it is killed (SOAK_S=30: half a minute)
	$(BIN)/python -m tests.soak

lab-up: .venv/dev  ## real Asterisk 16 and 22 on loopback (root, Debian; the first time takes a few minutes)
	$(BIN)/python -m tests.lab up

lab-down: .venv/dev
	$(BIN)/python -m tests.lab down

test-lab: .venv/dev  ## needs lab-up
	$(BIN)/pytest tests/lab tests/unit -m 'lab and not phones'
	$(PHONES)
	$(BIN)/pytest tests/lab -m alone

test-browser: .venv/dev  ## every page of the demo PBX; needs Chromium
	$(BIN)/pytest tests/browser -m browser

test-real: .venv/dev  ## test-browser, and test-lab in half the time; needs lab-up and Chromium
	$(BIN)/pytest tests/browser -m browser; seen=$$?; \
	$(BIN)/pytest tests/lab tests/unit -m 'lab and not phones' & others=$$!; \
	$(PHONES) -k asterisk-22 & newer=$$!; \
	$(PHONES) -k 'not asterisk-22'; failed=$$?; \
	for job in $$others $$newer; do wait $$job || failed=1; done; exit $$((seen + failed))
	$(BIN)/pytest tests/lab -m alone

bench: .venv/dev  ## prints figures; needs lab-up
	for file in benchmarks/*.py; do $(BIN)/python $$file || exit 1; done

screenshots: .venv/dev  ## of the app on the demo PBX, into docs/screenshots; needs Chromium
	$(BIN)/python -m tests.browser.screenshots

demo-recordings: .venv/dev  ## the demo's calls, from their scripts; needs espeak-ng
	$(BIN)/python -m pbx.demo.voices

.venv/app: requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, this is " + sys.version)'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

.venv/dev: .venv/app requirements-dev.txt
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@
