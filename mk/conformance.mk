# The conformance suite: each testee with each other, in all topologies (docs/guides/conformance.md).
CONFORMANCE := $(BUILD)/conformance
# name=command, as the runner takes it. A new SDK adds its testee here, and a rule that builds it to
# conformance-programs.
TESTEES := go=$(CONFORMANCE)/testee-go python=$(CONFORMANCE)/testee-python
CONFORMANCE_FLAGS ?=

# The version before, which scenarios mix with this one (row 32 of docs/resilience.md): a commit of this repository, since
# nothing is released. Take a newer one when older proxies and Pilots need not work any more. It had no Python SDK: its Go testee stands in.
PREVIOUS := 751f37f2fff0
previous := $(CONFORMANCE)/previous-$(PREVIOUS)
previous-flags = --previous-proxy $(previous)/octo-proxy --previous-octo $(previous)/octo \
	$(foreach t,go python,--previous-testee $(t)=$(previous)/testee-go)

$(previous)/testee-go:
	rm -rf $(previous) && mkdir -p $(previous)/src
	@git cat-file -e $(PREVIOUS) || { echo "commit $(PREVIOUS) is not in this clone: fetch the whole history (git fetch --unshallow)"; exit 1; }
	git archive $(PREVIOUS) | tar -x -C $(previous)/src
	cd $(previous)/src && go build -o .. ./core/cmd/octo-proxy ./core/cmd/octo && go build -o ../testee-go ./conformance/testees/go
	rm -rf $(previous)/src

.PHONY: conformance-programs
conformance-programs: $(PY_DONE)
	@mkdir -p $(CONFORMANCE)
	go build -o $(CONFORMANCE)/runner ./conformance/runner
	go build $(CONFORMANCE_BUILD) -o $(CONFORMANCE)/octo-proxy ./core/cmd/octo-proxy
	go build $(CONFORMANCE_BUILD) -tags octofault -o $(CONFORMANCE)/octo-proxy-octofault ./core/cmd/octo-proxy
	go build $(CONFORMANCE_BUILD) -o $(CONFORMANCE)/octo ./core/cmd/octo
	go build $(CONFORMANCE_BUILD) -o $(CONFORMANCE)/testee-go ./conformance/testees/go
	go build $(CONFORMANCE_BUILD) -o $(CONFORMANCE)/testee-grpc ./conformance/testees/grpc
	printf '#!/bin/sh\nexec %s %s "$$@"\n' '$(PYTHON)' '$(CURDIR)/conformance/testees/python/main.py' >$(CONFORMANCE)/testee-python
	chmod +x $(CONFORMANCE)/testee-python

run-conformance = $(CONFORMANCE)/runner --proxy $(CONFORMANCE)/octo-proxy --octo $(CONFORMANCE)/octo $(addprefix --testee ,$(TESTEES)) --bridge grpc=$(CONFORMANCE)/testee-grpc \
	--trap-proxy $(CONFORMANCE)/octo-proxy-octofault $(previous-flags) --no-skips --results $(CONFORMANCE)/results $(CONFORMANCE_FLAGS)

.PHONY: conformance-quick
conformance-quick: conformance-programs ## the cases that a change needs at once, in two minutes
	@$(run-conformance) --quick --matrix docs/feature-matrix.md

# Without the race detector: `make conformance` runs these with it.
.PHONY: faults-quick
faults-quick: conformance-programs ## the rows of the table of faults that are quick enough, in about four minutes
	@$(run-conformance) --brief --run faults/ --run ways/killed --run ways/stopped --results $(CONFORMANCE)/faults-quick

# The race detector looks on; it makes the programs slower, and the run no different.
.PHONY: conformance
conformance: need-cc bootstrap-test $(previous)/testee-go ## all cases and scenarios but the long ones, with the race detector in proxy and testees
	@$(MAKE) CONFORMANCE_BUILD=-race conformance-programs
	$(run-conformance) --brief --patience 60s --memory 8

# They count calls by the million, which the race detector would make a matter of a quarter of an hour, or send more than a proxy can hold,
# which is no matter of a proxy ten times as slow.
.PHONY: faults-long
faults-long: conformance-programs | $(REPORT) ## the scenarios that need speed: a hundred hot restarts over a million calls, memory that runs out
	@$(run-conformance) --long --results $(CONFORMANCE)/faults-long
	cp $(CONFORMANCE)/faults-long/scenarios.md $(REPORT)/

.PHONY: conformance-matrix
conformance-matrix: conformance-programs bootstrap-test $(previous)/testee-go ## run it and write docs/feature-matrix.md
	@$(run-conformance)
	cp $(CONFORMANCE)/results/matrix.md docs/feature-matrix.md

.PHONY: conformance-mutations
conformance-mutations: | $(REPORT) ## break one rule after the other; the cases that hold it must fail
	@go run ./conformance/mutations --report $(REPORT)/mutations.md
