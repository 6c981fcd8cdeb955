# Running it: the demo.
define build-main
	@[ -d $(1) ] || { echo "$(1) does not exist yet"; exit 1; }
	mkdir -p $(BIN)
	go build -C $(1) -o $(BIN)/$(2) .
endef

.PHONY: demo
demo: ## run the shop through the mesh and directly, and say which way each call went
	$(call build-main,examples/shop/cmd/demo,octo-demo)
	$(BIN)/octo-demo

.PHONY: up
up: ## start the shop and keep it running
	$(call build-main,examples/shop/cmd/demo,octo-demo)
	$(BIN)/octo-demo --keep
