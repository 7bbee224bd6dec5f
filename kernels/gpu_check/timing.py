"""Times on the GPU: medians of CUDA events. The contenders alternate in every round."""

import random
import statistics

import torch


def captured(launches):
    """The launches as one CUDA graph, so that launch overhead on the host is not timed."""
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
    graphs = {name: captured([launch] * repeats) for name, launch in contenders.items()}
    return {name: time / repeats for name, time in medians(graphs).items()}


def medians(contenders, rounds=30):
    """`contenders` maps names to functions. Returns milliseconds by name. The order is random in every
    round."""
    for run in contenders.values():
        for _ in range(3):
            run()
    names = list(contenders)
    times = {name: [] for name in names}
    for _ in range(rounds):
        random.shuffle(names)
        for name in names:
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            contenders[name]()
            end.record()
            times[name].append((start, end))
    torch.cuda.synchronize()
    return {
        name: statistics.median(start.elapsed_time(end) for start, end in events)
        for name, events in times.items()
    }


def sets_beyond_cache(bytes_per_set):
    """The number of sets of this size that exceeds the L2 cache."""
    cache = torch.cuda.get_device_properties(0).L2_cache_size
    return max(2, -(-8 * cache // bytes_per_set))
