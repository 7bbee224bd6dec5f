"""Medians of CUDA events. The contenders alternate in every round.

Without a GPU the same functions use the host's clock, so that the twin can run what calls them; those times say
nothing about a GPU.
"""

import random
import statistics
import time

import torch

ON_GPU = torch.cuda.is_available()
DEVICE = "cuda" if ON_GPU else "cpu"

# Milliseconds that the slowest contender of `medians` takes in all rounds together.
BUDGET = 300 if ON_GPU else 1
ROUNDS = range(5, 31) if ON_GPU else range(1, 2)


def captured(launches):
    """The launches as one CUDA graph, so that launch overhead on the host is not timed."""
    if not ON_GPU:
        return lambda: [launch() for launch in launches]
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for launch in launches:
            launch()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for launch in launches:
            launch()
    return graph.replay


def per_launch(contenders, repeats=10):
    """`contenders` maps names to launches. Returns milliseconds per launch by name, timed in graphs of
    `repeats` launches."""
    if not ON_GPU:
        repeats = 1
    graphs = {name: captured([launch] * repeats) for name, launch in contenders.items()}
    return {name: time / repeats for name, time in medians(graphs).items()}


def started(run):
    """Runs `run`. Returns a function that waits for its end and returns its milliseconds."""
    if not ON_GPU:
        start = time.perf_counter()
        run()
        elapsed = (time.perf_counter() - start) * 1e3
        return lambda: elapsed
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    run()
    end.record()

    def elapsed():
        end.synchronize()
        return start.elapsed_time(end)

    return elapsed


def medians(contenders, budget=BUDGET):
    """`contenders` maps names to functions. Returns milliseconds by name. The order is random in every round; the
    slowest contender takes about `budget` milliseconds in all."""
    slowest = 0
    for run in contenders.values():
        for _ in range(2 if ON_GPU else 0):
            run()
        slowest = max(slowest, started(run)())
    rounds = min(max(int(budget / max(slowest, 1e-3)), ROUNDS.start), ROUNDS.stop - 1)
    names = list(contenders)
    times = {name: [] for name in names}
    for _ in range(rounds):
        random.shuffle(names)
        for name in names:
            times[name].append(started(contenders[name]))
    return {name: statistics.median(elapsed() for elapsed in runs) for name, runs in times.items()}


def copy_rate():
    """The bytes per second that a copy reads and writes."""
    source = torch.empty(1 << (30 if ON_GPU else 20), dtype=torch.uint8, device=DEVICE)
    target = torch.empty_like(source)
    return 2 * source.numel() / medians({"copy": lambda: target.copy_(source)})["copy"] * 1e3


def sets_beyond_cache(bytes_per_set):
    """The number of sets of this size that exceeds the L2 cache."""
    if not ON_GPU:
        return 2
    cache = torch.cuda.get_device_properties(0).L2_cache_size
    return max(2, -(-8 * cache // bytes_per_set))
