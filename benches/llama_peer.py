"""llama.cpp as a contender: the worker's protocol (speed/protocol.rs) over its low-level API.

Prompts go through llama_decode in batches and every token of an answer through one more, so that what
Python adds is some microseconds per step. Requests that come together are batched as llama.cpp's own
server does it: a step has the next token of every answer in progress and, up to the size of a batch,
tokens of the prompts that wait.
"""

import json
import os
import sys
import time

import llama_cpp as llama
import numpy

# llama.cpp's defaults for both.
BATCH = 2048
UBATCH = 512


def main():
    start = json.loads(sys.stdin.readline())
    began = time.perf_counter()
    llama.llama_backend_init()
    model = llama.llama_model_load_from_file(
        start["model"].encode(), llama.llama_model_default_params()
    )
    if not model:
        return say({"error": f"llama.cpp cannot load {start['model']}"})
    say({"ready": {"load_ms": (time.perf_counter() - began) * 1e3}})
    contexts = Contexts(model)
    for line in sys.stdin:
        requests = json.loads(line)["requests"]
        try:
            answers = contexts.fitting(requests).run(requests)
            say({"answers": {"answers": answers, "peak_mib": peak_mib()}})
        except RuntimeError as error:
            say({"error": str(error)})


def say(reply):
    print(json.dumps(reply), flush=True)


def peak_mib():
    """The most memory this process has had resident, mapped files included, as Linux counts it."""
    try:
        with open("/proc/self/status") as status:
            lines = [line.split() for line in status if line.startswith("VmHWM:")]
        return int(lines[0][1]) / 1024
    except (OSError, IndexError):
        return None


class Contexts:
    """A context per number of sequences, kept, as a server would: only empty ones are used."""

    def __init__(self, model):
        self.model = model
        self.kept = {}

    def fitting(self, requests):
        longest = max(len(request["prompt"]) + request["new_tokens"] for request in requests)
        count = len(requests)
        if count not in self.kept or self.kept[count].longest < longest:
            self.kept.pop(count, None)
            self.kept[count] = Context(self.model, count, longest)
        context = self.kept[count]
        llama.llama_memory_clear(llama.llama_get_memory(context.context), True)
        return context


class Context:
    """Room for `count` sequences of up to `longest` tokens."""

    def __init__(self, model, count, longest):
        params = llama.llama_context_default_params()
        params.n_ctx = count * (-(-longest // 256) * 256)
        params.n_seq_max = count
        params.n_batch, params.n_ubatch = BATCH, UBATCH
        params.n_threads = params.n_threads_batch = os.cpu_count()
        # What was fastest of the four combinations: flash attention always, one stream of the KV cache
        # per sequence once there are several.
        params.flash_attn_type = llama.LLAMA_FLASH_ATTN_TYPE_ENABLED
        params.kv_unified = count == 1
        self.longest = longest
        self.vocab = llama.llama_vocab_n_tokens(llama.llama_model_get_vocab(model))
        self.batch = llama.llama_batch_init(BATCH, 0, 1)
        self.context = llama.llama_init_from_model(model, params)
        if not self.context:
            raise RuntimeError("llama.cpp cannot make a context")

    def __del__(self):
        llama.llama_batch_free(self.batch)
        llama.llama_free(self.context)

    def run(self, requests):
        """The times of all requests, sent at once."""
        answers = [Answer(request) for request in requests]
        began = time.perf_counter()
        while any(answer.left for answer in answers):
            for answer, token in self.step(answers):
                answer.take(token, (time.perf_counter() - began) * 1e3)
        return [{"first_ms": answer.first_ms, "last_ms": answer.last_ms} for answer in answers]

    def step(self, answers):
        """One llama_decode; every answer that has got a new token, with the token."""
        room, parts = BATCH, []
        going_on = [sequence for sequence, answer in enumerate(answers) if answer.left]
        # Answers in progress have one token to compute and come before prompts.
        for sequence in sorted(going_on, key=lambda sequence: not answers[sequence].in_progress):
            tokens = answers[sequence].pending[:room]
            if len(tokens):
                parts.append((sequence, tokens))
                room -= len(tokens)
        rows = self.fill(parts, answers)
        if llama.llama_decode(self.context, self.batch):
            raise RuntimeError("llama_decode failed")
        new = []
        for row, (sequence, tokens) in zip(rows, parts):
            answer = answers[sequence]
            answer.computed += len(tokens)
            answer.pending = answer.pending[len(tokens) :]
            if not len(answer.pending):
                new.append((answer, self.greedy(row)))
        return new

    def fill(self, parts, answers):
        """Lays `parts` out in the batch; the row of each one's last token."""
        rows, at = [], 0
        for sequence, tokens in parts:
            end, position = at + len(tokens), answers[sequence].computed
            view(self.batch.token, end)[at:] = tokens
            view(self.batch.pos, end)[at:] = range(position, position + len(tokens))
            view(self.batch.n_seq_id, end)[at:] = 1
            view(self.batch.logits, end)[at:] = 0
            for row in range(at, end):
                self.batch.seq_id[row][0] = sequence
            if len(tokens) == len(answers[sequence].pending):
                self.batch.logits[end - 1] = 1
            rows.append(end - 1)
            at = end
        self.batch.n_tokens = at
        return rows

    def greedy(self, row):
        logits = llama.llama_get_logits_ith(self.context, row)
        return int(numpy.argmax(view(logits, self.vocab)))


class Answer:
    """A request on its way."""

    def __init__(self, request):
        self.pending = numpy.array(request["prompt"], dtype=numpy.int32)
        self.left = request["new_tokens"]
        self.computed = 0
        self.first_ms = self.last_ms = None

    @property
    def in_progress(self):
        return self.first_ms is not None

    def take(self, token, ms):
        """A new token; the last one is not computed any more."""
        self.first_ms = self.first_ms or ms
        self.last_ms = ms
        self.left -= 1
        self.pending = numpy.array([token] if self.left else [], dtype=numpy.int32)


def view(pointer, length):
    """The first elements of a C array, without a copy."""
    return numpy.ctypeslib.as_array(pointer, (length,))


if __name__ == "__main__":
    main()
