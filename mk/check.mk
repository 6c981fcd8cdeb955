# Checks: lint, tests, fuzzing. Each works alone and installs what it needs.
export MODULES
REPORT := $(BUILD)/report

$(REPORT):
	@mkdir -p $@

.PHONY: own-tools
own-tools:
	@mkdir -p $(BIN)
	go build -o $(BIN)/ ./tools/layers ./tools/lengths ./tools/testsum ./tools/fuzzall

LINTS := format lengths layers vet staticcheck protobuf-pin proto python python-types

.PHONY: lint
lint: bootstrap own-tools ## format, vet, staticcheck, buf lint and breaking, layers, lengths
	@$(MAKE) -k $(addprefix lint-,$(LINTS))

# Files that git knows or would take, so that build output is left out.
SOURCES = git ls-files -co --exclude-standard

.PHONY: $(addprefix lint-,$(LINTS))
lint-format:
	@bad=$$($(SOURCES) '*.go' | while read -r f; do [ ! -f "$$f" ] || gofmt -l "$$f"; done)
	[ -z "$$bad" ] || { echo "not formatted by gofmt:"; echo "$$bad"; exit 1; }

lint-lengths:
	@$(SOURCES) | $(BIN)/lengths

lint-layers:
	@$(BIN)/layers

lint-vet:
	@tools/each-module.sh go vet ./...

lint-staticcheck:
	@tools/each-module.sh $(BIN)/staticcheck ./...

# One version of protobuf in all modules, the generator's included: a runtime older than the
# generated code does not compile or, in other languages, does not load.
lint-protobuf-pin:
	@versions=$$(for m in $(MODULES); do
		awk -v m=$$m '/google.golang.org\/protobuf v/ { sub("require ", ""); print $$2, m }' $$m/go.mod
	done)
	[ "$$(cut -d' ' -f1 <<<"$$versions" | sort -u | wc -l)" = 1 ] || {
		echo "modules differ in their version of protobuf:"; echo "$$versions"; exit 1; }

LAST_TAG = $(shell git describe --tags --abbrev=0 --match 'v[0-9]*' 2>/dev/null)

lint-proto:
	@$(BUF) lint
	if [ -n "$(LAST_TAG)" ]; then
		$(BUF) breaking --against '.git#tag=$(LAST_TAG)'
	else
		echo "buf breaking: no release tag yet, nothing to compare with"
	fi

# SHUFFLE=N runs tests in a random order made from N; `make full` does. Without it go may answer
# from its cache.
SHUFFLE ?=
# What one package's tests may take before they count as hung; the slowest needs half a minute.
TEST_TIMEOUT ?= 240s

.PHONY: test
test: need-cc bootstrap bootstrap-test own-tools consumer-python | $(REPORT) ## all tests: of all Go modules, with the race detector, and of Python
	@rc=0
	{
		bad=0
		tools/each-module.sh go test -race -timeout $(TEST_TIMEOUT) $(if $(SHUFFLE),-shuffle=$(SHUFFLE)) -json ./... 2>&1 || bad=1
		$(PYTEST_EVENTS) || bad=1
		exit $$bad
	} | $(BIN)/testsum -report $(REPORT)/tests.md | tee $(REPORT)/tests.log || rc=$$?
	tail -1 $(REPORT)/tests.log > $(REPORT)/tests.txt
	exit $$rc

.PHONY: container-check
container-check: ## build and run what deploy/container/Containerfile has, in an empty root, without a container runtime
	@OCTO_CONTAINER=1 go test -count=1 -v -run TestProgramsRunInAnEmptyRoot ./deploy

.PHONY: fuzz-quick
fuzz-quick: own-tools | $(REPORT) ## each fuzz target for FUZZ_QUICK (10s)
	@$(BIN)/fuzzall -each $(FUZZ_QUICK) -report $(REPORT)/fuzz.md

.PHONY: fuzz
fuzz: own-tools | $(REPORT) ## all fuzz targets within FUZZTIME together (10m)
	@$(BIN)/fuzzall -total $(FUZZTIME) -report $(REPORT)/fuzz.md

.PHONY: models
models: bootstrap-full | $(REPORT) ## check the Promela models with spin
	@go build -o $(BIN)/models ./tools/models
	$(BIN)/models -dir proto/spec/models -jobs $(MODELS_JOBS) -mem $(MODELS_MEM) -report $(REPORT)/models.md

.PHONY: ci
ci: ## lint, drift, test, conformance-quick, faults-quick, interop-quick, fuzz-quick; prints minutes per step
	@tools/steps.sh lint drift test conformance-quick faults-quick interop-quick fuzz-quick

SEED ?= $(shell od -An -N4 -tu4 /dev/urandom | tr -d ' ')

.PHONY: full
full: ## ci, all of conformance with its mutations, all of interop, models and long fuzzing (FUZZTIME), with a report in docs/reports
	@seed=$(SEED)
	export OCTO_SEED=$$seed SHUFFLE=$$seed
	bad=0
	tools/steps.sh lint drift test conformance faults-long conformance-mutations interop-check fuzz models || bad=1
	tools/report.sh $$seed
	exit $$bad
