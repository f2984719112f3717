# Everything that CI does is a target here. `make help` lists them.
SHELL   := /bin/bash -o pipefail
GO      ?= go
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
STAMP   ?= $(shell git log -1 --format='-X main.commit=%H -X main.committed=%ct' 2>/dev/null)
SUM     := out/testsum -into out/tests.json
# Whatever is built as bin/holdfast is shares what the compiler made for it: tests without the
# race detector, the linters, and programs that tests build.
PLAIN   := CGO_ENABLED=0 GOFLAGS="$$($(GO) env GOFLAGS) -trimpath" $(GO)
# Each process under the race detector sleeps for a second when it ends; tests of the command
# line start many. `make lint` vets all packages, so tests do not do that again, and nobody looks
# at a test's program with a debugger: its symbols take a part of the time of each link.
TEST    := test -vet=off -ldflags=-s -json
RACE    := CGO_ENABLED=1 GORACE="$$GORACE atexit_sleep_ms=100" $(GO) $(TEST) -race
# Tests on real components run without the detector, which would take a third of the time of all;
# `make race` runs them with it.
REALLY   = $(if $(DETECT),$(RACE),$(PLAIN) $(TEST))

# Packages whose tests run real components: processes, etcd, libvirt, namespaces, MariaDB.
# They are begun in this order: those that take longest first.
ALIGN   := follow copier profile ids aligntest server survey verify
REAL    := ./internal/transition/net/rebuild/... ./internal/pair/group/... ./internal/transition/net/hostports/... $(ALIGN:%=./internal/transition/db/%/...) ./internal/host/replica/... ./internal/store/... ./internal/transition/pin/bridge/... ./internal/transition/feature/guests/... ./internal/transition/feature/openstack/... ./internal/transition/platform/collect/... ./internal/host/... ./internal/supervise/... ./internal/testbed/lab/... ./internal/testbed/demo/... ./internal/testbed/drbdnode/... ./packaging/testroot/...
# Those of them that make hosts with a libvirtd of their own, one after the other: both processors are
# busy all the time, and emulated guests that get little of them miss what they are waited for.
LABS    := ./internal/host/libvirt/... ./internal/transition/feature/guests/... ./packaging/testroot/... ./internal/testbed/lab/... ./internal/testbed/demo/...
APART    = $(filter-out $(shell $(GO) list $(LABS)),$(shell $(GO) list $(REAL)))
# Packages that look through large spaces: all courses of small clusters, all points at
# which an agent may end in the middle of a job. Under the race detector they take a sample.
SEARCH  := ./internal/testbed/sim/... ./internal/job/engine/...
# Drills that upgrade, take over, empty hosts, or align databases, the demo, and the drills with a disk
# that nobody locks; drills of two-node pairs; all others look at outages. All take about as long.
UPGRADE := ^Test(Adopt|Member|Upgrade|Offline|Software|Bundles|HostsAreEmptied|Alignment|NovaReads|Demo|UnlockedDisk|ADiskThatHangs)
PAIRS   := ^TestPair
# Packages that have no goroutines, which TestPurePackagesImportNothingThatActs sees to, so no race
# to detect. The rules of the whole tree are of that kind, too.
PURE    := $(addprefix ./internal/,ha evacuate inventory inventory/fact pair pair/arbiter pair/precheck reason job upgrade upgrade/manifest upgrade/path upgrade/version $(addprefix transition/db/,mapping column sqlexpr) transition transition/pin transition/feature transition/hostconf transition/platform transition/net) .
UNIT     = $(shell $(GO) list ./... | grep -vE '/(store|supervise|host|group|lab|demo|drbdnode|testroot)(/|$$)|/transition/db/('"$$(echo $(ALIGN) | tr ' ' '|')"')(/|$$)|/transition/(pin/bridge|net/(rebuild|hostports)|feature/(guests|openstack)|platform/collect)$$|/e2e$$|/bench$$')

.PHONY: help build cross packages bundle demo deps test test-tools test-rest test-again test-fresh test-fast test-unit test-real test-contract contract-labs contract-apart race test-e2e e2e-outages e2e-upgrades e2e-pairs lint fuzz bench clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 16

build: ## bin/holdfast, static
	$(PLAIN) build -ldflags "-s -w -X main.version=$(VERSION) $(STAMP)" -o bin/holdfast ./cmd/holdfast
	@stat -c %s bin/holdfast | awk '{ printf "bin/holdfast: %.1f MB\n", $$1 / 1e6 }'

packages: ## out/holdfast_VERSION_amd64.deb, the rpm, and the bill of materials (VERSION=1.4.0, ARCH=arm64)
	@packaging/build.sh "$(if $(filter file,$(origin VERSION)),,$(VERSION))" $(ARCH)

# No file is for one architecture only, so `make lint` has all that vet can find; that of tests
# compiles is left.
cross: ## the tree builds for arm64 hosts, tests too
	GOARCH=arm64 $(PLAIN) vet -buildtag ./...
	GOARCH=arm64 $(PLAIN) build -o /dev/null ./cmd/holdfast

bundle: build ## out/holdfast-VERSION.hfb, which upgrades Holdfast itself (VERSION=1.4.0, KEY=FILE signs it)
	@packaging/bundle.sh bin/holdfast $(VERSION) out/holdfast-$(VERSION).hfb $(KEY)

demo: build ## a cluster on this machine, with a failure and a recovery to watch
	@bin/holdfast demo --auto --fault power-loss

deps: ## install what the tests need (as root, with apt)
	@packaging/test-deps.sh

out/testsum: tools/testsum/main.go
	@mkdir -p out
	$(PLAIN) build -o out/testsum ./tools/testsum

out/leftovers: $(wildcard tools/leftovers/*.go)
	@mkdir -p out
	$(PLAIN) build -o out/leftovers ./tools/leftovers

test: ## every layer, and what they leave on the machine
	@packaging/side-by-side.sh deps test-tools
	@rm -f out/tests.json out/unlike
	@out/leftovers snapshot out/before.json
	@status=0; export HOLDFAST_TEST_RUN=$$$$ HOLDFAST_TEST_BEGAN=$$(date +%s); \
	NICE=2 packaging/side-by-side.sh test-real test-rest || $(MAKE) --no-print-directory test-again || status=1; \
	[ ! -e out/unlike ] || { echo "failed: $$(xargs <out/unlike)"; status=1; }; \
	echo "== what is left"; out/leftovers compare out/before.json | $(SUM) || status=1; \
	out/testsum -total out/tests.json || status=1; exit $$status

test-tools: build out/testsum out/leftovers

test-rest: # what computes; out/unlike has what failed of it and is no test
	@status=0; $(MAKE) --no-print-directory test-unit || status=1; \
	for part in lint cross; do $(MAKE) --no-print-directory $$part || { echo "make $$part" >>out/unlike; status=1; }; done; exit $$status

test-again: out/testsum # what failed beside others, alone (ADR 0051)
	@out/testsum -again out/tests.json >out/again.txt || { echo "it failed, and no test has"; exit 1; }; \
	real=$$($(GO) list $(REAL)); last=$$(($$(date +%s)+1200)); most=$$((HOLDFAST_TEST_BEGAN+4200)); unset HOLDFAST_TEST_BEGAN; \
	while read -r pkg test && (($$(date +%s) < (last < most ? last : most))); do \
		[ "$$pkg" = holdfast/e2e ] || grep -qx "$$pkg" <<<"$$real" || continue; \
		echo "== again, alone: $$pkg $$test"; \
		eval '$(PLAIN) $(TEST)'" -count=1 -timeout 12m -run '^$$test$$' $$pkg" </dev/null | $(SUM) || true; \
	done <out/again.txt

test-fresh: ## every layer in a Debian root where nothing was installed or left before (as root)
	@packaging/fresh.sh

test-fast: out/testsum ## the loop while you work: no hypervisor, no race detector
	@rm -f out/tests.json
	$(PLAIN) test -json $(UNIT) | $(SUM) && out/testsum -total out/tests.json

test-unit: out/testsum ## tables, fuzz seeds, virtual time, simulator, command line
	@echo "== unit"
	$(RACE) -timeout 60m $(filter-out $(shell $(GO) list $(PURE)),$(UNIT)) | $(SUM); status=$$?; \
	echo "== searches that are too large for the race detector, and what has no goroutines"; \
	$(PLAIN) $(TEST) -timeout 60m $(SEARCH) $(PURE) | $(SUM) || status=1; \
	echo "== scripts of the command line: hundreds of programs"; \
	$(PLAIN) $(TEST) -timeout 60m -run '^TestScripts$$' ./internal/cli | $(SUM) || status=1; exit $$status

test-real: # what needs real components, one layer after the other
	@status=0; for layer in test-contract test-e2e; do $(MAKE) --no-print-directory $$layer || status=1; done; exit $$status

test-contract: out/testsum ## the drivers and the store on the real components
	@packaging/side-by-side.sh contract-labs contract-apart

contract-labs: out/testsum
	@echo "== contract: libvirt and laboratories"
	$(REALLY) -count=1 -p 1 -timeout 60m $(LABS) | $(SUM)

contract-apart: out/testsum
	@echo "== contract: store, databases, hosts"
	$(REALLY) -count=1 -p 3 -timeout 60m $(APART) | $(SUM)

race: out/testsum ## the drivers and the store on the real components, under the race detector
	@rm -f out/tests.json
	@status=0; $(MAKE) --no-print-directory test-contract DETECT=1 || status=1; out/testsum -total out/tests.json || status=1; exit $$status

test-e2e: build out/testsum ## the drills on the laboratory, and the demo
	@rm -f out/drills.txt
	@packaging/side-by-side.sh e2e-outages e2e-upgrades e2e-pairs; status=$$?; cat out/drills.txt; exit $$status

e2e-outages: out/testsum
	@echo "== e2e: outages"
	HOLDFAST_DRILL_RESULTS=$(CURDIR)/out/drills.txt $(PLAIN) $(TEST) -count=1 -timeout 65m -skip '$(UPGRADE)|$(PAIRS)' ./e2e/... | $(SUM)

e2e-upgrades: out/testsum
	@echo "== e2e: upgrades, databases, the demo, unlocked disks"
	HOLDFAST_DRILL_RESULTS=$(CURDIR)/out/drills.txt $(PLAIN) $(TEST) -count=1 -timeout 65m -run '$(UPGRADE)' ./e2e/... | $(SUM)

e2e-pairs: out/testsum
	@echo "== e2e: two-node pairs"
	$(PLAIN) $(TEST) -count=1 -timeout 65m -run '$(PAIRS)' ./e2e/... | $(SUM)

lint: ## gofmt, vet, staticcheck
	@test -z "$$(gofmt -l bench cmd internal packaging tools e2e *.go)" || { gofmt -l bench cmd internal packaging tools e2e *.go; echo "not formatted"; exit 1; }
	$(PLAIN) vet -tags bench ./...
	$(PLAIN) run honnef.co/go/tools/cmd/staticcheck@v0.8.2 -tags bench ./...

fuzz: ## every fuzz target for 30 s
	@packaging/fuzz.sh 30s

bench: build ## measured figures, side by side, into out/bench.md
	@bench/run.sh

clean: ## remove what was built
	rm -rf bin out
