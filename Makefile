# Everything that CI does is a target here. `make help` lists them.
SHELL   := /bin/bash -o pipefail
GO      ?= go
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
STAMP   ?= $(shell git log -1 --format='-X main.commit=%H -X main.committed=%ct' 2>/dev/null)
# One way to compile: programs, tests and linters share what the compiler made.
export CGO_ENABLED ?= 0
export GOFLAGS     := $(shell $(GO) env GOFLAGS) -trimpath
TOOLS   := out/runtests out/leftovers

.PHONY: help build packages bundle demo deps test test-fast test-fresh drills drills-deps drills-report lint bench clean FORCE

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 16

build: ## bin/holdfast, static, and bin/holdfast-lab, the laboratory
	$(GO) build -ldflags "-s -w -X main.version=$(VERSION) $(STAMP)" -o bin/ ./cmd/...
	@stat -c '%n %s' bin/holdfast bin/holdfast-lab | awk '{ printf "%s: %.1f MB\n", $$1, $$2 / 1e6 }'

packages: ## out/holdfast_VERSION_amd64.deb, the rpm, and the bill of materials (VERSION=1.4.0, ARCH=arm64)
	@packaging/build.sh "$(if $(filter file,$(origin VERSION)),,$(VERSION))" $(ARCH)

bundle: build ## out/holdfast-VERSION.hfb, which upgrades Holdfast itself (VERSION=1.4.0, KEY=FILE signs it)
	@packaging/bundle.sh bin/holdfast $(VERSION) out/holdfast-$(VERSION).hfb $(KEY)

demo: build ## a cluster on this machine, with a failure and a recovery to watch
	@bin/holdfast-lab demo --auto --fault power-loss

deps: # what `make test` needs
	@packaging/test-deps.sh test

test: deps lint build $(TOOLS) ## every layer once; as root on Debian it installs what it needs
	@out/runtests test

test-fast: $(TOOLS) ## the loop while you work: units that take moments
	@out/runtests fast

test-fresh: ## make test in a Debian root where nothing was installed or left before (as root)
	@packaging/fresh.sh

drills-deps: # what drills need on top of it
	@packaging/test-deps.sh drills

drills: drills-deps build $(TOOLS) ## what takes long, each alone (ONLY=REGEXP, BUDGET=2h, SEED=S, KNOWN=1)
	@out/runtests drills $(if $(ONLY),-only '$(ONLY)') $(if $(BUDGET),-budget $(BUDGET)) $(if $(SEED),-seed $(SEED)) $(if $(KNOWN),-known)

drills-report: out/runtests ## docs/drills.md, from the ledger docs/drills.jsonl
	@out/runtests report

$(TOOLS): out/%: FORCE
	@$(GO) build -o $@ ./tools/$*

lint: ## gofmt, vet, and the prose of the documents
	@test -z "$$(gofmt -l bench cmd internal packaging tools e2e *.go)" || { gofmt -l bench cmd internal packaging tools e2e *.go; echo "not formatted"; exit 1; }
	$(GO) vet -tags bench ./...
	$(GO) build -C tools/vale -o ../../out/vale github.com/errata-ai/vale/v2/cmd/vale
	out/vale --minAlertLevel=error --no-wrap $$(git ls-files '*.md')

bench: build ## measured figures, side by side, into out/bench.md
	@bench/run.sh

clean: ## remove what was built
	rm -rf bin out
