# What the tools and tests are pinned to. Each pin stands in one place, which is either this file
# or the file that the pin's own package manager reads and locks:
#
#   buf, protoc for Python (npm tools)     tools/package.json, package-lock.json
#   Python's linters, test runner, builder tools/python/requirements.in, requirements.txt
#   oldest protobuf for Python             tools/python/floor.in, floor.txt
#   staticcheck, protoc-gen-go(-grpc), h2spec  tools/pins/go.mod, go.sum
#   suites and libraries of make interop   bridge/grpc/interop: go.mod, and beside the programs in peers
#   protobuf for Go                        go.mod of each module (make lint compares them)
#
# Lowest versions that the build accepts.
GO_MIN   := 1.26
NODE_MIN := 20
PYTHON_MIN := 3.11

# Debian's packages that tests start servers of; any version will do.
APT_TEST := etcd-server redis-server zookeeper

# Debian's packages that only `make models` and `make full` need; any version will do.
APT_FULL := spin gcc

# Budgets. FUZZTIME of `make fuzz` is split over all fuzz targets; FUZZ_QUICK is spent on each.
FUZZ_QUICK ?= 10s
FUZZTIME   ?= 10m
# Memory of one spin run in MiB, and how many runs go at once.
MODELS_MEM  ?= 4096
MODELS_JOBS ?= 2
