"""The files of a checkpoint (docs/spec.md#tensors)."""

import json
import struct

import numpy as np

from weights import PROJECTIONS, Sizes


def safetensors_bytes(tensors):
    header, data = {"__metadata__": {"format": "pt"}}, b""
    for name in sorted(tensors):
        tensor = np.ascontiguousarray(tensors[name], dtype="<f4")
        end = len(data) + tensor.nbytes
        header[name] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": [len(data), end]}
        data += tensor.tobytes()
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + data


def json_bytes(value):
    return (json.dumps(value, indent=2) + "\n").encode()


def chain_layout(config, weights):
    n = len(config["chains"])
    files, placed = {}, {}
    for i in range(n):
        file = f"model-chain-{i + 1:05}-of-{n:05}.safetensors"
        own = {name: tensor for name, tensor in weights.items() if f".chains.{i}." in name}
        placed.update((name, file) for name in own)
        files[file] = safetensors_bytes(own)
    size = sum(tensor.nbytes for tensor in weights.values())
    index = {"metadata": {"total_size": size}, "weight_map": dict(sorted(placed.items()))}
    files["model.safetensors.index.json"] = json_bytes(index)
    return files


def dense_layout(config, weights):
    """Full matrices with zero blocks. Air's k and v are full in even layers and have chain 1's columns only in odd layers."""
    sizes = Sizes(config)
    dense = {}
    for stem_leaf in sorted({(name.split(".chains.")[0], name.rsplit(".", 1)[1]) for name in weights}):
        stem, leaf = stem_leaf
        blocks = [weights.get(f"{stem}.chains.{i}.{leaf}") for i in range(sizes.n)]
        blocks = [block for block in blocks if block is not None]
        name = f"{stem}.{leaf}"
        if blocks[0].ndim == 1:
            dense[name] = np.concatenate(blocks)
        elif stem in ("model.embed_tokens", "lm_head"):
            dense[name] = np.concatenate(blocks, axis=1)
        else:
            layer, projection = stem.removeprefix("model.layers.").split(".", 1)
            width = sum(sizes.linear(projection)[1])
            if len(blocks) < sizes.n and int(layer) % 2 == 1:
                width = sizes.hidden[0]
            padded = [np.pad(block, [(0, 0), (0, width - block.shape[1])]) for block in blocks]
            dense[name] = np.concatenate(padded, axis=0)
    return {"model.safetensors": safetensors_bytes(dense)}


PAPER_NAMES = {
    "self_attn.q_proj": "attention.wq",
    "self_attn.k_proj": "attention.wk",
    "self_attn.v_proj": "attention.wv",
    "self_attn.o_proj": "attention.wo",
    "mlp.gate_proj": "feed_forward.w1",
    "mlp.up_proj": "feed_forward.w3",
    "mlp.down_proj": "feed_forward.w2",
    "input_layernorm": "attention_norm",
    "post_attention_layernorm": "ffn_norm",
    "model.embed_tokens": "tok_embeddings",
    "model.norm": "norm",
    "lm_head": "output",
}


def params_of(config):
    params = {
        "dim": config["hidden_size"],
        "n_layers": config["num_hidden_layers"],
        "n_heads": config["num_attention_heads"],
        "n_kv_heads": config["num_key_value_heads"],
        "chains": config["chains"],
        "hidden_dim": config["intermediate_size"],
        "vocab_size": config["vocab_size"],
        "norm_eps": config["rms_norm_eps"],
        "rope_theta": config["rope_theta"],
        "max_seq_len": config["max_position_embeddings"],
        "kv_sharing": config["model_type"] == "colm_air",
    }
    scaling = config["rope_scaling"]
    if scaling is not None:
        params["rope_scaling_args"] = {
            "scaling_factor": scaling["factor"],
            **{name: value for name, value in scaling.items() if name not in ("factor", "rope_type")},
        }
    return params


def paper_tensors(config, weights):
    """The weights of the chain layout in the paper's conventions."""
    sizes = Sizes(config)
    dim, shared = sizes.head_dim, sizes.kv[0]

    def neighbors(matrix):
        """Rows j and j + dim / 2 of each head become rows 2j and 2j + 1."""
        return matrix.reshape(-1, 2, dim // 2, matrix.shape[1]).swapaxes(1, 2).reshape(matrix.shape)

    def tiled(matrix, heads):
        """Head rows ordered by the head they read become ordered by the member of the group that reads it."""
        groups = matrix.reshape(shared, heads // shared, dim, matrix.shape[1])
        return groups.swapaxes(0, 1).reshape(matrix.shape) if sizes.air else matrix

    tensors, dense = {}, {}
    for name, tensor in weights.items():
        stem, rest = name.split(".chains.")
        chain = int(rest.split(".")[0])
        layer, inner = "", stem
        if stem.startswith("model.layers."):
            _, _, number, inner = stem.split(".", 3)
            layer = f"layers.{number}."
        renamed = layer + PAPER_NAMES[inner]
        if inner not in PROJECTIONS:
            dense.setdefault(renamed, {})[chain] = tensor
            continue
        if inner == "self_attn.q_proj":
            tensor = tiled(neighbors(tensor), sizes.heads[chain])
        elif inner == "self_attn.k_proj":
            tensor = neighbors(tensor)
        elif inner == "self_attn.o_proj":
            ends = np.cumsum([heads * dim for heads in sizes.heads[:chain]])
            columns = np.split(tensor, ends, axis=1)
            tensor = np.hstack([tiled(part.T, sizes.heads[i]).T for i, part in enumerate(columns)])
        is_plain = sizes.air and inner in ("self_attn.k_proj", "self_attn.v_proj")
        tensors[f"{renamed}.weight" if is_plain else f"{renamed}.mlps.{chain}.weight"] = tensor
    for name, chains in dense.items():
        tensors[f"{name}.weight"] = np.concatenate([chains[i] for i in range(sizes.n)], axis=-1)
    return tensors
