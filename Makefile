.DEFAULT_GOAL := help
SHELL := /bin/bash -o pipefail

modules := $(shell go list -m -f '{{.Dir}}')
prefix  := github.com/fulcrum-io/fulcrum
stack   := go run ./pkg/devstack/withstack
export PATH := $(CURDIR)/bin:$(PATH)
export GOTOOLCHAIN := local

.PHONY: help
help: ## Print this list of verbs
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  \033[1m%-18s\033[0m %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

##
.PHONY: demo
demo: deps ## Show a governed agent from start to end on a private, temporary stack
	@go run ./services/fulcrum demo

.PHONY: run
run: deps ## Run all of Fulcrum on stable ports and keep it running (data in .data/)
	@go run ./services/fulcrum up

.PHONY: test
test: deps ## Run every test with the race detector on real PostgreSQL, Redis and JetStream
	@$(stack) -- go test -race -timeout 15m work

.PHONY: check
check: check-format check-vet check-lint check-modules check-imports check-generated check-migrations ## All that does not need to run the product

.PHONY: deps
deps: ## Install PostgreSQL and Redis from the system's packages if they are missing
	@sh deploy/install/deps.sh

##
.PHONY: bench
bench: deps ## Measure decisions against their floor in one run (OUT=file also writes JSON lines)
	@go run ./services/fulcrum bench $(if $(OUT),--out $(OUT))

.PHONY: bench-budget
bench-budget: deps ## Measure the budget ledger beside plain transactions in one run (OUT=file also writes JSON lines)
	@go run ./services/budget/bench $(if $(OUT),-out $(OUT))

.PHONY: bench-oracle
bench-oracle: ## Measure budget predictions on windows they have not seen (OUT=file also writes JSON lines)
	@OUT=$(if $(OUT),$(abspath $(OUT))) go test ./services/budget/internal/oracle -count=1 -v -run '^TestTheModelIsMeasuredOnWindowsItHasNotSeen$$' | grep -v '^=== '

.PHONY: bench-policy
bench-policy: ## Measure the policy engine beside plain OPA in one run (OUT=file also writes JSON lines, ONLY=words takes the parts so named)
	@go run ./services/policy-engine/internal/enginebench/benchpolicy $(if $(OUT),-out $(OUT)) $(if $(ONLY),-only "$(ONLY)")

.PHONY: chaos
chaos: deps ## The long form of the kill and loss tests (CI runs the short one)
	@FULCRUM_TEST_FULL=1 FULCRUM_STORM=60s $(stack) -- go test -race -count=1 -timeout 60m ./test/... ./services/budget/... ./db/...

.PHONY: fuzz
fuzz: ## Fuzz every parser of outside bytes for FUZZTIME (default 30s each)
	@bash deploy/checks/fuzz.sh $(or $(FUZZTIME),30s)

.PHONY: fuzz-policy
fuzz-policy: ## Compare the engine with the naive evaluator on random rules and facts for FUZZTIME (default 60s)
	@AGREE_FOR=$(or $(FUZZTIME),60s) go test ./services/policy-engine/internal/policy -count=1 -timeout 30m -v -run '^TestEngineAgreesWithTheNaiveEvaluator$$' | grep -v -e '^ *=== ' -e 'rapid. OK'

##
.PHONY: generate
generate: tools ## Regenerate Go from proto/ and db/queries
	@cd proto && buf generate
	@sqlc generate -f db/sqlc.yaml
	@go test ./services/fulcrum/internal/deploycheck -run EnvExample -update

.PHONY: sqlc
sqlc: tools ## Regenerate the queries only
	@sqlc generate -f db/sqlc.yaml

.PHONY: prices
prices: ## Rewrite the shipped price table from its pinned package (needs python3 and pip)
	@bash deploy/prices/prices.sh

.PHONY: tidy
tidy: ## Tidy every module
	@for m in $(modules); do (cd $$m && GOWORK=off go mod tidy) || exit 1; done

.PHONY: format
format: ## Format all Go code
	@gofmt -w $$(git ls-files -co --exclude-standard '*.go' | grep -v '/gen/')

.PHONY: migrate
migrate: ## Bring the database at POSTGRES_CONN_STR up to the newest schema
	@go run ./services/fulcrum migrate up

##
.PHONY: check-format
check-format: ## Fail if a file is not gofmt-ed
	@bad=$$(gofmt -l $$(git ls-files -co --exclude-standard '*.go')); [ -z "$$bad" ] || { echo "not gofmt-ed:"; echo "$$bad"; exit 1; }

.PHONY: check-vet
check-vet: ## go vet over the workspace
	@go vet work

.PHONY: check-lint
check-lint: tools ## golangci-lint over each module
	@for m in $(modules); do (cd $$m && golangci-lint run --allow-parallel-runners ./...) || exit 1; done

.PHONY: check-modules
check-modules: ## Fail unless each module is tidy and builds without the workspace
	@for m in $(modules); do (cd $$m && GOWORK=off go mod tidy -diff && GOWORK=off go build ./...) || { echo "module $${m#$(CURDIR)/} does not stand alone; run: make tidy"; exit 1; }; done

.PHONY: check-imports
check-imports: ## Fail if a dependency points up or sideways
	@go list -f '{{$$p := .ImportPath}}{{range .Imports}}{{$$p}} {{.}}{{"\n"}}{{end}}{{range .TestImports}}{{$$p}} {{.}}{{"\n"}}{{end}}{{range .XTestImports}}{{$$p}} {{.}}{{"\n"}}{{end}}' work | awk -v root=$(prefix)/ -f deploy/checks/imports.awk

.PHONY: check-generated
check-generated: tools ## Fail if generated code is stale
	@bash deploy/checks/generated.sh

.PHONY: check-migrations
check-migrations: deps ## Fail unless migrations go up, down and up again to the same schema
	@$(stack) -- go test ./db -count=1 -run TestMigrationsAreReversible

##
.PHONY: tools
tools: bin/.stamp ## Build the pinned generators and linters into bin/

bin/.stamp: deploy/tools/go.mod deploy/tools/go.sum
	@echo "building generators and linters into bin/ (some minutes the first time)"
	@cd deploy/tools && GOBIN=$(CURDIR)/bin GOWORK=off go install tool
	@touch $@

.PHONY: clean
clean: ## Remove what was built and the data of make run
	@rm -rf bin .data
