SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# A build says what it was made of by its sources, not by the state of git.
export GOFLAGS ?= -buildvcs=false

GOLANGCI_VERSION := v2.15.0
GOLANGCI := build/bin/golangci-lint
GO_TEST := go test -race -shuffle=on -p 2
# azservicebus before the one in go.mod: one module cannot hold two versions.
FORMER_CLIENT := -modfile=local/servicebusemu/former.mod -tags formerclient

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## install what is missing: Slurm's Debian packages, Azurite
	go run ./local/cmd/burstlocal setup

build: ## compile every command into build/bin
	mkdir -p build/bin
	CGO_ENABLED=0 go build -trimpath -o build/bin/ ./cmd/... ./local/cmd/...

package: ## assemble build/app and build/app.zip, what ships to Azure
	go run ./local/cmd/package $(if $(POLICY),--policy $(POLICY))

test: unit ratios e2e ## everything: unit, contract and race tests, ratios to a floor, then end to end on real Slurm

unit: setup build package ## unit and contract tests with the race detector
	$(GO_TEST) -timeout 10m ./...
	$(GO_TEST) $(FORMER_CLIENT) -timeout 10m ./local/servicebusemu ./internal/bus
	$(GO_TEST) -tags crashpoints -v ./internal/reconcile ./internal/agent -run CrashPoints
	GOGC=400 SLURMBURST_OVERFLOW_SEEDS=10000 go test -timeout 10m ./internal/burst -run TheOverflowModel

ratios: setup build package ## fails when a ratio to a floor of the same run has doubled since bench/baseline.json
	go run ./bench --short

e2e: setup build package ## end to end on real Slurm, built binaries and the packaged app
	$(GO_TEST) -tags e2e -count=1 -parallel 4 -timeout 15m ./test/e2e

lint: $(GOLANGCI) ## formatting, vet, linters, go.mod tidy
	test -z "$$(gofmt -l $$(git ls-files '*.go') | tee /dev/stderr)"
	go vet -tags e2e ./...
	$(GOLANGCI) run ./...
	go mod tidy -diff

$(GOLANGCI):
	GOBIN=$(CURDIR)/build/bin go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_VERSION)

fuzz: ## every fuzz target for 30 s
	grep -ro --include='*_test.go' 'func Fuzz[A-Za-z0-9_]*' internal cmd local handlers | while IFS=: read -r file target; do \
		go test "./$$(dirname "$$file")" -run '^$$' -fuzz "^$${target#func }\$$" -fuzztime 30s || exit 1; done

mutants: ## one-line faults of the core, each of which its tests must find; prints by which
	go test -tags mutants ./internal/burst -run TestMutants -v -count=1 -timeout 30m

golden: ## rewrite the golden files; read the diff before committing it
	go test $$(grep -rl --include='*_test.go' 'flag.Bool("update"' internal cmd local handlers test | xargs -n1 dirname | sort -u | sed 's,^,./,') -update

docs: ## regenerate the pages that are made from code
	go test ./internal/config -run TestSettingsPage -update
	go test ./internal/policy -run TestPolicyPages -update

demo: setup build package ## real Slurm jobs burst to simulated CycleCloud and back to zero, in under 90 s once everything is installed
	build/bin/burstlocal demo

overflow: setup build package ## the demo of a full on-prem partition: jobs burst, are held with a reason, and move on from where there is no capacity
	build/bin/burstlocal demo --scenario overflow

chaos: setup build package ## the demo while parts of it are killed, paused and cut off; SEED=n
	build/bin/burstlocal demo --chaos --seed $(or $(SEED),1)

compat: ## the emulator's and internal/bus's tests once more, with the former Service Bus client
	go test $(FORMER_CLIENT) -timeout 10m ./local/servicebusemu ./internal/bus

bench: setup build package ## every measured promise beside its floor, into bench/RESULTS.md
	go run ./bench

local: setup build package ## start the same world and leave it up
	build/bin/burstlocal up

local-down: ## stop what `make local` started
	build/bin/burstlocal down

check: ## exactly what CI runs
	bash .ci/run

clean: ## remove everything that was built (tools in build/tools stay)
	rm -rf build/bin build/app build/app.zip build/run build/e2e

.PHONY: help setup build package test unit ratios e2e lint fuzz golden docs demo overflow chaos compat bench local local-down check clean
