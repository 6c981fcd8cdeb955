# The benchmark (tools/octobench) and the programs of others that it compares with.
BENCH_PEERS := tools/bench
BENCH_JSON  := $(BUILD)/bench.json

.PHONY: bench
bench: ## measure calls through the mesh (tools/octobench); BENCHFLAGS are passed on
	$(call build-main,tools/octobench,octobench)
	mkdir -p $(BUILD)
	$(BIN)/octobench --json $(BENCH_JSON) $(BENCHFLAGS)

.PHONY: bench-page
bench-page: ## make a page of docs/perf from the last bench (PAGE=docs/perf/DATE-subject.md) and renew its index
	$(call build-main,tools/octobench,octobench)
	$(BIN)/octobench page --json $(BENCH_JSON) $(if $(PAGE),--page $(PAGE))

.PHONY: bench-peers
bench-peers: ## install the proxies and libraries that bench compares with into tools/bench
	@tools/bench-peers.sh $(BENCH_PEERS)
