"""Times on the GPU: medians of CUDA events, contenders in turn in every round."""

import random
import statistics

import torch


def captured(launches):
    """The launches as one CUDA graph, so that what is timed is the GPU."""
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
    """`contenders`: name -> one launch. Milliseconds by name, of graphs of `repeats` launches."""
    graphs = {name: captured([launch] * repeats) for name, launch in contenders.items()}
    return {name: time / repeats for name, time in medians(graphs).items()}


def medians(contenders, rounds=30):
    """`contenders`: name -> what to run. Milliseconds by name, in rounds of random order."""
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
    """How many sets of that size no cache holds."""
    cache = torch.cuda.get_device_properties(0).L2_cache_size
    return max(2, -(-8 * cache // bytes_per_set))
