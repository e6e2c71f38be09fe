# `make run` starts Highwater, `make test` tests all of it; both do all set-up themselves.
# Needed: Rust 1.90 or later, Node.js 20.11 or later, a C compiler, make; for tests Python 3.10.

CARGO ?= cargo
NPM ?= npm
LISTEN ?= 127.0.0.1:8080
DATA ?= ./highwater-data
CLUSTER ?= ./highwater-cluster
FIRST ?= 8081
BENCH ?= append fanout idle
# The server that JavaScript's tests start.
SERVER = HIGHWATER_BIN="$(CURDIR)/target/debug/highwater"

.PHONY: help run test test-rust test-js browser browsers lint fmt doc deny crash power soak bench \
	lost plot tools clean

help:
	@sed -n 's/^## //p' $(MAKEFILE_LIST)

## make run      build everything, start a server for development, print its addresses
run: tools client-js/dist/highwater.js
	$(CARGO) build --release --bin highwater
	@sh scripts/run.sh target/release/highwater "$(LISTEN)" "$(DATA)"

## make cluster  three nodes over three nats-servers on this machine; prints their addresses
.PHONY: cluster
cluster: tools client-js/dist/highwater.js
	@mkdir -p target
	@sh scripts/engine.sh needed > target/nats.path
	$(CARGO) build --release --bin highwater
	@sh scripts/cluster.sh target/release/highwater "$$(cat target/nats.path)" "$(CLUSTER)" $(FIRST)

## make test     everything: formatting, lints, Rust, documents, JavaScript, browser
test: tools fmt-check lint doc test-rust test-js browser
	@echo "make test: all passed"

## make test-rust    the Rust tests alone
test-rust: tools
	@sh scripts/tools.sh tests
	@mkdir -p target
	@sh scripts/nginx.sh > target/nginx.path
	@sh scripts/engine.sh $(if $(CI),needed) > target/nats.path
	NGINX="$$(cat target/nginx.path)" NATS_SERVER="$$(cat target/nats.path)" \
		HIGHWATER_ENGINE=$(if $(CI),needed) $(CARGO) test --workspace
	$(CARGO) world -- --seeds 5000

## make test-cluster    what needs a nats-server: nodes that share a journal, and the engine itself,
#                  with the faults that come in rounds ROUNDS=20 times
.PHONY: test-cluster
test-cluster: tools
	@mkdir -p target
	@sh scripts/engine.sh needed > target/nats.path
	NATS_SERVER="$$(cat target/nats.path)" HIGHWATER_ENGINE=needed \
		HIGHWATER_ROUNDS=$(or $(ROUNDS),20) $(CARGO) test --test nodes --test process -- journal_contract nats cluster::
	NATS_SERVER="$$(cat target/nats.path)" HIGHWATER_TESTS_ON=nats \
		$(CARGO) test --test process -- promise_ --skip promise_15 --skip cluster::

## make test-js      the JavaScript client: types, build, tests, and the trace of two writers
test-js: tools client-js/dist/highwater.js
	$(CARGO) build --bin highwater
	@mkdir -p target
	@sh scripts/nginx.sh > target/nginx.path
	cd client-js && $(NPM) run typecheck
	cd client-js && $(SERVER) NGINX="$$(cat ../target/nginx.path)" $(NPM) test
	cd client-js && $(SERVER) $(NPM) run test:trace
	cd bench/lost && $(NPM) test

## make chaos        the client's log under random histories, many times as many (RUNS=50)
.PHONY: chaos
chaos: tools client-js/dist/highwater.js
	cd client-js && RUNS=$(or $(RUNS),50) MOST=$(or $(MOST),3600000) $(NPM) test log/key-map log/fold.test log/whole

## make browser      tests in a real Chromium, against a real server
browser: tools client-js/dist/highwater.js
	@mkdir -p target
	@sh scripts/chromium.sh > target/chromium.path
	$(CARGO) build --bin highwater
	cd client-js && $(SERVER) CHROMIUM="$$(cat ../target/chromium.path)" $(NPM) run test:browser

## make tabs        the client's log in many tabs: frozen, crashed, duplicated, put by; clocks, users
#                  (a share of it, half a minute, is part of `make browser`)
.PHONY: tabs
tabs: tools client-js/node_modules/.ready
	@mkdir -p target
	@sh scripts/chromium.sh > target/chromium.path
	$(CARGO) build --bin highwater
	cd client-js && $(SERVER) CHROMIUM="$$(cat ../target/chromium.path)" $(NPM) run test:tabs

## make browsers     the client's log in Firefox and in WebKit, as far as they are installed
browsers: tools client-js/node_modules/.ready
	$(CARGO) build --bin highwater
	cd client-js && $(SERVER) $(NPM) run test:browsers

## make lint     clippy, strictly for what is shipped, as a second pass for tests and benchmarks
lint: tools
	$(CARGO) lint -- -D warnings
	$(CARGO) lint-tests -- -D warnings $(RELAXED)
	$(CARGO) clippy --package highwater-world -- -D warnings $(RELAXED)

# What tests may do: fail loudly.
RELAXED := $(addprefix -A clippy::,unwrap_used expect_used indexing_slicing print_stdout \
	cast_possible_truncation large_futures \
	disallowed_methods) -A unused_qualifications

## make fmt      format the Rust code
fmt:
	$(CARGO) fmt --all

.PHONY: fmt-check
fmt-check: tools
	$(CARGO) fmt --all --check

## make doc      the API documentation, without warnings
doc: tools
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --no-deps --workspace --document-private-items

## make deny     licences, advisories and sources of dependencies; installs cargo-deny if missing
deny: tools
	@$(CARGO) deny --version >/dev/null 2>&1 || $(CARGO) install cargo-deny --locked
	$(CARGO) deny --config .deny.toml check

## make crash    load, SIGKILL at random moments, restart: fifty rounds (ROUNDS=50)
crash: tools
	ROUNDS=$(or $(ROUNDS),50) $(CARGO) crash

## make power    load, loss of power at random moments, restart: fifty rounds (ROUNDS=50); Linux
power: tools
	ROUNDS=$(or $(ROUNDS),50) $(CARGO) power

## make soak     alter every bit of a small folder in turn; goes on where it was stopped; an hour
soak: tools
	$(CARGO) test --test disk bitflips -- --ignored --nocapture

## make world    fold, delivery and clients under random faults, without IO (SEEDS=5000, FROM=1)
#                  (of 50,000 and more: a build of its own, which takes less time for each)
.PHONY: world
world: tools
	@with=; seeds=$(or $(SEEDS),5000); if [ $$seeds -ge 50000 ]; then with="--profile world"; fi; \
		$(CARGO) world $$with -- --seeds $$seeds --from $(or $(FROM),1)

## make canary   plants faults in a copy of fold and delivery: the world has to find each
#                  (ONLY="window": those alone whose names have that)
.PHONY: canary
canary: tools
	$(CARGO) run --quiet --package highwater-world --bin canary -- $(if $(ONLY),--only "$(ONLY)")

## make mutants  plants small faults in the pure rooms, a sample in one build, and counts who
#                  notices; goes on where it was stopped (SEED=1, SAMPLE=60); needs Python
.PHONY: mutants
mutants: tools
	@$(CARGO) mutants --version >/dev/null 2>&1 || $(CARGO) install cargo-mutants --locked
	@python3 scripts/mutants.py --seed $(or $(SEED),1) --sample $(or $(SAMPLE),60)

## make bench    the benchmarks, one after the other (BENCH="append fanout idle"; clone is one too)
bench: tools
	$(CARGO) build --release --workspace
	@set -e; for one in $(BENCH); do $(CARGO) run --release -p highwater-bench -- $$one; done

## make lost     updates lost and repeated, beside other servers (ROUNDS=3, SEED=7, ONLY=...); 7 minutes
lost: tools client-js/dist/highwater.js bench/lost/node_modules/.ready
	$(if $(HIGHWATER_BIN),,$(CARGO) build --release --bin highwater)
	@sh scripts/go-program.sh Centrifugo github.com/centrifugal/centrifugo/v6@v6.9.1 \
		"$(abspath $(CENTRIFUGO_BIN))"
	@sh scripts/go-program.sh NATS github.com/nats-io/nats-server/v2@v2.15.2 \
		"$(abspath $(NATS_BIN))"
	cd bench/lost && $(NPM) test
	cd bench/lost && HIGHWATER_BIN="$(abspath $(or $(HIGHWATER_BIN),target/release/highwater))" \
		CENTRIFUGO_BIN="$(abspath $(CENTRIFUGO_BIN))" NATS_BIN="$(abspath $(NATS_BIN))" \
		node lost.mjs

CENTRIFUGO_BIN ?= target/lost/centrifugo
NATS_BIN ?= target/lost/nats-server

bench/lost/node_modules/.ready: bench/lost/package.json bench/lost/package-lock.json
	cd bench/lost && $(NPM) ci --no-audit --no-fund
	@touch $@

## make plot     draw the README's picture anew from the raw run that it names
plot:
	node bench/plot.mjs

tools:
	@sh scripts/tools.sh

# What of the client pages and Node import. The demo's own copy is built into the server from files
# that are kept beside it.
client-js/dist/highwater.js: client-js/node_modules/.ready $(shell find client-js/src client-js/scripts -type f 2>/dev/null)
	cd client-js && $(NPM) run build
	@touch $@

client-js/node_modules/.ready: client-js/package.json client-js/package-lock.json
	cd client-js && $(NPM) ci --no-audit --no-fund
	@touch $@

## make clean    remove what was built; data folders stay
clean:
	$(CARGO) clean
	rm -rf client-js/dist client-js/build client-js/node_modules bench/lost/node_modules
