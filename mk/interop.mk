# What others have written for gRPC, through both proxies (bridge/grpc/interop); docs/interop.md has the outcome.
INTEROP := $(BIN)/interop

PEERS := tools/interop

.PHONY: bootstrap-interop
bootstrap-interop: ## install the clients and servers of other languages that interop runs into tools/interop
	@tools/interop-peers.sh $(PEERS)

.PHONY: interop-programs
interop-programs:
	@mkdir -p $(BIN)
	go build -C bridge/grpc/interop -o $(INTEROP) .

.PHONY: interop
interop: bootstrap-interop interop-programs ## hold the bridge to gRPC's own suites, clients and servers, and write docs/interop.md
	@$(INTEROP) --root . --write docs/interop.md

.PHONY: interop-check
interop-check: bootstrap-interop interop-programs ## the same, but fail where docs/interop.md says otherwise
	@$(INTEROP) --root . --check docs/interop.md

.PHONY: interop-quick
interop-quick: interop-programs ## those that take seconds
	@tools/interop-peers.sh $(PEERS) python
	$(INTEROP) --root . --quick --check docs/interop.md
