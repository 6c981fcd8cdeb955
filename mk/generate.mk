# Generated code is committed, so that a reader needs no generator; `make drift` keeps it true.
# Our own generators are part of this tree, hence built anew each time (go keeps that cheap).
.PHONY: gen
gen: bootstrap own-generators ## generate code and vectors from proto/ and the spec
	@$(BUF) generate
	$(BUF) generate --template buf.gen.control.yaml
	$(BUF) generate --template buf.gen.sdk.yaml
	$(BUF) generate examples/shop/proto --template examples/shop/proto/buf.gen.yaml
	$(BUF) generate examples/shop/proto --template examples/shop/proto/buf.gen.python.yaml
	$(BUF) generate --template conformance/testees/go/buf.gen.yaml
	$(BUF) generate --template buf.gen.python.yaml
	$(BUF) generate --template sdks/python/tests/buf.gen.yaml
	$(BUF) generate --template conformance/testees/python/buf.gen.yaml
	if ls tools/vectorgen/*.go >/dev/null 2>&1; then
		go build -C tools/vectorgen -o $(BIN)/vectorgen .
		$(BIN)/vectorgen
	fi

.PHONY: own-generators
own-generators:
	@if ls tools/protoc-gen-octo/*.go >/dev/null 2>&1; then
		go build -C tools/protoc-gen-octo -o $(BIN)/protoc-gen-octo .
	fi

GENERATED := gen sdks/go/directory sdks/python/src/octo sdks/python/tests/gen examples/shop/gen conformance/vectors conformance/testees/go/gen \
	conformance/testees/python/gen

.PHONY: drift
drift: gen ## fail if generated files or go.mod files are not what the sources give
	@changed=$$(git status --porcelain -- $(GENERATED))
	if [ -n "$$changed" ]; then
		echo "drift: these generated files differ from what is committed; run 'make gen' and commit them:"
		echo "$$changed"
		git --no-pager diff --stat -- $(GENERATED)
		exit 1
	fi
	bad=0
	# Generators do not remove what a deleted or renamed .proto has left behind.
	while read -r protos f; do
		source=$$(sed -n -E 's,^(//|#) source: ,,p' "$$f" | head -1)
		[ -z "$$source" ] || [ -f "$$protos/$$source" ] || { echo "drift: $$f is stale: $$protos/$$source is gone"; bad=1; }
	done < <(git ls-files -- 'gen/*.go' 'sdks/go/directory/*_octo.go' | sed 's|^|proto |'
		git ls-files -- 'examples/shop/gen/*.go' 'examples/shop/gen/*.py' | sed 's|^|examples/shop/proto |'
		git ls-files -- 'sdks/python/tests/gen/*.py' | sed 's|^|sdks/python/tests/protos |'
		git ls-files -- 'conformance/testees/*/gen/*.go' 'conformance/testees/*/gen/*.py' 'sdks/python/src/octo/*.py' | sed 's|^|proto |')
	for m in $(MODULES); do
		go -C $$m mod tidy -diff || { echo "drift: $$m/go.mod is not tidy; run 'make tidy'"; bad=1; }
	done
	exit $$bad

.PHONY: tidy
tidy: ## go mod tidy in each module
	@for m in $(MODULES); do go -C $$m mod tidy; done
