#!/usr/bin/env python3
"""Where the time of a decoded token goes, at the shape of Qwen2.5-0.5B (a vocabulary of 151,936).

    python3 benches/decoded_token.py target/debug/colm [--out FOLDER] [--only NAME] [--concurrency 1,32]

Runs `colm serve` with random bf16 weights, decodes answers as clients of its HTTP interface, and samples the server's
call stacks with `perf record` while all of them are decoding. Prints a table of shares for each setting, and writes
`SETTING.folded`, the stacks in the format of flame graph tools, for example `inferno-flamegraph`.

Needs Linux, `perf`, and nothing but Python's standard library. The model, 1 GB, is written to a temporary folder.
"""

import argparse
import array
import collections
import http.client
import json
import os
import pathlib
import random
import re
import struct
import subprocess
import sys
import tempfile
import threading
import time

HIDDEN, INNER, LAYERS, HEADS, KV_HEADS, VOCAB = 896, 4864, 24, 14, 2, 151_936
KV_WIDTH = HIDDEN // HEADS * KV_HEADS
GOLDEN = pathlib.Path(__file__).resolve().parent.parent / "tests" / "golden"

SAMPLING = {
    "greedy": {"temperature": 0},
    "top-k-top-p": {"temperature": 0.8, "top_k": 40, "top_p": 0.95},
    "top-p": {"temperature": 0.8, "top_p": 0.95},
}
PROMPT, ANSWER = 32, 900
# Samples per second and thread.
FREQUENCY = 499

# A sample is in the first group with a function of its call stack.
GROUPS = [
    ("head product", r"::LmHead"),
    ("matrix products of the layers", r"colm_kernels::linear"),
    ("attention", r"colm_kernels::(attention|rope)|::ChainAttention"),
    ("choice of the token", r"sample_causal_gen|mistralrs_core::(sampler|pipeline::sampling|token_request)"),
    ("rest of the model", r"colm::model|::HostedColm"),
    ("engine: inputs, scheduling", r"mistralrs_core::engine::Engine::run"),
]
GROUPS = [(name, re.compile(pattern)) for name, pattern in GROUPS]
ENGINE = "mistralrs_core::engine::Engine::run"
# The workers of the kernels' pool compute parts of what the engine's thread computes at the same time.
KERNEL_WORKER = "JobSlot::work"
OTHERS = "text, HTTP and all other threads"


def tensors():
    """Names, shapes, and centers and half widths of the values."""
    yield "model.embed_tokens.weight", (VOCAB, HIDDEN), (0.0, 0.14)
    yield "model.norm.weight", (HIDDEN,), (1.0, 0.1)
    for layer in range(LAYERS):
        shapes = {
            "input_layernorm.weight": (HIDDEN,),
            "post_attention_layernorm.weight": (HIDDEN,),
            "self_attn.q_proj.weight": (HIDDEN, HIDDEN),
            "self_attn.q_proj.bias": (HIDDEN,),
            "self_attn.k_proj.weight": (KV_WIDTH, HIDDEN),
            "self_attn.k_proj.bias": (KV_WIDTH,),
            "self_attn.v_proj.weight": (KV_WIDTH, HIDDEN),
            "self_attn.v_proj.bias": (KV_WIDTH,),
            "self_attn.o_proj.weight": (HIDDEN, HIDDEN),
            "self_attn.o_proj.bias": (HIDDEN,),
            "mlp.gate_proj.weight": (INNER, HIDDEN),
            "mlp.up_proj.weight": (INNER, HIDDEN),
            "mlp.down_proj.weight": (HIDDEN, INNER),
        }
        for name, shape in shapes.items():
            if "norm" in name:
                values = (1.0, 0.1)
            else:
                values = (0.0, 0.5 if len(shape) == 1 else 1.7 / shape[-1] ** 0.5)
            yield f"model.layers.{layer}.{name}", shape, values


def bf16_table(center, half_width):
    """A prime number of random values, so that no two rows are equal."""
    source = random.Random(0)
    floats = (center + half_width * source.uniform(-1, 1) for _ in range(100_003))
    return array.array("H", (struct.unpack("<I", struct.pack("<f", value))[0] >> 16 for value in floats))


def write_model(folder):
    folder.mkdir(parents=True)
    config = {
        "architectures": ["CoLMForCausalLM"], "model_type": "colm", "chains": [1],
        "vocab_size": VOCAB, "hidden_size": HIDDEN, "intermediate_size": INNER,
        "num_hidden_layers": LAYERS, "num_attention_heads": HEADS, "num_key_value_heads": KV_HEADS,
        "hidden_act": "silu", "rope_theta": 10000.0, "max_position_embeddings": 8192,
        "rms_norm_eps": 1e-5, "eos_token_id": 0, "attention_bias": True,
        "tie_word_embeddings": True, "torch_dtype": "bfloat16",
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    tokenizer = json.loads((GOLDEN / "tokenizer.json").read_text())
    vocab = tokenizer["model"]["vocab"]
    vocab.update({f"w{token}": token for token in range(len(vocab), VOCAB)})
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    (folder / "tokenizer_config.json").write_text((GOLDEN / "tokenizer_config.json").read_text())
    header, end = {}, 0
    for name, shape, _ in tensors():
        start, end = end, end + 2 * int(shape[0] * (shape[1] if len(shape) > 1 else 1))
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [start, end]}
    header = json.dumps(header).encode()
    header += b" " * (-len(header) % 8)
    tables = {}
    with open(folder / "model.safetensors", "wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        for number, (_, shape, values) in enumerate(tensors()):
            if values not in tables:
                tables[values] = bf16_table(*values)
            table = tables[values]
            count = shape[0] * (shape[1] if len(shape) > 1 else 1)
            first = number * 7919 % len(table)
            table = table[first:] + table[:first]
            data = table.tobytes()
            whole, rest = divmod(2 * count, len(data))
            for _ in range(whole):
                file.write(data)
            file.write(data[:rest])


class Server:
    """A running `colm serve`."""

    def __init__(self, colm, folder):
        command = [colm, "serve", "-m", folder, "--port", "0", "--kv-cache-mb", "1024"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for line in self.process.stdout:
            if found := re.search(r"http://([\d.]+:\d+)", line):
                self.address = found[1]
                break
        else:
            sys.exit("the server does not start")
        threading.Thread(target=lambda: [None for _ in self.process.stdout], daemon=True).start()

    def stop(self):
        self.process.kill()
        self.process.wait()


class Answer(threading.Thread):
    """A client that reads a streamed answer. It counts the chunks, one per token."""

    def __init__(self, address, seed, sampling):
        super().__init__(daemon=True)
        source = random.Random(seed)
        prompt = [source.randrange(1, VOCAB) for _ in range(PROMPT)]
        self.body = {"prompt": prompt, "max_tokens": ANSWER, "stream": True, "seed": seed, **sampling}
        self.address, self.tokens, self.failure = address, 0, None

    def run(self):
        connection = http.client.HTTPConnection(self.address)
        headers = {"Content-Type": "application/json"}
        try:
            connection.request("POST", "/v1/completions", json.dumps(self.body), headers)
            response = connection.getresponse()
            if response.status != 200:
                raise RuntimeError(response.read().decode())
            for line in response:
                self.tokens += line.startswith(b"data: {")
        except Exception as error:  # noqa: BLE001
            self.failure = error


def record(colm, folder, sampling, concurrency, seconds, data):
    """Profiles a server while `concurrency` answers are decoded. Returns the tokens per second and answer."""
    server = Server(colm, folder)
    try:
        answers = [Answer(server.address, seed, sampling) for seed in range(concurrency)]
        for answer in answers:
            answer.start()
        while any(answer.tokens < 8 for answer in answers):
            if failure := next((answer.failure for answer in answers if answer.failure), None):
                sys.exit(f"a request failed: {failure}")
            time.sleep(0.05)
        before, start = [answer.tokens for answer in answers], time.monotonic()
        perf = ["perf", "record", "-q", "-F", str(FREQUENCY), "--call-graph", "dwarf,16384"]
        target = ["-p", str(server.process.pid), "-o", data, "--", "sleep", str(seconds)]
        subprocess.run(perf + target, check=True, stderr=subprocess.DEVNULL)
        elapsed = time.monotonic() - start
        if not all(answer.is_alive() for answer in answers):
            sys.exit("an answer ended while it was profiled: increase ANSWER")
        tokens = [answer.tokens - count for answer, count in zip(answers, before)]
        return sum(tokens) / len(tokens) / elapsed
    finally:
        server.stop()


def stacks(data):
    """The call stacks of `perf script`, outermost function first, with the name of the thread, and their counts."""
    command = ["perf", "script", "-i", data, "--no-inline", "-F", "comm,tid,ip,sym"]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    counts = collections.Counter()
    for sample in output.split("\n\n"):
        lines = sample.strip("\n").split("\n")
        if not lines[0].strip():
            continue
        frames = [re.sub(r"\+0x[0-9a-f]+$", "", line.strip().split(" ", 1)[-1]) for line in lines[1:]]
        frames = [re.sub(r"::h[0-9a-f]{16}$", "", frame) for frame in frames if "[unknown]" not in frame]
        thread = re.sub(r"\s+\d+\s*$", "", lines[0].strip())
        counts[tuple([thread] + frames[::-1])] += 1
    return counts


def group_of(stack):
    frames = "\n".join(stack[1:])
    return next((name for name, pattern in GROUPS if pattern.search(frames)), OTHERS)


def show(title, counts, tokens_per_second):
    """The shares of a step. The thread of the engine is busy in all of it, or waits for the choice of the tokens of a
    batch by other threads. The work of the others takes its part of the cores."""
    cores = os.cpu_count() or 1
    groups, leaves = collections.Counter(), collections.Counter()
    for stack, count in counts.items():
        if not any(KERNEL_WORKER in frame for frame in stack):
            group, is_engine = group_of(stack), any(ENGINE in frame for frame in stack)
            groups[group] += count if is_engine else count / cores
            leaves[(group, stack[-1])] += count if is_engine else count / cores
    total = sum(groups.values())
    print(f"\n{title}: {1000 / tokens_per_second:.1f} ms per step while it was profiled, {sum(counts.values())} samples")
    for name, count in groups.most_common():
        print(f"{count / total:>7.1%}  {name}")
    print("innermost functions, without the products:")
    others = [(key, count) for key, count in leaves.most_common() if "product" not in key[0]]
    for (group, leaf), count in others[:8]:
        print(f"{count / total:>7.1%}  {group}: {leaf[:90]}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("colm", help="the binary to profile")
    parser.add_argument("--model", type=pathlib.Path, help="a folder for the model, which is kept and used again")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("target/decoded-token"))
    parser.add_argument("--only", choices=SAMPLING, action="append")
    parser.add_argument("--concurrency", default="1,32")
    parser.add_argument("--seconds", type=int, default=15)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        folder = args.model or pathlib.Path(scratch) / "model"
        if not folder.exists():
            write_model(folder)
        for name in args.only or SAMPLING:
            for concurrency in map(int, args.concurrency.split(",")):
                data = os.path.join(scratch, "perf.data")
                speed = record(args.colm, folder, SAMPLING[name], concurrency, args.seconds, data)
                counts = stacks(data)
                lines = sorted(";".join(stack) + f" {count}" for stack, count in counts.items())
                (args.out / f"{name}-{concurrency}.folded").write_text("\n".join(lines) + "\n")
                show(f"{name}, {concurrency} at once", counts, speed)


if __name__ == "__main__":
    main()
