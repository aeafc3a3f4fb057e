# `make` lists the targets. Each installs what it lacks first, and is quick when nothing is lacking.

VENV_PYTHON := .venv/bin/python
PYTEST := $(VENV_PYTHON) -m pytest

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help install run style check test test-long acceptance bench time-line flame reference picture deb manual sbom

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile

install: ## programs and Python packages, as far as they are missing
	@machine/programs.sh
	@machine/environment.sh

run: install ## the whole site on this machine: archive, PACS, modality, CD publisher, links to click [STUDY=folder] [PORT=number] [SITE=folder]
	@exec $(VENV_PYTHON) demo/run.py $(if $(STUDY),--study '$(STUDY)') $(if $(PORT),--port '$(PORT)') \
	    $(if $(SITE),--folder '$(SITE)')

style: install
	$(VENV_PYTHON) -m ruff format --check --quiet .
	$(VENV_PYTHON) -m ruff check --quiet .
	$(VENV_PYTHON) -m mypy
	$(VENV_PYTHON) -m mypy demo/*.py
	$(VENV_PYTHON) -m mypy docs/*.py

check: style ## formatting, lint, types, and the tests that take under a minute
	$(PYTEST) -q -n auto --maxprocesses 2 -m 'not long and not programs' \
	    tests/unit tests/contract tests/properties tests/scenarios

test: style ## everything CI runs, with the real programs
	$(PYTEST) -q -n 4 --dist worksteal --durations 15 -m 'not long'

test-long: install ## the tests that take hours
	$(PYTEST) -q -n 2 --timeout 0 --durations 15 -m long

acceptance: install ## several nodes, in full size, one after the other; prints the table of what was measured
	@rm -f .make/acceptance.tsv
	STORESTOW_ACCEPTANCE=whole $(PYTEST) -q -n 0 --timeout 1800 tests/cluster
	@sort -n .make/acceptance.tsv

bench: install ## measure side by side with the peers, write bench/results.md; under 20 minutes [ROW=name]
	$(VENV_PYTHON) bench/table.py $(ROW)

time-line: install ## draw docs/time-line.svg anew: what each process does while a study of 200 CT passes in JPEG 2000
	$(VENV_PYTHON) bench/time_line.py 200 study j2k

flame: install ## draw docs/flame-j2k.svg anew: where the processor's time of one CT goes, in JPEG 2000
	@mkdir -p .make
	.venv/bin/py-spy record --native --format raw --rate 100 --output .make/stacks.txt -- $(VENV_PYTHON) bench/flame.py
	$(VENV_PYTHON) bench/flame_graph.py .make/stacks.txt

reference: install ## write docs/configuration.md, docs/site.schema.json and the tables of docs/conformance.md anew
	$(VENV_PYTHON) docs/configuration_reference.py
	$(VENV_PYTHON) docs/conformance_statement.py

picture: install ## draw docs/rooms.svg anew: the rooms of the package, and who imports whom
	$(VENV_PYTHON) docs/picture.py

deb: ## build dist/storestow_*.deb for this release of Debian or Ubuntu, with its own Python
	@machine/deb.sh

# What makes documents is kept apart from what tests: an environment of its own, from a lock of its own.
DOCS := .make/docs/bin

$(DOCS)/locked: requirements-docs.lock
	$(VENV_PYTHON) -m venv --clear .make/docs
	$(DOCS)/python -m pip install --quiet --disable-pip-version-check --no-input --require-hashes --requirement $<
	@touch $@

manual: install $(DOCS)/locked ## the manual as a site, in .make/site; a link or anchor that leads nowhere fails it
	$(VENV_PYTHON) docs/manual.py .make/manual
	PYTHONPATH=docs NO_MKDOCS_2_WARNING=1 $(DOCS)/mkdocs build
	@echo "read it: .make/site/index.html"

sbom: install $(DOCS)/locked ## what is in a release, as CycloneDX: dist/storestow.cdx.json, from requirements.lock
	@mkdir -p dist
	$(DOCS)/python -W ignore -m cyclonedx_py requirements requirements.lock --pyproject pyproject.toml --output-reproducible \
	    --output-format JSON --output-file dist/storestow.cdx.json
	@echo dist/storestow.cdx.json
