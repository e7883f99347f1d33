SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# The tools that scripts/setup.sh puts under target/, for the tests and the demo.
export PATH := $(CURDIR)/target/tools/bin:$(PATH)

# Flags for every cargo command that builds, such as --locked.
CARGO_FLAGS ?=

# The three programs for tests. For the whole workspace, the same everywhere: features chosen for one package would have dozens
# of crates, ours among them, compiled once more for each choice.
PROGRAMS_DEBUG = cargo build --workspace $(CARGO_FLAGS) $(addprefix --bin cloudpulse-,exporter predictor scaler)

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# Each by itself, as in images and archives: built beside the others it would share their larger feature sets, and take more memory.
.PHONY: build
build: ## Build the three programs, optimised
	for program in exporter predictor scaler; do cargo build --release $(CARGO_FLAGS) -p cloudpulse-$$program || exit; done

.PHONY: demo
demo: ## Run everything on this machine on a generated load; DEMO_SECONDS=90 ends by itself
	scripts/setup.sh demo
	$(MAKE) --no-print-directory build
	cargo run --release $(CARGO_FLAGS) -p cloudpulse-demo

.PHONY: test
test: ## Run all tests: Rust, and the Prometheus rules
	scripts/setup.sh test
	cargo test --workspace $(CARGO_FLAGS)
	$(MAKE) --no-print-directory rules

.PHONY: test-gpu
test-gpu: ## Test the network on wgpu, on Mesa's software Vulkan; builds for minutes the first time
	scripts/test-gpu.sh

.PHONY: test-kubernetes
test-kubernetes: ## Test the scaler in a real Kubernetes control plane; builds that for a quarter of an hour the first time
	scripts/setup.sh kubernetes
	testkit/kubernetes/control-plane.sh build
	cargo test --workspace $(CARGO_FLAGS) --test kubernetes -- --test-threads=2

.PHONY: manifests
manifests: ## Make the chart's copies of definition, rules and dashboards, and of the chart plain manifests
	scripts/setup.sh helm
	$(PROGRAMS_DEBUG)
	scripts/manifests.sh

.PHONY: test-chart
test-chart: ## Test the Helm chart: what it renders, and install, upgrade and uninstall in a real Kubernetes control plane
	scripts/setup.sh helm
	testkit/kubernetes/control-plane.sh build
	$(PROGRAMS_DEBUG)
	scripts/test-chart.sh

.PHONY: test-neighbours
test-neighbours: ## Test the chart beside the real Prometheus Operator, Thanos and KEDA; builds them for half an hour the first time
	scripts/setup.sh helm neighbours
	testkit/kubernetes/control-plane.sh build
	testkit/kubernetes/control-plane.sh build-neighbours
	$(PROGRAMS_DEBUG)
	scripts/test-neighbours.sh

.PHONY: test-kubelet
test-kubelet: ## Run the chart's images on a real Kubernetes node, as root; builds kubelet and containerd for a quarter of an hour of CPU the first time
	scripts/setup.sh helm kubelet
	testkit/kubernetes/control-plane.sh build
	testkit/kubernetes/control-plane.sh build-node
	scripts/images.sh programs
	scripts/test-kubelet.sh

.PHONY: images
images: ## Build the container images from this tree, without pulling any; see docs/docker.md
	scripts/images.sh

.PHONY: test-images
test-images: ## Build the images and test the Compose stack on a Docker engine; optimised builds take a quarter of an hour
	scripts/setup.sh test
	scripts/images.sh programs
	cargo test --workspace $(CARGO_FLAGS) --test images -- --nocapture

.PHONY: test-gpu-image
test-gpu-image: ## Build the image with GPU support and run it on software Vulkan; the first build takes 32 minutes of CPU
	scripts/setup.sh gpu-image
	scripts/images.sh programs gpu
	cargo test --workspace $(CARGO_FLAGS) --test images -- --ignored --nocapture

.PHONY: rules
rules: ## Check and test the Prometheus rules, and check Alertmanager's configuration
	scripts/setup.sh rules
	promtool check rules rules/prometheus/*.rules.yml
	promtool test rules rules/prometheus/tests/*.yml
	amtool check-config rules/alertmanager/alertmanager.yml

.PHONY: dashboards
dashboards: ## Check the Grafana dashboards: as their sources make them, whole, each query parsed by promtool; wants Node
	scripts/setup.sh rules
	node --test testkit/viewer/lib/
	node dashboards/generate.mjs --check
	node testkit/viewer/check.mjs

.PHONY: test-dashboards
test-dashboards: dashboards ## Draw the dashboards in Chromium over a demonstration that runs for a quarter of an hour
	scripts/setup.sh dashboards
	@if [ -z "$${DASHBOARDS_PROMETHEUS-}" ]; then \
	  $(MAKE) --no-print-directory build && cargo build --release $(CARGO_FLAGS) -p cloudpulse-demo; \
	fi
	scripts/test-dashboards.sh

.PHONY: docs
docs: ## Build the book into target/book, and check its links
	scripts/setup.sh docs
	target/tools/docs/bin/mdbook build docs
	scripts/check-links.py

.PHONY: test-docs
test-docs: ## Run the commands of README.md and docs, and check their configurations and queries
	scripts/setup.sh test-docs
	$(PROGRAMS_DEBUG)
	scripts/test-docs.py

.PHONY: references
references: ## Write the pages of docs/reference that are made of the programs
	UPDATE_GOLDEN=1 cargo test --workspace $(CARGO_FLAGS) --test reference

.PHONY: lint
lint: lint-fmt lint-clippy lint-doc lint-purity lint-shell ## Check format, lints, documentation, purity and shell scripts

.PHONY: lint-fmt lint-clippy lint-doc lint-purity lint-shell
lint-fmt:
	cargo fmt --all --check
lint-clippy:
	cargo clippy --workspace --all-targets $(CARGO_FLAGS) -- -D warnings
	cargo clippy --workspace --test kubernetes --test images $(CARGO_FLAGS) -- -D warnings
lint-doc:
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps $(CARGO_FLAGS)
lint-purity:
	scripts/purity.sh
lint-shell:
	@if command -v shellcheck >/dev/null; then \
	  echo "shellcheck scripts/*.sh docker/*.sh testkit/*/*.sh helm/tests/*.sh .ci/run"; shellcheck scripts/*.sh docker/*.sh testkit/*/*.sh helm/tests/*.sh .ci/run; \
	else \
	  echo "SKIPPED: shellcheck is not installed (Debian: shellcheck); the shell scripts are unchecked" >&2; \
	fi

.PHONY: deny
deny: ## Check licences, sources, duplicates and known vulnerabilities of all crates
	scripts/deny.sh

.PHONY: dist
dist: ## Make the archives of a release, their bills of materials and checksums, in target/dist; PROGRAMS="exporter ..."
	scripts/dist.sh $(PROGRAMS)

.PHONY: dist-check
dist-check: ## Make them twice, in two places, and compare: the same bytes?; PROGRAMS="exporter ..."
	scripts/dist-check.sh $(PROGRAMS)

.PHONY: fmt
fmt: ## Format the Rust code
	cargo fmt --all

.PHONY: bench
bench: ## Run all benchmarks beside the peers, in one run
	scripts/setup.sh bench
	$(MAKE) --no-print-directory build
	cargo run --release $(CARGO_FLAGS) -p cloudpulse-bench --

.PHONY: bench-exporter
bench-exporter: ## Measure the exporter beside node_exporter, and with up to 1,000 network devices and 100 disks; ROUNDS=1, SOAK=86400
	scripts/setup.sh bench
	cargo run --release $(CARGO_FLAGS) -p cloudpulse-bench -- exporter $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(SOAK),--soak $(SOAK))

.PHONY: bench-accuracy
bench-accuracy: ## Measure forecasts on traces beside Prophet and statsforecast; TRACES=DIR
	scripts/setup.sh bench
	cargo run --release $(CARGO_FLAGS) -p cloudpulse-bench -- accuracy --peers $(if $(TRACES),--traces $(TRACES))

# Stan in WebAssembly builds for a quarter of an hour of CPU, so nothing else asks for it.
.PHONY: bench-speed
bench-speed: ## Measure the Prophet fit beside Python Prophet and Stan, and the cycle of up to 10,000 series
	scripts/setup.sh bench
	@if cargo build --release $(CARGO_FLAGS) -p cloudpulse-bench --features wasmstan; then \
	  cargo run --release $(CARGO_FLAGS) -p cloudpulse-bench --features wasmstan -- speed; \
	else \
	  echo "SKIPPED: Stan in WebAssembly cannot be built here; measuring without it" >&2; \
	  cargo run --release $(CARGO_FLAGS) -p cloudpulse-bench -- speed; \
	fi
	cargo run --release $(CARGO_FLAGS) -p cloudpulse-bench -- cycle

.PHONY: bench-anomaly
bench-anomaly: ## Measure the anomaly score on labelled series
	cargo run --release $(CARGO_FLAGS) -p cloudpulse-bench -- anomaly

.PHONY: bench-policy
bench-policy: ## Measure the scaling policy on traces beside an HPA and simple forecasts; TRACES=DIR
	cargo run --release $(CARGO_FLAGS) -p cloudpulse-bench -- policy $(if $(TRACES),--traces $(TRACES))

# The control plane and the peer are built from Go modules, once, for half an hour of CPU.
.PHONY: bench-external-metrics
bench-external-metrics: ## Measure external metrics beside prometheus-adapter in a real Kubernetes control plane
	scripts/setup.sh kubernetes
	testkit/kubernetes/control-plane.sh build
	testkit/kubernetes/control-plane.sh build-adapter
	cargo run --release $(CARGO_FLAGS) -p cloudpulse-bench -- external-metrics

.PHONY: bench-lstm
bench-lstm: ## Measure the network that mixes forecasts beside PyTorch, and what it brings on traces
	scripts/setup.sh bench-lstm
	cargo run --release $(CARGO_FLAGS) -p cloudpulse-bench -- lstm
	cargo run --release $(CARGO_FLAGS) -p cloudpulse-bench -- mixing

.PHONY: clean
clean: ## Remove everything under target/
	cargo clean
