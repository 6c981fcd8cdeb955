# Tools. Stamps are newer than the files that hold the pins, so a changed pin installs anew
# and an unchanged one costs nothing.
GO_TOOLS := $(BIN)/.installed
NPM_DONE := tools/node_modules/.installed

.PHONY: bootstrap
bootstrap: $(GO_TOOLS) $(NPM_DONE) $(PY_DONE) ## install the pinned tools into tools/

$(GO_TOOLS): tools/pins/go.mod tools/pins/go.sum
	@tools/need.sh go $(GO_MIN)
	mkdir -p $(BIN)
	GOBIN=$(BIN) go -C tools/pins install tool
	touch $@

# Not `npm ci`: it refuses a lock file that lacks optional packages of platforms other than the one
# that wrote it. With --no-save the locked versions and hashes hold all the same.
$(NPM_DONE): tools/package.json tools/package-lock.json
	@tools/need.sh node $(NODE_MIN)
	cd tools && npm install --no-save --ignore-scripts --no-audit --no-fund --loglevel=error
	touch node_modules/.installed

# The race detector links with the system's C compiler.
.PHONY: need-cc
need-cc:
	@tools/need.sh cc

# The registries that their adapters are tested against, and the store of rate limits, in processes of the tests. Nothing is to run
# as a service.
.PHONY: bootstrap-test
bootstrap-test: ## install the servers that tests start: etcd, Redis, ZooKeeper
	@[ -n "$$(command -v etcd)" ] && [ -n "$$(command -v redis-server)" ] && [ -e /usr/share/java/zookeeper.jar ] && exit 0
	sudo=; [ "$$(id -u)" = 0 ] || sudo=sudo
	$$sudo apt-get update -qq
	$$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $(APT_TEST)

# Model checking alone needs more than the base toolchains.
.PHONY: bootstrap-full
bootstrap-full: bootstrap
	@command -v spin >/dev/null && command -v gcc >/dev/null && exit 0
	sudo=; [ "$$(id -u)" = 0 ] || sudo=sudo
	$$sudo apt-get update -qq
	$$sudo apt-get install -y -qq --no-install-recommends $(APT_FULL)
