# Everything here works from a clean clone on Linux with Python 3.11 or newer.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
READY := $(VENV)/.ready
HELM ?= helm
# Under which name the chart has the image, and under which it is built.
LOCAL := localhost/batten
IMAGE ?= $(LOCAL)
VERSION = $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)

.PHONY: help setup up down demo test lint bench docs site dist image lock manifests version kind kind-down

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY) ## Create .venv with everything editable

$(READY): pyproject.toml
	@echo "setup: creating $(VENV) with $$($(PYTHON) --version)"
	@test -x $(PY) || $(PYTHON) -m venv $(VENV)
	@$(PY) -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	@echo "setup: installing batten and its development tools"
	@$(PY) -m pip install --quiet --disable-pip-version-check --editable '.[operator,ecr,gar,acr]' --group dev --group docs
	@touch $@
	@echo "setup: done"

up: $(READY) ## Start a control plane and the operator, enforcing the hardened preset
	@$(PY) tests/cluster/up.py

down: $(READY) ## End what `make up` started
	@$(PY) tests/cluster/down.py

kind: $(READY) ## Install on a kind cluster of three nodes, and try it there
	@$(PY) tests/cluster/kind.py up $(ARGS)

kind-down: $(READY) ## Remove that cluster, and Docker where `make kind` started it
	@$(PY) tests/cluster/kind.py down

demo: $(READY) ## Show the main job on a real API server (starts one and ends it)
	@$(PY) tests/cluster/demo.py

test: $(READY) ## Run every test; what cannot run here says so in one line
	@$(PY) tests/cluster/build.py
	@$(PY) -m pytest -n auto --dist loadfile

lint: $(READY) ## Check style, types, layers and generated files
	@$(PY) -m ruff format --check
	@$(PY) -m ruff check
	@$(PY) -m mypy
	@$(VENV)/bin/lint-imports --no-logo
	@$(VENV)/bin/zizmor --offline --quiet .github action.yml
	@$(PY) docs/generate.py --check

docs: $(READY) ## Write the generated references anew
	@$(PY) docs/generate.py
	@$(PY) deploy/generate.py

site: $(READY) ## Build the documentation as a site, in site/
	@NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build

dist: $(READY) ## Build the wheel and the sdist, in dist/
	@rm -rf dist
	@$(PY) -m uv build --quiet

image: dist ## Build the image, with Docker
	docker build --tag $(IMAGE):$(VERSION) --build-arg VERSION=$(VERSION) \
	  --build-arg REVISION=$$(git rev-parse HEAD 2>/dev/null || echo unknown) .

manifests: ## Write chart and one-file install for a published image into dist/: IMAGE=… DIGEST=sha256:…
	@test -n "$(DIGEST)" || { echo "manifests: DIGEST is missing"; exit 1; }
	@mkdir -p dist
	@sed 's|$(LOCAL):$(VERSION)|$(IMAGE):$(VERSION)@$(DIGEST)|' deploy/install.yaml > dist/install.yaml
	@rm -rf dist/chart && cp -R charts/batten dist/chart
	@sed -i '/^image:/,/^[a-z]/{s|repository: $(LOCAL)|repository: $(IMAGE)|;s|digest: ""|digest: "$(DIGEST)"|}' dist/chart/values.yaml
	@$(HELM) package --destination dist dist/chart
	@rm -rf dist/chart

version: ## Print the version
	@echo $(VERSION)

lock: $(READY) ## Choose anew which versions the image has
	@UV_CUSTOM_COMPILE_COMMAND="make lock" $(PY) -m uv pip compile --quiet --upgrade --generate-hashes \
	  --python-version 3.13 --python-platform linux --no-emit-package batten \
	  $(foreach each,operator ecr gar acr keyless,--extra $(each)) \
	  --output-file image/requirements.txt pyproject.toml

bench: $(READY) ## Measure the engine, the server and its memory
	@$(PY) -m bench
