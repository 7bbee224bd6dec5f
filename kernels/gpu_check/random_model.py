"""Writes a CoLM-Air folder of four equal chains with random weights, in bf16 and the chain layout
(docs/spec.md#chain-layout)."""

import ctypes
import json
import shutil
from pathlib import Path

import torch

from chain_model import weight
from prebuilt import REPOSITORY
from timing import DEVICE

CHAINS = 4
TOKENIZER = REPOSITORY / "models" / "tiny-colm-air"


def config(shape):
    return {
        "architectures": ["CoLMAirForCausalLM"], "model_type": "colm_air", "chains": [1] * CHAINS,
        "vocab_size": shape.vocabulary, "hidden_size": shape.hidden, "intermediate_size": shape.intermediate,
        "num_hidden_layers": shape.layers, "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads, "head_dim": shape.head_dim, "rope_theta": shape.theta,
        "max_position_embeddings": 131072, "rms_norm_eps": 1e-5, "tie_word_embeddings": True,
        "torch_dtype": "bfloat16",
    }


def tensors(shape, chain):
    """Names and shapes of what chain `chain`, counted from 0, owns."""
    part = lambda width: width // CHAINS
    read = lambda width: part(width) * (chain + 1)
    hidden, inner = shape.hidden, shape.intermediate
    norm = (part(hidden),)
    yield f"model.embed_tokens.chains.{chain}.weight", (shape.vocabulary, part(hidden))
    yield f"model.norm.chains.{chain}.weight", norm
    shapes = {
        "input_layernorm": norm, "post_attention_layernorm": norm,
        "self_attn.q_proj": (part(hidden), read(hidden)), "self_attn.o_proj": (part(hidden), read(hidden)),
        "mlp.gate_proj": (part(inner), read(hidden)), "mlp.up_proj": (part(inner), read(hidden)),
        "mlp.down_proj": (part(hidden), read(inner)),
    }
    if chain == 0:
        kv = (shape.kv_heads * shape.head_dim, part(hidden))
        shapes |= {"self_attn.k_proj": kv, "self_attn.v_proj": kv}
    for layer in range(shape.layers):
        for name, tensor_shape in shapes.items():
            yield f"model.layers.{layer}.{name}.chains.{chain}.weight", tensor_shape


def random_tensor(name, shape):
    if "norm" in name:
        return torch.ones(shape, dtype=torch.bfloat16)
    return weight(DEVICE, *shape).cpu()


def write_safetensors(path, named_shapes):
    header, end = {}, 0
    for name, shape in named_shapes:
        size = 2 * torch.Size(shape).numel()
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name, shape in named_shapes:
            tensor = random_tensor(name, shape)
            file.write(ctypes.string_at(tensor.data_ptr(), 2 * tensor.numel()))


def write_tokenizer(folder, vocabulary):
    """A shipped tokenizer, with words added up to the size of the vocabulary."""
    shutil.copy(TOKENIZER / "tokenizer_config.json", folder / "tokenizer_config.json")
    tokenizer = json.loads((TOKENIZER / "tokenizer.json").read_text())
    used = set(tokenizer["model"]["vocab"].values())
    used |= {token["id"] for token in tokenizer.get("added_tokens", [])}
    tokenizer["model"]["vocab"] |= {f"<w{number}>": number for number in range(vocabulary) if number not in used}
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))


def write(folder, shape):
    folder = Path(folder)
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config(shape)))
    write_tokenizer(folder, shape.vocabulary)
    files = {}
    for chain in range(CHAINS):
        file = f"model-chain-{chain + 1:05}-of-{CHAINS:05}.safetensors"
        named_shapes = list(tensors(shape, chain))
        write_safetensors(folder / file, named_shapes)
        files |= {name: file for name, _ in named_shapes}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": files}))
