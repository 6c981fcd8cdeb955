# Python: its tools in an environment of their own, which finds the SDK in the checkout, and what checks and packs it.
PY_VENV  := tools/python/venv
PY_DONE  := $(PY_VENV)/.installed
PYTHON   := $(CURDIR)/$(PY_VENV)/bin/python
# protobuf as old as the SDK allows, in front of the environment's.
PY_FLOOR := $(CURDIR)/tools/python/floor
PY_DIST  := $(BUILD)/python

$(PY_DONE): tools/python/requirements.txt tools/python/floor.txt
	@tools/need.sh python3 $(PYTHON_MIN)
	rm -rf $(PY_VENV) $(PY_FLOOR)
	python3 -m venv $(PY_VENV)
	pip="$(PYTHON) -m pip install -q --disable-pip-version-check --require-hashes"
	$$pip -r tools/python/requirements.txt
	$$pip --no-deps --target $(PY_FLOOR) -r tools/python/floor.txt
	echo "$(CURDIR)/sdks/python/src" > "$$($(PYTHON) -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/octomesh-checkout.pth"
	touch $@

# Folders with Python that people write. ruff goes by the nearest pyproject.toml or ruff.toml, mypy by pyproject.toml.
PY_SOURCES := $(wildcard sdks/python conformance/testees/python examples/shop/python tools/python tools/octobench/python bridge/grpc/interop/peers/python)

.PHONY: lint-python
lint-python:
	@$(PYTHON) -m ruff check --quiet $(PY_SOURCES)
	$(PYTHON) -m ruff format --quiet --check $(PY_SOURCES) || {
		echo "not formatted by ruff: make format-python"; $(PYTHON) -m ruff format --check $(PY_SOURCES); exit 1; }

.PHONY: lint-python-types
lint-python-types:
	@for p in $(wildcard $(addsuffix /pyproject.toml,$(PY_SOURCES))); do
		(cd "$$(dirname "$$p")" && $(PYTHON) -m mypy --no-error-summary --cache-dir $(CURDIR)/$(BUILD)/mypy)
	done
	$(PYTHON) -m mypy --no-error-summary --strict --cache-dir $(CURDIR)/$(BUILD)/mypy tools/python/*.py

.PHONY: format-python
format-python: bootstrap ## format Python
	@$(PYTHON) -m ruff format --quiet $(PY_SOURCES)
	$(PYTHON) -m ruff check --quiet --fix $(PY_SOURCES)

# Tests print what `go test -json` would, for testsum; what pytest itself has to say of its own failure goes to stderr.
PYTEST_EVENTS = tools/python/test.sh $(PYTHON) $(PY_FLOOR)

.PHONY: test-python
test-python: bootstrap ## Python's tests, with pytest's own output; PYTESTFLAGS are passed on
	@cd sdks/python && $(PYTHON) -m pytest -q $(PYTESTFLAGS)

.PHONY: package-python
package-python: bootstrap ## wheel and sdist of the Python SDK, into build/python
	@cmp LICENSE sdks/python/LICENSE
	rm -rf $(PY_DIST) && mkdir -p $(PY_DIST)
	$(PYTHON) -m build --no-isolation --outdir $(PY_DIST) sdks/python >$(PY_DIST)/build.log || { cat $(PY_DIST)/build.log; exit 1; }
	ls $(PY_DIST)/*.whl $(PY_DIST)/*.tar.gz

.PHONY: consumer-python
consumer-python: package-python
	@tools/python/consumer.sh $(PY_DIST) $(PY_FLOOR)
