# Everything that is done with this repository; `make help` lists it. Needs GNU make, rustup, and Python 3.10 or newer with
# venv; Go for the rate-limit service, its SDKs and where Helm must be built, Node for its SDKs and `make wasm-test`, a JDK and Maven
# for Java's SDKs. The rest is fetched once, into $XDG_CACHE_HOME/attache.

SHELL := /bin/sh
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help

PYTHON ?= python3
WASM := .attache/attache.wasm
BUILT := $(or $(CARGO_TARGET_DIR),target)/wasm32-wasip1/release/attache.wasm
CRASHING := $(dir $(BUILT))examples/attache_crash.wasm
PLUGIN := --package attache-plugin --target wasm32-wasip1
# The link to the Python environment of the tests; `make run` needs less, and has its own.
TESTING := .attache/testing
PYTEST := $(TESTING)/bin/python -m pytest
FETCH := $(PYTHON) tests/tools/fetch.py
CLUSTER := $(TESTING)/bin/python tests/tools/cluster/cluster.py
# By which the chart asks for it.
IMAGE ?= attache:$(shell sed -n 's/^appVersion: "\(.*\)"/\1/p' helm/Chart.yaml)
GENERATE := cargo run --quiet --package attache-gateway --features schema --bin generate --

# Where the tests look for the filter, and for the one in which a request can kill its VM.
export ATTACHE_WASM := $(CURDIR)/$(WASM)
export ATTACHE_CRASH_WASM := $(CURDIR)/.attache/attache-crash.wasm

say = @printf '\n== %s\n' '$(1)'

## Use it

run: wasm running ## Envoy, the filter, demo providers, until Ctrl-C [VALUES=my.yaml] [KEYS=directory]
	@exec .attache/running/bin/python tests/tools/run.py $(if $(VALUES),--values '$(VALUES)') $(if $(KEYS),--keys '$(KEYS)')

wasm: rust ## Build the filter: .attache/attache.wasm
	@mkdir -p .attache
	@test -f $(BUILT) || echo 'building the filter; a minute or two the first time …'
	@cargo build --quiet --release $(PLUGIN)
	@cmp -s $(BUILT) $(WASM) || { cp $(BUILT) $(WASM).new && mv $(WASM).new $(WASM); }

# The same filter, but that a request can kill its VM: for the proof of budgets, never shipped.
crash-wasm: rust
	@mkdir -p .attache
	@cargo build --quiet --release $(PLUGIN) --features crash --example attache-crash
	@cmp -s $(CRASHING) $(ATTACHE_CRASH_WASM) || { cp $(CRASHING) $(ATTACHE_CRASH_WASM).new && mv $(ATTACHE_CRASH_WASM).new $(ATTACHE_CRASH_WASM); }

image: wasm testing ## The image for pods, without an engine: .attache/image.tar [IMAGE=name:tag]
	@digest=$$($(TESTING)/bin/python tests/tools/image.py .attache/image.tar '$(IMAGE)') && echo "$(IMAGE) $$digest"

## Test it

test: ## Everything that CI runs: the next seven, in this order
	@for step in lint unit wasm-test chart-test e2e sdk cluster-test; do $(MAKE) $$step || exit 1; done

lint: rust helm testing ## Formatting, lints, generated files
	$(call say,$@)
	@cargo fmt --all --check
	@cargo clippy --quiet --all-targets --all-features -- --deny warnings
	@cargo clippy --quiet $(PLUGIN) -- --deny warnings
	@cargo clippy --quiet $(PLUGIN) --features crash --example attache-crash -- --deny warnings
	@$(GENERATE) --check
	@.attache/helm lint --quiet helm
	@$(TESTING)/bin/python tests/tools/authorities.py --check
	@$(TESTING)/bin/python -m compileall -q tests

unit: rust ## Unit tests, goldens and laws
	$(call say,$@)
	@cargo test --quiet --all-features

wasm-test: rust bindgen ## The same laws compiled to WebAssembly, under Node
	$(call say,$@)
	@CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUNNER=$(CURDIR)/.attache/wasm-bindgen-test-runner \
		cargo test --target wasm32-unknown-unknown

chart-test: wasm running helm testing ## The chart, what Envoy says to it, and `make run`
	$(call say,$@)
	@$(PYTEST) tests/test_chart.py tests/test_chart_sidecar.py tests/test_run.py

e2e: wasm crash-wasm helm testing ratelimit ## A real Envoy, the real filter, scripted providers [CASE=part of a test's name]
	$(call say,$@)
	@$(PYTEST) tests $(addprefix --ignore=,$(wildcard tests/test_chart.py tests/test_chart_sidecar.py tests/test_run.py tests/sdk tests/cluster)) $(if $(CASE),-k '$(CASE)')

sdk: wasm helm testing node-sdks go-sdks java-sdks ## The official SDKs, unmodified, through the running gateway
	$(call say,$@)
	@$(PYTEST) tests/sdk

cluster-test: wasm helm testing ## A real Kubernetes, or $KUBECONFIG's; Linux, root [CASE=part of a test's name]
	$(call say,$@)
	@if reason=$$($(CLUSTER) why-not); then \
		$(MAKE) image kubeconform && $(CLUSTER) within $(PYTEST) tests/cluster -n 3 --dist loadfile --no-loadscope-reorder $(if $(CASE),-k '$(CASE)'); \
	else test -n "$$reason" && echo "no test in a cluster was run: $$reason"; fi

cluster-up: testing ## That cluster, to look around in; `make cluster-down` ends it
	@$(CLUSTER) up

cluster-down: testing ## End that cluster
	@$(CLUSTER) down

chaos: wasm crash-wasm helm testing ## 10,000 requests over providers that break at random [SEED=n], then the tests that take minutes
	@$(TESTING)/bin/python tests/chaos.py $(if $(SEED),--seed '$(SEED)')
	@$(PYTEST) tests -m slow

proof: crash-wasm helm testing ## Budgets are exact: 20,000 requests, with hang-ups, failures, reloads and VMs that die [SEED=n] [REQUESTS=n]
	@ATTACHE_BUDGET_STEPS=$${ATTACHE_BUDGET_STEPS:-1000000} cargo test --quiet --release --package attache-gateway --test budget -- --nocapture
	@$(TESTING)/bin/python tests/proof/run.py $(if $(SEED),--seed '$(SEED)') $(if $(REQUESTS),--requests '$(REQUESTS)')

bench: wasm helm testing ## Plain Envoy against Envoy with the filter, and what a pod pays for the sidecar
	@$(TESTING)/bin/python tests/bench/run.py
	@cargo build --quiet --release --package attache-gateway --examples --target wasm32-wasip1
	@echo 'Tokens, in Wasm:'; node --no-warnings tests/bench/wasi.mjs $(dir $(BUILT))examples/tokens.wasm
	@echo 'Keys of a budget, in Wasm:'; node --no-warnings tests/bench/wasi.mjs $(dir $(BUILT))examples/keys.wasm
	@if reason=$$($(CLUSTER) why-not); then $(MAKE) image && $(CLUSTER) within $(PYTEST) -q -s tests/cluster/bench_pods.py; \
	else test -n "$$reason" && echo "no pod was measured: $$reason"; fi

## Change it

bless: rust testing ## Write anew what is generated: goldens, schema, providers.json, README's tables, envoy/; read the diff
	@$(GENERATE)
	@$(TESTING)/bin/python tests/tools/authorities.py
	@BLESS=1 cargo test --quiet --all-features
	@$(TESTING)/bin/python tests/wall.py
	@$(MAKE) chart

chart: helm testing ## Render envoy/ from helm/ and envoy/values.yaml
	@$(TESTING)/bin/python tests/tools/render.py envoy -f envoy/values.yaml

clean: ## Remove what was built here; the cache in the home directory stays
	@test ! -d .attache/cluster || $(CLUSTER) down
	@rm -rf .attache target tests/.pytest_cache
	@find tests -name __pycache__ -prune -exec rm -rf {} +

help: ## This list
	@awk -F ' ?## ?' '/^## /{printf "\n%s\n", $$2} /^[a-z0-9-]+:.*## /{split($$1, target, ":"); printf "  %-12s %s\n", target[1], $$2}' Makefile

## What the above need: looked for each time, fetched where missing

python: ## Python 3.10 or newer
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON): not found; it installs Envoy and runs the tests; install Python 3.10 or newer with venv" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo "$(PYTHON): too old; Python 3.10 or newer is needed; name one: make PYTHON=/path/to/python3" >&2; exit 1; }

rust: python ## The toolchain of rust-toolchain.toml
	@$(FETCH) rust

running: python ## The Python environment of `make run`, Envoy in it
	@$(FETCH) venv tests/requirements-run.txt .attache/running

testing: python ## The Python environment of the tests
	@$(FETCH) venv tests/requirements.txt $(TESTING)

helm: python ## The user's own Helm, else one built from its Go module
	@$(FETCH) helm .attache/helm

ratelimit: python ## Envoy's rate-limit service, built from its Go module, and Redis
	@$(FETCH) ratelimit .attache/ratelimit

node-sdks: python ## The official SDKs of Node
	@$(FETCH) node-sdks .attache/node-sdks

go-sdks: python ## A program with the official SDKs of Go, built
	@$(FETCH) go-sdks .attache/go-sdks

java-sdks: python ## A program with the official SDKs of Java, built
	@$(FETCH) java-sdks .attache/java-sdks

kubeconform: python ## What checks rendered objects against the API's schemas
	@$(FETCH) kubeconform .attache/kubeconform

bindgen: rust ## The runner of `make wasm-test`
	@$(FETCH) bindgen .attache/wasm-bindgen-test-runner

.PHONY: run wasm image crash-wasm test lint unit wasm-test chart-test e2e sdk cluster-test cluster-up cluster-down chaos proof bench bless chart clean help
.PHONY: python rust running testing helm ratelimit node-sdks go-sdks java-sdks kubeconform bindgen
