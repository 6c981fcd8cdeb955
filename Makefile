# OctoMesh. `make help` says what there is; docs are in CONTRIBUTING.md.
# Modules and packages are discovered, so that a new one needs no line here.
SHELL       := bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

include tools/versions.mk

BIN    := $(CURDIR)/tools/bin
BUILD  := build
BUF    := tools/node_modules/.bin/buf
export PATH := $(BIN):$(PATH)

# Every directory with a go.mod, the root first.
MODULES := $(shell find . -name go.mod -not -path '*/node_modules/*' -not -path '*/testdata/*' \
             -not -path './build/*' -printf '%h\n' | sort)

include mk/python.mk
include mk/bootstrap.mk
include mk/generate.mk
include mk/check.mk
include mk/run.mk
include mk/bench.mk
include mk/conformance.mk
include mk/interop.mk

.PHONY: help
help: ## say what can be made
	@awk -F ':.*## ' '/^[a-z][a-z-]*:.*## / { printf "  make %-19s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: clean
clean: ## remove what was built; tools stay (tools/bin, tools/node_modules, tools/python/venv)
	rm -rf $(BUILD)
