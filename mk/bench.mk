# The benchmark (tools/octobench) and the programs of others that it compares with.
BENCH_PEERS := tools/bench
BENCH_JSON  := $(BUILD)/bench.json

.PHONY: bench
bench: ## measure calls through the mesh (tools/octobench); BENCHFLAGS are passed on
	$(call build-main,tools/octobench,octobench)
	mkdir -p $(BUILD)
	$(BIN)/octobench --json $(BENCH_JSON) $(BENCHFLAGS)

# It wants 20,000 descriptors: with fewer, BENCHFLAGS="--real N" for some hundreds less than there are.
.PHONY: bench-control
bench-control: ## measure the control plane (octobench control), some seven minutes; BENCHFLAGS are passed on
	$(call build-main,tools/octobench,octobench)
	mkdir -p $(BUILD)
	ulimit -n $$(ulimit -Hn)
	$(BIN)/octobench control --json $(BUILD)/control.json $(BENCHFLAGS)

.PHONY: bench-page
bench-page: ## make a page of docs/perf (PAGE=docs/perf/DATE-subject.md) from the last bench (or BENCH_JSON=build/control.json) and renew its index
	$(call build-main,tools/octobench,octobench)
	$(BIN)/octobench page --json $(BENCH_JSON) $(if $(PAGE),--page $(PAGE))

.PHONY: bench-peers
bench-peers: ## install the proxies and libraries that bench compares with into tools/bench
	@tools/bench-peers.sh $(BENCH_PEERS)
