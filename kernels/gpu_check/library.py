"""The launchers of kernels/cuda, on PyTorch tensors."""

import ctypes
import re
from ctypes import (
    Structure,
    byref,
    c_char_p,
    c_float,
    c_int,
    c_int32,
    c_int64,
    c_void_p,
)
from dataclasses import dataclass, field
from pathlib import Path

import torch

LIMITS = (Path(__file__).resolve().parent.parent / "cuda" / "limits.h").read_text()


def limit(name):
    """The value of a limit of the kernels."""
    return int(re.search(rf"^#define COLM_{name} (\d+)$", LIMITS, re.MULTILINE).group(1))


MAX_CHAINS = limit("MAX_CHAINS")
MAX_PRODUCTS = limit("MAX_PRODUCTS")
MAX_SKINNY_ROWS = limit("MAX_SKINNY_ROWS")
DECODE_QUERIES = limit("DECODE_QUERIES")
DTYPES = {torch.bfloat16: 0, torch.float16: 1}


# chain_linear.h


class LinearInput(Structure):
    _fields_ = [("x", c_void_p), ("row_map", c_void_p), ("rows", c_int32), ("width", c_int32)]


class LinearProduct(Structure):
    _fields_ = [("weight", c_void_p), ("up", c_void_p), ("bias", c_void_p), ("up_bias", c_void_p),
                ("residual", c_void_p), ("y", c_void_p), ("chain", c_int32), ("outputs", c_int32)]


class ChainLinear(Structure):
    _fields_ = [("dtype", c_int32), ("chains", c_int32), ("products", c_int32), ("reserved", c_int32),
                ("inputs", LinearInput * MAX_CHAINS), ("product", LinearProduct * MAX_PRODUCTS)]


class NormChain(Structure):
    _fields_ = [("x", c_void_p), ("weight", c_void_p), ("y", c_void_p), ("rows", c_int32),
                ("width", c_int32)]


class ChainNorm(Structure):
    _fields_ = [("dtype", c_int32), ("chains", c_int32), ("eps", c_float), ("reserved", c_int32),
                ("chain", NormChain * MAX_CHAINS)]


# attention_plan.cuh, chain_attention.cuh, kv_blocks.cuh


class ChainHeads(Structure):
    _fields_ = [("heads", c_int), ("first_kv_head", c_int), ("kv_heads", c_int)]


class ChainTensors(Structure):
    _fields_ = [("q", c_void_p), ("out", c_void_p), ("q_stride", c_int64)]


class KvBlocks(Structure):
    _fields_ = [("keys", c_void_p), ("values", c_void_p), ("kv_heads", c_int), ("block_size", c_int)]


class QueryRange(Structure):
    _fields_ = [("chain", c_int), ("sequence", c_int), ("first_position", c_int), ("rows", c_int),
                ("first_row", c_int)]


class AttentionCounts(Structure):
    _fields_ = [("prefill", c_int), ("decode", c_int), ("combine", c_int), ("partials", c_int),
                ("stacks", c_int), ("words", c_int)]


# The launchers of linear layers of any number of rows. On devices other than Hopper, the second calls the
# first.
LINEAR_LAUNCHERS = ["colm_chain_linear", "colm_chain_linear_wgmma"]

SIZED = [LinearInput, LinearProduct, ChainLinear, NormChain, ChainNorm, ChainHeads, ChainTensors,
         KvBlocks, QueryRange, AttentionCounts]


def pointer(tensor):
    if tensor is None:
        return None
    assert tensor.is_contiguous(), "the launchers need contiguous tensors"
    return tensor.data_ptr()


def poisoned(shape, like):
    """A buffer of NaN, so that numbers a launch does not write are detected."""
    return torch.full(shape, float("nan"), dtype=like.dtype, device=like.device)


@dataclass
class Matrix:
    """One chain of a linear layer: `weight` [outputs, in_<=i]."""

    weight: torch.Tensor
    up: torch.Tensor = None
    bias: torch.Tensor = None
    up_bias: torch.Tensor = None
    residual: torch.Tensor = None
    y: torch.Tensor = None


@dataclass
class Rows:
    """Per chain the number of rows, and the index of each row among those of the earlier chains:
    int32 [chain, rows], or None if all have the same rows."""

    counts: list
    row_maps: list = field(default_factory=list)

    @staticmethod
    def same(chains, count):
        return Rows([count] * chains, [None] * chains)

    @staticmethod
    def nested(rows, device):
        """`rows[i]` has the rows of chain i, as ascending numbers that all chains share."""
        row_maps = []
        for chain, own in enumerate(rows):
            row_map = [[earlier.index(row) for row in own] for earlier in rows[:chain]]
            same = all(earlier == own for earlier in rows[:chain])
            row_maps.append(None if same else torch.tensor(row_map, dtype=torch.int32, device=device))
        return Rows([len(own) for own in rows], row_maps)


class Kernels:
    def __init__(self, path, device):
        self.device = device
        self.library = ctypes.CDLL(str(Path(path).resolve()))
        self.library.colm_status_text.restype = c_char_p
        self.check_sizes()

    def check_sizes(self):
        sizes = (c_int * len(SIZED))()
        count = self.library.colm_sizes(sizes, len(SIZED))
        found = [(kind.__name__, ctypes.sizeof(kind)) for kind in SIZED]
        expected = [(kind.__name__, size) for kind, size in zip(SIZED, sizes)]
        if count != len(SIZED) or found != expected:
            raise SystemExit(f"the structures are {found} here and {expected} in the library")

    def call(self, name, *arguments):
        stream = torch.cuda.current_stream().cuda_stream if self.device == "cuda" else 0
        status = getattr(self.library, name)(*arguments, c_void_p(stream))
        if status != 0:
            raise RuntimeError(f"{name}: {self.library.colm_status_text(status).decode()}")

    def linear(self, x, rows, layers, launcher="colm_chain_linear"):
        """A launch of `layers`, each a list with a `Matrix` per chain that has an output. Results go to
        `y` of the matrices, which is allocated here if it is None."""
        arguments = ChainLinear(dtype=DTYPES[x[0].dtype], chains=len(x))
        for chain, tensor in enumerate(x):
            arguments.inputs[chain] = LinearInput(
                pointer(tensor), pointer(rows.row_maps[chain]), rows.counts[chain], tensor.shape[1])
        for layer in layers:
            for chain, matrix in enumerate(layer):
                if matrix.y is None:
                    matrix.y = poisoned((rows.counts[chain], matrix.weight.shape[0]), x[0])
                arguments.product[arguments.products] = LinearProduct(
                    pointer(matrix.weight), pointer(matrix.up), pointer(matrix.bias),
                    pointer(matrix.up_bias), pointer(matrix.residual), pointer(matrix.y), chain,
                    matrix.weight.shape[0])
                arguments.products += 1
        kept = (arguments, x, rows, layers)
        return lambda: self.call(launcher, byref(kept[0]))

    def norm(self, x, weights, eps, y):
        arguments = ChainNorm(dtype=DTYPES[x[0].dtype], chains=len(x), eps=eps)
        tensors = list(zip(x, weights, y))
        for chain, chain_tensors in enumerate(tensors):
            arguments.chain[chain] = NormChain(*map(pointer, chain_tensors), *x[chain].shape)
        kept = (arguments, tensors)
        return lambda: self.call("colm_chain_rms_norm", byref(kept[0]))

    def rope(self, x, out, cos, sin, positions):
        """`x`, `out` [rows, heads, head_dim]; `cos`, `sin` f32 [positions, head_dim / 2]."""
        rows, heads, head_dim = x.shape
        stride = heads * head_dim
        return lambda: self.call(
            "colm_rope", DTYPES[x.dtype], head_dim, c_void_p(pointer(x)), c_int64(stride),
            c_void_p(pointer(out)), c_int64(stride), rows, heads, c_void_p(pointer(cos)),
            c_void_p(pointer(sin)), c_void_p(pointer(positions)))

    def kv_write(self, keys, values, first_head, cos, sin, positions, slots, cache_keys, cache_values):
        """`keys`, `values` [rows, heads, head_dim]; `cache_keys`, `cache_values` [blocks, kv_heads, block_size,
        head_dim]; `slots` int64 [rows]."""
        rows, heads, head_dim = keys.shape
        stride = heads * head_dim
        _, kv_heads, block_size, _ = cache_keys.shape
        blocks = KvBlocks(pointer(cache_keys), pointer(cache_values), kv_heads, block_size)
        return lambda: self.call(
            "colm_kv_write", DTYPES[keys.dtype], head_dim, c_void_p(pointer(keys)), c_int64(stride),
            c_void_p(pointer(values)), c_int64(stride), rows, first_head, heads, c_void_p(pointer(cos)),
            c_void_p(pointer(sin)), c_void_p(pointer(positions)), c_void_p(pointer(slots)),
            byref(blocks))

    def attention_plan(self, heads, ranges, head_dim):
        """`heads`: per chain (heads, first_kv_head, kv_heads). `ranges`: (chain, sequence,
        first_position, rows, first_row)."""
        chain_heads = (ChainHeads * len(heads))(*[ChainHeads(*chain) for chain in heads])
        query_ranges = (QueryRange * len(ranges))(*[QueryRange(*r) for r in ranges])
        counts = AttentionCounts()

        def plan(words, capacity):
            status = self.library.colm_attention_plan(
                chain_heads, len(heads), query_ranges, len(ranges), words, capacity, byref(counts))
            if status != 0:
                raise RuntimeError(f"plan: {self.library.colm_status_text(status).decode()}")

        plan(None, 0)
        words = (c_int32 * max(counts.words, 1))()
        plan(words, counts.words)
        on_device = torch.frombuffer(bytearray(words), dtype=torch.uint8).to(self.device)
        floats = max(counts.partials, 1) * DECODE_QUERIES * (head_dim + 2)
        partials = torch.empty(floats, dtype=torch.float32, device=self.device)
        return AttentionPlan(chain_heads, counts, on_device, partials)

    def attention(self, plan, q, out, keys, values, tables, scale):
        """`q`, `out` per chain [rows, heads, head_dim]; `tables` int32 [sequences, max_blocks]."""
        head_dim = keys.shape[3]
        tensors = (ChainTensors * len(q))()
        for chain, (queries, result) in enumerate(zip(q, out)):
            tensors[chain] = ChainTensors(
                pointer(queries), pointer(result), queries.shape[1] * head_dim)
        blocks = KvBlocks(pointer(keys), pointer(values), keys.shape[1], keys.shape[2])
        kept = (q, out, keys, values, tables)
        return lambda: self.call(
            "colm_chain_attention", DTYPES[keys.dtype], head_dim, plan.heads, tensors, len(kept[0]),
            byref(blocks), c_void_p(pointer(tables)), tables.shape[1], c_void_p(pointer(plan.words)),
            byref(plan.counts), c_void_p(pointer(plan.partials)), c_float(scale))


@dataclass
class AttentionPlan:
    heads: ctypes.Array
    counts: AttentionCounts
    words: torch.Tensor
    partials: torch.Tensor
