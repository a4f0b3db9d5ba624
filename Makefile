# `make` alone lists the targets. Programs are built without cgo, so that they run anywhere. Tests are built with it,
# because the race detector needs it.

GO   ?= go
ARGS ?=
FLOW ?= hail cancel refund_late order

# What --version prints: "devel" where there is no git, or where it refuses to read a clone that another user owns.
version := $(shell git describe --tags --always --dirty 2>/dev/null)
build := CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=false -ldflags '-X github.com/rocketrides/rocketrides/internal/cli.version=$(version)' -o bin/

# Each tool has a module file of its own, so that what it needs is no dependency of ours.
lint := $(GO) tool -modfile=.ci/lint.mod golangci-lint
vuln := $(GO) tool -modfile=.ci/vuln.mod govulncheck
actions := $(GO) tool -modfile=.ci/actions.mod actionlint
openapi := $(GO) tool -modfile=.ci/openapi.mod validate

stripe_mock := github.com/stripe/stripe-mock@v0.203.0

.PHONY: help run build test test-parts test-programs race check spectral browser figures crash kill chaos simulate bench citus model mutants fuzz stripe-mock fakestripe-clients up down compose-test clean

help: ## Show this list.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# exec: the sandbox replaces the shell, so that it gets the signals and its exit code is the recipe's.
run: ## Run everything on this machine: make run ARGS='--listen 127.0.0.1:8081'.
	@[ -x bin/sandbox ] || echo 'Building the programs. The first time takes a minute or two: Go downloads and builds what they use.'
	@$(build) ./cmd/...
	@exec bin/sandbox $(ARGS)

build: ## Build the programs, statically, into bin/.
	$(build) ./cmd/...

test: ## Run all tests: make test ARGS='-run Name'.
	@$(MAKE) --no-print-directory --keep-going --jobs=2 test-parts test-programs

# With the race detector, whole programs and the rides of proof/crash take three times as long, and find no race that the
# tests of their parts don't find. make race uses it for them too. Programs mostly wait for each other, so that they are
# tested beside the parts.
programs := internal/(commands|sandbox|simulator)|proof/crash
packages = $(GO) list ./... | grep -E $(1) '/($(programs))(/|$$)'
# Those that take longest begin first.
slow := internal/(rides|phases|jobs|payments)

test-parts:
	@CGO_ENABLED=1 $(GO) test -race $(ARGS) $$($(call packages,-v) | grep -E '/($(slow))$$'; $(call packages,-v) | grep -vE '/($(slow))$$')

test-programs:
	@$(GO) test $(ARGS) $$($(call packages))

race: ## Run all tests with the race detector, also those of whole programs.
	CGO_ENABLED=1 $(GO) test -race $(ARGS) ./...

check: ## Check format, lint, modules, workflows, the OpenAPI document and known vulnerabilities.
	$(lint) fmt --diff
	$(GO) vet ./...
	$(GO) vet -tags stripemock ./internal/payments
	$(GO) vet -tags compose ./deploy
	$(GO) vet -tags fakeclients ./internal/fakestripe/clients
	$(GO) vet -tags browser ./api
	$(lint) run
	$(GO) mod verify
	$(GO) mod tidy -diff
	@$(check_bench)
	$(actions) .github/workflows/*.yml
	$(openapi) api/openapi.yaml
	@$(check_vulnerabilities)

define check_bench
set -ex; cd bench; $(GO) vet .; $(GO) test .; $(subst .ci,../.ci,$(lint)) run; $(GO) mod tidy -diff
endef

# govulncheck exits with 3 if it finds vulnerabilities. Without a network it has no list to compare with, and that does
# not fail the check; anything else does.
define check_vulnerabilities
echo 'govulncheck ./...'; said=$$($(vuln) ./... 2>&1); code=$$?; echo "$$said"; \
case "$$code $$said" in \
0\ *) ;; \
1\ *'fetching vulnerabilities'*) echo 'Known vulnerabilities were not checked: their database is out of reach.' ;; \
*) exit 1 ;; \
esac
endef

# npm's lock file has the digest of each package, and nothing of them runs while they are installed.
spectral: ## Lint the OpenAPI document with Spectral, which npm installs into .ci/spectral.
	npm ci --prefix .ci/spectral --ignore-scripts --no-audit --no-fund --silent
	.ci/spectral/node_modules/.bin/spectral lint --ruleset .ci/spectral/rules.yaml --fail-severity warn api/openapi.yaml

browser: ## Open /docs and the page of a problem in Chromium, and say where the screenshots are.
	@mkdir -p bin
	$(GO) test ./api -tags browser -run TestPagesInABrowser -count=1 -v -timeout 5m -artifacts -outputdir bin $(ARGS)

figures: ## Draw the pictures of the documents again.
	$(GO) run ./docs/figures

# Each flow has its own time-out, and they run on if one fails. TestEveryFlowOfTheServiceIsHere knows FLOW.
crash: ## Cut, tear and hold every message between the service, Postgres and Stripe: make crash FLOW=hail.
	$(GO) test ./internal/jobs -run TestRelaySurvivesEveryCut -count=1 -v
	$(GO) test ./internal/rides -run 'TestEveryCutOfAnEvent|TestEveryOrderEndsInOneState' -count=1 -v -args -full
	@code=0; for flow in $(FLOW); do \
	echo "the flow $$flow"; \
	$(GO) test ./proof/crash -run TestEveryFault -count=1 -v -timeout 240m -args -full -flow $$flow $(ARGS) || code=1; \
	done; exit $$code

kill: ## Kill completers while 1,000 rides and 300 cancels are delivered, and an api 50 times while it charges.
	$(GO) test ./internal/commands -run TestKilledCompleters -count=1 -v -timeout 10m -args -full
	$(GO) test ./internal/commands -run 'TestRidesOfAKilledAPI|TestALongCharge' -count=1 -v -timeout 20m -args -full

chaos: ## Kill, freeze and mislead real processes: make chaos ARGS='--duration 2m'.
	$(build) ./proof/chaos
	@exec bin/chaos $(ARGS)

simulate: ## Send riders in trouble to a sandbox in trouble, whose api is killed every 10 seconds: make simulate ARGS='--riders 100'.
	$(build) ./cmd/sandbox ./cmd/simulator
	@ARGS='$(ARGS)' sh proof/simulate/run.sh

# It has a module of its own, so that what it is compared with is no dependency of ours.
bench: ## Measure the service on this machine, beside what could be had: make bench ARGS='--quick'.
	$(build) ./cmd/api ./cmd/completer
	cd bench && $(subst -o bin/,-o ../bin/bench,$(build)) .
	@exec bin/bench $(ARGS)

# DATABASE_URL comes from the environment, as make passes it on: in the recipe `ps` would show its password.
citus: ## Run the tests on a Citus cluster, in the database of the environment's DATABASE_URL.
	@GO='$(GO)' ARGS='$(ARGS)' sh proof/citus/run.sh

model: ## Check a model of the protocol in every possible order of events: make model ARGS='--trace new_key'.
	@proof/model/check.sh $(ARGS)

mutants: ## Break one rule after the other; a test must notice each: make mutants ARGS='-run fence'.
	$(GO) run ./proof/mutants $(ARGS)

fuzz: ## Run every fuzz target, one after the other: make fuzz FUZZTIME=1m FUZZ=Stripe.
	@GO='$(GO)' FUZZTIME='$(FUZZTIME)' FUZZPARALLEL='$(FUZZPARALLEL)' FUZZ='$(FUZZ)' sh proof/fuzz/run.sh

stripe-mock: ## Check every request to Stripe against Stripe's published specification.
	@$(check_requests)

# stripe-mock listens on ports that the system chooses, and logs them.
define check_requests
set -e; dir=$$(mktemp -d); : >"$$dir/log"; \
echo 'building $(stripe_mock)'; (cd "$$dir" && GOBIN="$$dir" $(GO) install $(stripe_mock)); \
"$$dir/stripe-mock" -http-addr 127.0.0.1: -https-addr 127.0.0.1: >>"$$dir/log" 2>&1 & mock=$$!; \
trap '{ kill $$mock; wait $$mock; } 2>/dev/null || :; rm -rf "$$dir"' EXIT; trap 'exit 1' INT TERM; \
for try in 1 2 3 4 5 6 7 8 9 10; do \
url=$$(sed -n 's|.*HTTP at address: \(.*\)|http://\1|p' "$$dir/log"); \
[ -z "$$url" ] || break; sleep 1; \
done; \
[ -n "$$url" ] || { cat "$$dir/log"; exit 1; }; \
STRIPE_MOCK_URL=$$url $(GO) test -count=1 -tags stripemock -run StripeMock ./internal/payments
endef

fakestripe-clients: ## Drive the fake Stripe with Stripe's own clients for Node, Python and Ruby.
	$(GO) test -count=1 -tags fakeclients -v ./internal/fakestripe/clients

# An image that a newer build replaces keeps its space and loses its name.
up: ## Run everything in containers, with Docker Compose.
	VERSION='$(version)' docker compose up --build --detach --wait
	@docker image prune --force --filter label=org.opencontainers.image.title=rocketrides

down: ## Stop the containers; their data stays.
	docker compose down

compose-test: ## Run everything in containers of its own, and check what docs/operating.md says of them.
	$(GO) test -count=1 -tags compose -timeout 20m $(ARGS) ./deploy

# As root a sandbox may have its database elsewhere, behind a link; see internal/postgres/pgserver.
clean: ## Remove the programs, the sandbox's data and what npm has installed.
	@for link in .sandbox/postgres .sandbox/*/postgres; do \
	files=$$(readlink "$$link") || continue; \
	case $$files in /var/tmp/rocketrides-postgres-*/*) ;; /var/tmp/rocketrides-postgres-*) rm -rf "$$files" ;; esac; \
	done
	rm -rf bin .sandbox bench-results .ci/spectral/node_modules
