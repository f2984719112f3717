# Everything that CI does is a target here. `make help` lists them.
SHELL   := /bin/bash -o pipefail
GO      ?= go
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
export CGO_ENABLED ?= 1
SUM     := out/testsum -into out/tests.json
RACE    := -race

# Packages whose tests run real components: processes, etcd, libvirt, namespaces, MariaDB.
ALIGN   := aligntest copier follow ids profile server survey verify
REAL    := ./internal/store/... ./internal/supervise/... ./internal/host/... ./internal/lab/... ./internal/demo/... $(ALIGN:%=./internal/align/%/...)
UNIT     = $(shell $(GO) list ./... | grep -vE '/(store|supervise|host|lab|demo)(/|$$)|/align/('"$$(echo $(ALIGN) | tr ' ' '|')"')(/|$$)|/e2e$$|/bench$$')

.PHONY: help build bundle demo deps test test-fresh test-fast test-unit test-contract test-e2e lint fuzz bench clean sum

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 16

build: ## bin/holdfast, static
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags "-s -w -X main.version=$(VERSION)" -o bin/holdfast ./cmd/holdfast

bundle: build ## out/holdfast-VERSION.hfb, which upgrades Holdfast itself (VERSION=1.4.0, KEY=FILE signs it)
	@packaging/bundle.sh bin/holdfast $(VERSION) out/holdfast-$(VERSION).hfb $(KEY)

demo: build ## a cluster on this machine, with a failure and a recovery to watch
	@bin/holdfast demo --auto --fault power-loss

deps: ## install what the tests need (as root, with apt)
	@packaging/test-deps.sh

out/testsum: tools/testsum/main.go
	@mkdir -p out
	$(GO) build -o out/testsum ./tools/testsum

out/leftovers: $(wildcard tools/leftovers/*.go)
	@mkdir -p out
	$(GO) build -o out/leftovers ./tools/leftovers

test: deps build lint out/testsum out/leftovers ## every layer, and what they leave on the machine
	@rm -f out/tests.json
	@out/leftovers snapshot out/before.json
	@status=0; export HOLDFAST_TEST_RUN=$$$$; \
	for layer in test-unit test-contract test-e2e; do $(MAKE) --no-print-directory $$layer || status=1; done; \
	echo "== what is left"; out/leftovers compare out/before.json | $(SUM) || status=1; \
	out/testsum -total out/tests.json || status=1; exit $$status

test-fresh: ## every layer in a Debian root where nothing was installed or left before (as root)
	@packaging/fresh.sh

test-fast: out/testsum ## the loop while you work: no hypervisor, no race detector
	@rm -f out/tests.json
	$(GO) test -json $(UNIT) | $(SUM) && out/testsum -total out/tests.json

test-unit: out/testsum ## tables, fuzz seeds, virtual time, simulator, command line
	@echo "== unit"
	$(GO) test $(RACE) -json -timeout 15m $(UNIT) | $(SUM)
	@echo "== searches that are too large for the race detector"
	$(GO) test -json -timeout 15m ./internal/sim/... | $(SUM)

test-contract: out/testsum ## the drivers and the store on the real components
	@echo "== contract"
	$(GO) test $(RACE) -count=1 -json -p 1 -timeout 20m $(REAL) | $(SUM)

test-e2e: build out/testsum ## the drills on the laboratory, and the demo
	@echo "== e2e"
	@rm -f out/drills.txt
	HOLDFAST_DRILL_RESULTS=$(CURDIR)/out/drills.txt $(GO) test -count=1 -json -p 1 -timeout 65m ./e2e/... | $(SUM); status=$$?; cat out/drills.txt; exit $$status

lint: ## gofmt, vet, staticcheck
	@test -z "$$(gofmt -l bench cmd internal tools e2e *.go)" || { gofmt -l bench cmd internal tools e2e *.go; echo "not formatted"; exit 1; }
	$(GO) vet -tags bench ./...
	$(GO) run honnef.co/go/tools/cmd/staticcheck@v0.8.2 -tags bench ./...

fuzz: ## every fuzz target for 30 s
	@packaging/fuzz.sh 30s

bench: build ## measured figures, side by side, into bench/RESULTS.md
	@bench/run.sh

clean: ## remove what was built
	rm -rf bin out
