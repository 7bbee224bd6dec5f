# Each target first runs host/apply, which creates the patched host and does nothing if it is up to date. After that,
# plain cargo works as well.

MODEL ?= models/tiny-colm-air
PROMPT ?= What is the remainder of 47 divided by 6?

.PHONY: bench build client-test cuda-check demo docs gpu-check gpu-test host lint lm-eval-test mutation-test study test twin-test

host:
	@host/apply

build: host
	cargo build

# One answer at every chain count of the shipped model.
demo: build
	@for k in 1 2 3 4; do \
		echo "--- $(MODEL) at $$k chain(s): $(PROMPT)"; \
		target/debug/colm run -m $(MODEL) --chains $$k -i "$(PROMPT)" || exit 1; \
	done

test: host
	cargo test --workspace

# With the twin, so that the GPU's side is linted as well.
lint: host
	cargo fmt --all -- --check
	cargo clippy --workspace --all-targets --features colm/twin -- -D warnings

docs: host
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps

# The real `openai` Python client against a running server; brings a virtual environment of its own.
client-test: build
	python3 -m venv target/openai-client
	target/openai-client/bin/pip install --quiet -r tests/openai_client/requirements.txt
	COLM_BIN=target/debug/colm COLM_MODEL=$(MODEL) target/openai-client/bin/python -m pytest tests/openai_client

# lm-evaluation-harness against a running server; brings a virtual environment of its own.
lm-eval-test: build
	python3 -m venv target/lm-eval
	target/lm-eval/bin/pip install --quiet -r tests/lm_eval/requirements.txt
	COLM_BIN=target/debug/colm target/lm-eval/bin/python tests/lm_eval/run.py

# Damaged model folders, 2,000 of them, through `colm run` and through the checkpoint's verifier.
mutation-test: host
	COLM_MUTATIONS=2000 cargo test --package colm --test it mutations
	COLM_MUTATIONS=2000 cargo test --package colm-checkpoint --test mutations

# Progressive scaling and elastic quality on small models, trained here; resumes where it was left. See
# docs/study/README.md.
study: host
	cargo run --release -p colm-train --example study

# Compiles the CUDA kernels for sm_80 and sm_90a, with a compiler it fetches if there is none; no GPU needed.
cuda-check:
	kernels/cuda/check

# The model and the engine on the CUDA kernels: on a machine with a GPU, or thread for thread on the CPU.
gpu-test: host
	cargo test --features cuda --test gpu

twin-test: host
	cargo test --workspace --features colm/twin --test gpu

# The CUDA kernels against PyTorch, correctness and speed, on a machine with a GPU.
gpu-check:
	kernels/gpu_check/run target/gpu_check

# Speed and memory against the host's own Llama and llama.cpp, with random weights; see benches/README.md.
bench: host
	cargo bench --bench speed -- $(ARGS)
