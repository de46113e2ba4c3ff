# make run    build, install engine and model for this machine, analyse this repository
# make test   every check there is; says at the end what this machine could not run
# make bench  the figures that are promised, beside their limits
# make help   the other targets

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := build

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
LDFLAGS := -s -w -X main.version=$(VERSION)
MAX_UNITS ?= 40
FUZZTIME ?= 10s
# static: no loaded libraries, for systems without glibc; see docs/decisions/0020-purego.md
TAGS ?=
BENCHTIME ?= 1s

.PHONY: help
help: ## say what the targets are
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 22

.PHONY: build
build: ## bin/monitor, one binary without cgo (TAGS=static: without glibc, too)
	@scripts/prerequisites.sh go git
	CGO_ENABLED=0 go build -trimpath -buildvcs=false -tags '$(TAGS)' -ldflags '$(LDFLAGS)' -o bin/monitor ./cmd/monitor

.PHONY: run
run: ## build, set up engine and model, analyse this repository, say where the report is
	@scripts/prerequisites.sh go git python
	@CGO_ENABLED=0 go build -trimpath -buildvcs=false -tags '$(TAGS)' -ldflags '$(LDFLAGS)' -o bin/monitor ./cmd/monitor
	bin/monitor setup --yes
	bin/monitor analyze . --max-units $(MAX_UNITS)

.PHONY: test
test: ## the one command: every check, with the race detector
	@scripts/test.sh

.PHONY: test-deps
test-deps: build ## bring what the tests need (engine, model, reference parsers) into .cache/
	@scripts/test-deps.sh

.PHONY: bench
bench: test-deps ## the promised figures, each beside its limit or a peer
	@BENCHTIME=$(BENCHTIME) scripts/bench.sh

.PHONY: fuzz
fuzz: ## every fuzz target for FUZZTIME (10s)
	@scripts/fuzz.sh $(FUZZTIME)

.PHONY: lint
lint: ## gofmt, vet, staticcheck, the house rules, go.mod
	@scripts/lint.sh

.PHONY: cross
cross: ## compile for every platform that is promised
	@scripts/cross.sh

.PHONY: fmt
fmt: ## gofmt every Go file that git tracks
	@git ls-files -z '*.go' | xargs -0 gofmt -w

.PHONY: clean
clean: ## remove what was built and what the tests brought
	rm -rf bin .cache
