# The conformance suite: each testee with each other, in all topologies (docs/guides/conformance.md).
CONFORMANCE := $(BUILD)/conformance
# name=command, as the runner takes it. A new SDK adds its testee here, and a rule that builds it to
# conformance-programs.
TESTEES := go=$(CONFORMANCE)/testee-go
CONFORMANCE_FLAGS ?=

.PHONY: conformance-programs
conformance-programs:
	@mkdir -p $(CONFORMANCE)
	go build -o $(CONFORMANCE)/runner ./conformance/runner
	go build $(CONFORMANCE_BUILD) -o $(CONFORMANCE)/octo-proxy ./core/cmd/octo-proxy
	go build $(CONFORMANCE_BUILD) -o $(CONFORMANCE)/octo ./core/cmd/octo
	go build $(CONFORMANCE_BUILD) -o $(CONFORMANCE)/testee-go ./conformance/testees/go

run-conformance = $(CONFORMANCE)/runner --proxy $(CONFORMANCE)/octo-proxy --octo $(CONFORMANCE)/octo $(addprefix --testee ,$(TESTEES)) \
	--no-skips --results $(CONFORMANCE)/results $(CONFORMANCE_FLAGS)

.PHONY: conformance-quick
conformance-quick: conformance-programs ## the cases that a change needs at once, in under a minute
	@$(run-conformance) --quick --matrix docs/feature-matrix.md

# The race detector looks on; it makes the programs slower, and the run no different.
.PHONY: conformance
conformance: need-cc ## all cases and scenarios, with the race detector in proxy and testees
	@$(MAKE) CONFORMANCE_BUILD=-race conformance-programs
	$(run-conformance) --patience 60s --memory 8 --matrix docs/feature-matrix.md

.PHONY: conformance-matrix
conformance-matrix: conformance-programs ## run it and write docs/feature-matrix.md
	@$(run-conformance)
	cp $(CONFORMANCE)/results/matrix.md docs/feature-matrix.md

.PHONY: conformance-mutations
conformance-mutations: | $(REPORT) ## break one rule after the other; the cases that hold it must fail
	@go run ./conformance/mutations --report $(REPORT)/mutations.md
