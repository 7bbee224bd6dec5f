"""Checks at the ends of the kernels' range: tensors of more than 2^31 elements, every block size, position 131,071.

    large.py LIBRARY [--small] [--cpu] [--part NAME]... [--rows FILE]

Compares samples of the results with the formulas in float64: the first rows, those around element 2^31, and the last.
`--small` runs the same checks on small tensors, for the twin. Wrong results do not end the program; it exits 1 at the
end.
"""

import argparse
import random

import torch

import reference
from check import Check, Results
from check_attention import AttentionCheck, Cache
from check_linear import DECODE
from library import LINEAR_LAUNCHERS, MAX_SKINNY_ROWS, Kernels, Matrix, Rows, poisoned

DTYPE = torch.bfloat16
BOUNDARY = 1 << 31
EPS = 1e-5


def rows_beyond(check, width, small_rows=70):
    """A number of rows of `width` with more than 2^31 elements, and the indices of those to compare."""
    rows = small_rows if check.small else BOUNDARY // width + 3000
    middle = rows // 2 if check.small else BOUNDARY // width
    sample = [*range(20), *range(middle - 10, middle + 10), *range(rows - 20, rows)]
    return rows, check.integers(sample, torch.int64)


def launched(check, kernel, case, launch):
    """Launches once, since a copy of the results may not fit. Returns whether they can be compared."""
    try:
        launch()
        check.synchronize()
        return True
    except RuntimeError as error:
        check.results.broken(kernel, check.dtype_name, case, str(error).splitlines()[0])
        return False


def linear(check, launcher):
    """Beyond 2^31 elements: x, y, and the weights."""
    kernel, wide, thin = launcher.removeprefix("colm_"), 256 if check.small else 8192, 64
    if launcher != DECODE:
        for inputs, outputs, what in [(wide, thin, "x"), (thin, wide, "y")]:
            rows, sample = rows_beyond(check, wide)
            x, matrix = check.tensor(rows, inputs), Matrix(check.tensor(outputs, inputs) * inputs**-0.5)
            case = f"{what} of {rows} x {wide}"
            if launched(check, kernel, case, check.kernels.linear([x], Rows.same(1, rows), [[matrix]], launcher)):
                check.note(kernel, matrix.y[sample], x[sample].double() @ matrix.weight.double().T, case)
            del x, matrix
    outputs, sample = rows_beyond(check, wide, small_rows=80)
    outputs -= outputs % 8
    sample = sample.clamp(max=outputs - 1)
    count = 3 if launcher == DECODE else MAX_SKINNY_ROWS + 8
    x, matrix = check.tensor(count, wide), Matrix(check.tensor(outputs, wide) * wide**-0.5)
    case = f"W of {outputs} x {wide}, {count} rows"
    if launched(check, kernel, case, check.kernels.linear([x], Rows.same(1, count), [[matrix]], launcher)):
        check.note(kernel, matrix.y[:, sample], x.double() @ matrix.weight[sample].double().T, case)


def norm(check):
    width = 256 if check.small else 8192
    rows, sample = rows_beyond(check, width)
    x, weight = check.tensor(rows, width), check.tensor(width)
    y = poisoned(x.shape, x)
    case = f"{rows} x {width}"
    if launched(check, "chain_rms_norm", case, check.kernels.norm([x], [weight], EPS, [y])):
        check.note("chain_rms_norm", y[sample], reference.rms_norm(x[sample], weight, EPS), case)


def rope(check):
    """Rows beyond 2^31 elements, up to position 131,071."""
    heads, head_dim, longest = 32, 128, 131_072
    rows, sample = rows_beyond(check, heads * head_dim)
    x = check.tensor(rows, heads, head_dim)
    out = poisoned(x.shape, x)
    cos, sin = reference.rope_tables(longest, head_dim, 5e5, check.device)
    positions = torch.randint(longest, (rows,), device=check.device, dtype=torch.int32)
    positions[-1] = longest - 1
    case = f"{rows} x {heads} x {head_dim}"
    if launched(check, "rope", case, check.kernels.rope(x, out, cos, sin, positions)):
        check.note("rope", out[sample], reference.rope(x[sample], cos, sin, positions[sample]), case)


def long_sequence(check):
    """A sequence up to position 131,071 beside short ones, in KV blocks beyond element 2^31 of the cache: prefill
    tiles, decode tiles and 512 splits."""
    longest, kv_heads, head_dim = (700, 2, 64) if check.small else (131_072, 8, 128)
    for block_size in [16, 32, 64]:
        first_block = 0 if check.small else BOUNDARY // (kv_heads * block_size * head_dim)
        lengths = [longest, 300, 17]
        cache = Cache(check, lengths, kv_heads, head_dim, block_size, first_block)
        cache.fill()
        # Two chains, as in Air: chain 1 computes the last 20 rows of the long sequence, chain 2 the last one.
        heads = [(4 * kv_heads, 0, kv_heads), (2 * kv_heads, 0, kv_heads)]
        new = [[20, 1, 17], [1, 1, 1]]
        q = [check.tensor(sum(rows), count, head_dim) for rows, (count, _, _) in zip(new, heads)]
        out = [poisoned(part.shape, part) for part in q]
        ranges = [(chain, sequence, lengths[sequence] - rows, rows, sum(new[chain][:sequence]))
                  for chain in range(2) for sequence, rows in enumerate(new[chain])]
        plan = check.kernels.attention_plan(heads, ranges, head_dim)
        launch = check.kernels.attention(plan, q, out, cache.keys, cache.values, cache.tables, head_dim**-0.5)
        case = f"{longest} positions, blocks of {block_size}"
        if check.twice("chain_attention", case, launch, out):
            compare_ranges(check, cache, ranges, q, out, case)
        del cache, q, out


def compare_ranges(check, cache, ranges, q, out, case):
    for chain, sequence, first, rows, first_row in ranges:
        mine = slice(first_row, first_row + rows)
        expected = torch.cat([
            reference.attention(q[chain][mine][:, heads], cache.rotated_keys[sequence][:, [kv_head]],
                                cache.values_by_position[sequence][:, [kv_head]], first, cache.head_dim**-0.5)
            for kv_head, heads in enumerate(heads_of(q[chain].shape[1], cache.keys.shape[1]))], dim=1)
        check.note("chain_attention", out[chain][mine], expected, f"{case}, chain {chain + 1}, sequence {sequence}")


def heads_of(heads, kv_heads):
    """The query heads of each key/value head."""
    group = heads // kv_heads
    return [slice(start, start + group) for start in range(0, heads, group)]


def many_queries(check):
    """Queries and results of more than 2^31 elements: thousands of prompts of 150 rows in one step."""
    heads, kv_heads, head_dim, length = (4, 2, 64, 40) if check.small else (32, 2, 128, 150)
    sequences = 3 if check.small else BOUNDARY // (heads * head_dim * length) + 20
    blocks = -(-length // 64)
    keys, values = (check.tensor(sequences * blocks, kv_heads, 64, head_dim) for _ in range(2))
    tables = torch.randperm(sequences * blocks, device=check.device).to(torch.int32).view(sequences, blocks)
    q = check.tensor(sequences * length, heads, head_dim)
    out = poisoned(q.shape, q)
    ranges = [(0, sequence, 0, length, sequence * length) for sequence in range(sequences)]
    plan = check.kernels.attention_plan([(heads, 0, kv_heads)], ranges, head_dim)
    launch = check.kernels.attention(plan, [q], [out], keys, values, tables, head_dim**-0.5)
    case = f"q of {len(q)} x {heads} x {head_dim}"
    if not launched(check, "chain_attention", case, launch):
        return
    middle = BOUNDARY // (heads * head_dim * length)
    for sequence in {0, min(middle, sequences - 1), sequences - 1}:
        own = tables[sequence].long()
        by_position = [part[own].transpose(1, 2).reshape(-1, kv_heads, head_dim)[:length] for part in (keys, values)]
        mine = slice(sequence * length, (sequence + 1) * length)
        check.note("chain_attention", out[mine], reference.attention(q[mine], *by_position, 0, head_dim**-0.5),
                   f"{case}, sequence {sequence}")


def block_sizes(check):
    for block_size in [16, 32, 48, 64]:
        AttentionCheck(check).compare(64, [(4, 0, 2), (2, 0, 2)], [300, 17, 130], [300, 1, 3], block_size)


PARTS = {
    "block sizes": block_sizes,
    "long sequence": long_sequence,
    **{launcher.removeprefix("colm_"): lambda check, launcher=launcher: linear(check, launcher)
       for launcher in [*LINEAR_LAUNCHERS, DECODE]},
    "norm": norm,
    "rope": rope,
    "many queries": many_queries,
}


def run_part(name, check):
    try:
        PARTS[name](check)
    except RuntimeError as error:
        check.results.broken(name, check.dtype_name, "", str(error).splitlines()[0])
    if check.device == "cuda":
        torch.cuda.empty_cache()
    print(f"{name}: done", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("library")
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--cpu", action="store_true")
    parser.add_argument("--part", action="append", choices=list(PARTS))
    parser.add_argument("--rows")
    arguments = parser.parse_args()
    random.seed(0)
    torch.manual_seed(0)
    kernels = Kernels(arguments.library, "cpu" if arguments.cpu else "cuda")
    results = Results(keep_going=True, path=arguments.rows)
    check = Check(kernels, DTYPE, arguments.small, results)
    for name in arguments.part or PARTS:
        run_part(name, check)
    for name, error in results.worst.items():
        print(f"{name:28} {error:.2e}")
    if results.failures:
        raise SystemExit(f"{len(results.failures)} wrong results")


if __name__ == "__main__":
    main()
