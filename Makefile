# Targets of gopherscope; `make help` lists them.

GO ?= go
DELVE ?= v1.27.2

.PHONY: help build demo test race matrix servers fuzz bench bench-cost bench-dump bench-views bench-record bench-smoke churn soak vm generate check-generate lint clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## build ./gopherscope, one static binary
	CGO_ENABLED=0 $(GO) build -trimpath -o gopherscope ./cmd/gopherscope

demo: build ## trace a small HTTP server under load for three seconds (needs root)
	$(GO) build -o bin/demo ./demo
	scripts/demo

test: ## run the tests; those that trace need root, and say so when they skip
	$(GO) test -timeout 20m ./...

race: ## run the tests that need no privileges under the race detector
	$(GO) test -race $(addprefix ./internal/,event gstate seed dump leaks report pprof goruntime clock summary)

matrix: ## trace programs of every Go version in every build mode (about an hour)
	GOPHERSCOPE_MATRIX=1 $(GO) test -count=1 -timeout 3h ./test/... ./internal/gobinary/

servers: ## build two well-known Go servers and trace them under load
	GOPHERSCOPE_SERVERS=1 $(GO) test -count=1 -timeout 30m -run TestServers -v ./test/servers/

FUZZTIME ?= 20s
fuzz: ## fuzz every reader of foreign bytes, FUZZTIME each
	FUZZTIME=$(FUZZTIME) scripts/fuzz

bench: ## measure the cost of a trace against its rivals, in one run (needs root)
	$(GO) run ./bench

# Delve, which is measured and tested against.
bin/dlv:
	GOBIN=$(CURDIR)/bin $(GO) install github.com/go-delve/delve/cmd/dlv@$(DELVE)

bench-dump: build bin/dlv ## measure dumps of a thousand to a million goroutines next to the program's own and Delve's (root; some 15 minutes)
	$(GO) run ./bench/dump $(BENCHFLAGS)

bench-cost: ## hold what a trace says that it costs to what it costs (root; some 3 minutes; BENCHFLAGS='-engine ebpf')
	$(GO) run ./bench/cost $(BENCHFLAGS)

bench-views: ## feed ten million events to what adds them up: events a second, and the most memory
	$(GO) test -run '^$$' -bench Summary -benchtime 10000000x ./internal/summary/

bench-smoke: ## run every benchmark of the packages once, so that none rots
	$(GO) test -short -run '^$$' -bench . -benchtime 1x $$(grep -rl --include='*_test.go' '^func Benchmark' internal | xargs -n 1 dirname | sort -u | sed 's,^,./,')

bench-record: build ## record at full rate with each engine, and convert: lost events, size, CPU time (root; half a minute)
	$(GO) build -o bin/bench-target ./bench/target
	scripts/bench-record

CHURN ?= 60m
churn: ## look for wrong stacks in snapshots of 100 thousand goroutines in motion, for CHURN
	GOPHERSCOPE_CHURN=$(CHURN) $(GO) test -count=1 -timeout 4h -run TestChurn -v ./internal/snapshot/

MINUTES ?= $(if $(CYCLES),,60)
soak: ## attach each engine to programs under stress, detach it, and kill the tracer: for MINUTES in all, or CYCLES times for each build
	GOPHERSCOPE_SOAK=$(if $(MINUTES),$(MINUTES)m) GOPHERSCOPE_CYCLES=$(CYCLES) $(GO) test -count=1 -timeout 48h -v ./test/stress/

vm: ## run the tests on other kernels and on arm64, in virtual machines (qemu; an hour and more without KVM)
	GOPHERSCOPE_VM=1 $(GO) test -count=1 -timeout 4h -v ./scripts/vm/

generate: ## compile the BPF programs and the inline engine's code (needs clang)
	$(GO) generate ./...

check-generate: ## compile the BPF programs anew and compare with what is committed
	scripts/check-generate

lint: ## gofmt, go vet and, where it is installed, golangci-lint
	@test -z "$$(gofmt -l cmd internal test bench demo scripts)" || { gofmt -l cmd internal test bench demo scripts; exit 1; }
	$(GO) vet ./...
	@if command -v golangci-lint >/dev/null; then golangci-lint run; else echo "golangci-lint is not installed: skipped"; fi

clean: ## remove what was built
	rm -rf gopherscope bin
