# One command for each thing that one does here; `make` alone lists them.
# PG=15, 16, 17 or 18 forces a version of Postgres, for up, test and bench.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# make up UP_FLAGS="--listen 127.0.0.1:9001"       (bin/logline help up)
UP_FLAGS ?=
# make release RELEASE_FLAGS="-platforms host"
RELEASE_FLAGS ?=
# make test PACKAGES=./sidecar/span TEST_FLAGS="-run Canonical"
PACKAGES ?= ./...
TEST_FLAGS ?=
# make bench PACKAGES=./tests/bench BENCH=Latency; QUICK=1 only shows that it works
BENCH ?= Peers|Takeover|CatchUp|Decode|Insert|Attached|Idle|Held|Fairness|Thousand|OpenRequests|BytesPerRun|Footprint
QUICK ?=
# The packages' own benchmarks run where BENCH says which.
BENCH_ALONE := $(if $(QUICK),1,$(filter file,$(origin BENCH)))

# Packages that are tested with the race detector: all that share state between goroutines, but for
# those that start children of the sandbox, whose memory limits the detector alone exceeds.
RACE := ./sidecar/config ./sidecar/engine ./sidecar/fetch ./sidecar/ledger ./sidecar/metrics ./sidecar/sign ./sidecar/span ./sidecar/tail \
	./sidecar/turns

.PHONY: help build release up test bench chaos newcomer lint gen migrate bootstrap bootstrap-kernels bootstrap-policies \
	verify e2e compliance doctor keys function policy span timeline requests schedule completion .needs-go .fresh

help: ## list these commands
	@printf 'LogLineOS. Start with: make up\n\n'
	@sed -nE 's/^([a-z0-9-]+):[^#]*## (.*)$$/    make \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 30
	@printf '\nPG=17 make up forces a version of Postgres, 15 to 18.\n'

build: .needs-go ## build bin/logline
	@[ -e bin/logline ] || echo 'building bin/logline: about a minute the first time'
	@CGO_ENABLED=0 go build -trimpath -o bin/logline ./sidecar

release: .needs-go ## build the archives of six platforms and their checksums into bin/release
	@go run ./scripts/release $(RELEASE_FLAGS)

up: build ## start Postgres, ledger and sidecar here and run an example; Ctrl-C stops
	@exec bin/logline up $(UP_FLAGS)

test: lint .fresh ## run everything that CI checks
	@go run ./scripts/testrun -race '$(RACE)' -packages '$(PACKAGES)' -- -timeout 30m $(TEST_FLAGS)

bench: .needs-go ## measure beside baselines and peers, and write docs/benchmarks.md (25 minutes)
	@status=0; \
	whole=$$(go list $(PACKAGES) | grep '/tests/bench$$' || true); \
	parts=$$(go list $(PACKAGES) | grep -v /tests/bench || true); \
	[ -z "$$whole" ] || go test -run '^$$' -bench '$(BENCH)' -benchtime 1x -timeout 60m $$whole $(if $(QUICK),-quick) || status=$$?; \
	[ -z "$$whole" ] || [ -n '$(QUICK)' ] || go run ./scripts/benchtable; \
	[ -z "$$parts" ] || [ -n '$(BENCH_ALONE)' ] || go test -run '^$$' -bench '$(BENCH)' -timeout 60m $$parts || status=$$?; \
	exit $$status

chaos: .needs-go ## break a running ledger in random ways for CHAOS_MINUTES (15), and judge it
	@CHAOS_MINUTES='$(CHAOS_MINUTES)' go test -count=1 -v -timeout $$(( 2 * $(CHAOS_MINUTES) + 30 ))m \
		$(TEST_FLAGS) ./tests/chaos

newcomer: .needs-go ## time the way from a clone to the first own function, cold and warm (two minutes)
	@go run ./scripts/newcomer

lint: .needs-go ## check with gofmt, go vet and staticcheck
	@echo 'lint       gofmt, go vet, staticcheck (about half a minute the first time)'
	@files=$$(gofmt -l .); [ -z "$$files" ] || { printf 'run gofmt -w on:\n%s\n' "$$files" >&2; exit 1; }
	@go vet $(PACKAGES)
	@go tool staticcheck $(PACKAGES)

gen: .needs-go ## write every generated file anew
	@go run ./scripts/sqlbuild
	@go run ./scripts/gen
	@go test -count=1 ./tests/reference -update
	@go test -count=1 ./tests/supabase -run TypesAreFresh -update

migrate: build ## bring the database of DATABASE_URL to this schema
	@exec bin/logline migrate

# make bootstrap FLAGS="--diff"; make verify FLAGS=--json
FLAGS ?=

bootstrap: build ## publish kernels, policies and manifest into the database of DATABASE_URL
	@exec bin/logline bootstrap $(FLAGS)

bootstrap-kernels: build ## publish the kernels alone
	@exec bin/logline bootstrap --kernels $(FLAGS)

bootstrap-policies: build ## publish the policies of the system alone
	@exec bin/logline bootstrap --policies $(FLAGS)

# The database of DATABASE_URL; without it, that of `make up`.
CHECKED := [ -n "$${DATABASE_URL:-}" ] || [ ! -r .logline/up.env ] || . .logline/up.env; exec bin/logline

verify: build ## look whether the ledger is whole, and try its walls
	@$(CHECKED) $@ $(FLAGS)

e2e: build ## run the whole flow against a running system, and put it away
	@$(CHECKED) $@ $(FLAGS)

compliance: build ## test the seven principles; FLAGS="--html FILE" for an auditor
	@$(CHECKED) $@ $(FLAGS)

# make requests FLAGS="--status dead"; make function FLAGS="call hello --input '{}'"
doctor: build ## say what is in the way of a sidecar here, and its mend
	@$(CHECKED) $@ $(FLAGS)

requests: build ## list requests; FLAGS="show ID", "cancel …", "redrive …"
	@$(CHECKED) $@ $(FLAGS)

function: build ## make, try, publish and call functions: FLAGS="new hello"
	@$(CHECKED) $@ $(FLAGS)

policy: build ## try a policy over past spans: FLAGS="try FILE --since 24h"
	@$(CHECKED) $@ $(FLAGS)

span: build ## append and read spans: FLAGS="history ID"
	@$(CHECKED) $@ $(FLAGS)

timeline: build ## show what happened; FLAGS=--follow goes on
	@$(CHECKED) $@ $(FLAGS)

schedule: build ## say when a schedule ticks: FLAGS="check '0 3 * * *'"
	@$(CHECKED) $@ $(FLAGS)

keys: build ## make and publish keys: FLAGS=generate
	@$(CHECKED) $@ $(FLAGS)

completion: build ## print a completion script: FLAGS=bash
	@exec bin/logline $@ $(FLAGS)

.fresh: .needs-go
	@go run ./scripts/sqlbuild -check
	@go run ./scripts/gen -check

.needs-go:
	@command -v go >/dev/null || { echo 'install Go 1.26 or later first' >&2; exit 1; }
