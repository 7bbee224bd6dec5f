"""The worker process for llama.cpp: the protocol of speed/protocol.rs, on llama.cpp's low-level API.

Prompts go through llama_decode in batches, and each further token of an answer takes one more call, so
Python adds some microseconds per step. Concurrent requests are batched as in llama.cpp's own server: a
step has the next token of every answer in progress, and tokens of waiting prompts up to the batch size.
"""

import json
import os
import sys
import time

import llama_cpp as llama
import numpy

# The default values of llama.cpp.
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
        return reply({"error": f"llama.cpp cannot load {start['model']}"})
    reply({"ready": {"load_ms": (time.perf_counter() - began) * 1e3}})
    contexts = Contexts(model)
    for line in sys.stdin:
        requests = json.loads(line)["requests"]
        try:
            answers = contexts.fitting(requests).run(requests)
            reply({"answers": {"answers": answers, "peak_mib": peak_mib()}})
        except RuntimeError as error:
            reply({"error": str(error)})


def reply(message):
    print(json.dumps(message), flush=True)


def peak_mib():
    """Peak resident memory of this process in MiB, mapped files included (VmHWM of Linux)."""
    try:
        with open("/proc/self/status") as status:
            lines = [line.split() for line in status if line.startswith("VmHWM:")]
        return int(lines[0][1]) / 1024
    except (OSError, IndexError):
        return None


class Contexts:
    """Contexts by number of sequences, kept for reuse as a server does, and cleared before each use."""

    def __init__(self, model):
        self.model = model
        self.contexts = {}

    def fitting(self, requests):
        longest = max(len(request["prompt"]) + request["new_tokens"] for request in requests)
        count = len(requests)
        if count not in self.contexts or self.contexts[count].longest < longest:
            self.contexts.pop(count, None)
            self.contexts[count] = Context(self.model, count, longest)
        context = self.contexts[count]
        llama.llama_memory_clear(llama.llama_get_memory(context.context), True)
        return context


class Context:
    """A context for `count` sequences of up to `longest` tokens."""

    def __init__(self, model, count, longest):
        params = llama.llama_context_default_params()
        params.n_ctx = count * (-(-longest // 256) * 256)
        params.n_seq_max = count
        params.n_batch, params.n_ubatch = BATCH, UBATCH
        params.n_threads = params.n_threads_batch = os.cpu_count()
        # The fastest of the four combinations: flash attention always, and a KV cache stream per sequence
        # if there are several.
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
        """Runs all requests at once; returns the times of their first and last tokens."""
        answers = [Answer(request) for request in requests]
        began = time.perf_counter()
        while any(answer.left for answer in answers):
            for answer, token in self.step(answers):
                answer.take(token, (time.perf_counter() - began) * 1e3)
        return [{"first_ms": answer.first_ms, "last_ms": answer.last_ms} for answer in answers]

    def step(self, answers):
        """One call of llama_decode; returns the answers that have a new token, with that token."""
        room, chunks = BATCH, []
        unfinished = [sequence for sequence, answer in enumerate(answers) if answer.left]
        # Answers in progress have one token each and come before prompts.
        for sequence in sorted(unfinished, key=lambda sequence: not answers[sequence].in_progress):
            tokens = answers[sequence].pending[:room]
            if len(tokens):
                chunks.append((sequence, tokens))
                room -= len(tokens)
        rows = self.fill(chunks, answers)
        if llama.llama_decode(self.context, self.batch):
            raise RuntimeError("llama_decode failed")
        new = []
        for row, (sequence, tokens) in zip(rows, chunks):
            answer = answers[sequence]
            answer.computed += len(tokens)
            answer.pending = answer.pending[len(tokens) :]
            if not len(answer.pending):
                new.append((answer, self.greedy(row)))
        return new

    def fill(self, chunks, answers):
        """Fills the batch with `chunks`; returns the row of the last token of each."""
        rows, at = [], 0
        for sequence, tokens in chunks:
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
    """A request in progress."""

    def __init__(self, request):
        self.pending = numpy.array(request["prompt"], dtype=numpy.int32)
        self.left = request["new_tokens"]
        self.computed = 0
        self.first_ms = self.last_ms = None

    @property
    def in_progress(self):
        return self.first_ms is not None

    def take(self, token, ms):
        """Adds a new token. The last token is not fed to the model."""
        self.first_ms = self.first_ms or ms
        self.last_ms = ms
        self.left -= 1
        self.pending = numpy.array([token] if self.left else [], dtype=numpy.int32)


def view(pointer, length):
    """The first elements of a C array, as a view."""
    return numpy.ctypeslib.as_array(pointer, (length,))


if __name__ == "__main__":
    main()
