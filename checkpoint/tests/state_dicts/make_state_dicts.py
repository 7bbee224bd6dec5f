"""Writes PyTorch files to the folder of this script, for tests/reading/state_dicts.rs.

Every value encodes its position: 1 + 32 * row + column. Run with any PyTorch since 2.1; written with 2.5.1, and
negative.bin with 2.15.0.
"""

import json
import shutil
from collections import OrderedDict
from pathlib import Path

import torch

HERE = Path(__file__).parent
CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": 6,
    "hidden_size": 8,
    "intermediate_size": 6,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 16,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": True,
    "torch_dtype": "float32",
}
LAYER = "model.layers.0."


def places(rows, columns=None):
    values = 1 + 32 * torch.arange(rows, dtype=torch.float32)
    return values if columns is None else values[:, None] + torch.arange(columns)


def contiguous():
    return OrderedDict(
        {
            "model.embed_tokens.weight": places(6, 8),
            LAYER + "input_layernorm.weight": places(8),
            LAYER + "post_attention_layernorm.weight": places(8),
            LAYER + "self_attn.q_proj.weight": places(8, 8),
            LAYER + "self_attn.k_proj.weight": places(4, 8),
            LAYER + "self_attn.v_proj.weight": places(4, 8),
            LAYER + "self_attn.o_proj.weight": places(8, 8),
            LAYER + "mlp.gate_proj.weight": places(6, 8),
            LAYER + "mlp.up_proj.weight": places(6, 8),
            LAYER + "mlp.down_proj.weight": places(8, 6),
            "model.norm.weight": places(8),
        }
    )


def strided():
    """The same values, with other offsets and strides."""
    tensors = contiguous()

    def transposed(name):
        tensors[name] = tensors[name].t().contiguous().t()

    transposed(LAYER + "self_attn.q_proj.weight")
    transposed(LAYER + "mlp.down_proj.weight")
    # A tied head shares the storage of the embedding.
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].detach()
    # Two tensors in one storage, the second at an offset.
    k_and_v = torch.cat([places(4, 8), places(4, 8)])
    tensors[LAYER + "self_attn.k_proj.weight"] = k_and_v[:4]
    tensors[LAYER + "self_attn.v_proj.weight"] = k_and_v[4:]
    # Some columns of a wider matrix, and every third element of a vector.
    wide = torch.full((6, 11), -1.0)
    wide[:, 2:10] = places(6, 8)
    tensors[LAYER + "mlp.gate_proj.weight"] = wide[:, 2:10]
    spread = torch.full((24,), -1.0)
    spread[1::3] = places(8)
    tensors["model.norm.weight"] = spread[1::3]
    # As nn.Module.state_dict(keep_vars=True) has them, and in half precision.
    tensors[LAYER + "mlp.up_proj.weight"] = torch.nn.Parameter(places(6, 8).bfloat16())
    tensors[LAYER + "input_layernorm.weight"] = places(8).half()
    tensors._metadata = OrderedDict({"": {"version": 1}})
    return tensors


def folder(name):
    path = HERE / name
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir()
    (path / "config.json").write_text(json.dumps(CONFIG, indent=2) + "\n")
    return path


def main():
    torch.save(strided(), folder("strided") / "pytorch_model.bin")

    sharded = folder("sharded")
    weight_map = {}
    names = list(contiguous())
    for shard, part in enumerate([names[:4], names[4:]], start=1):
        file = f"pytorch_model-{shard:05}-of-00002.bin"
        torch.save({name: contiguous()[name] for name in part}, sharded / file)
        weight_map.update({name: file for name in part})
    index = {"metadata": {"total_size": 0}, "weight_map": weight_map}
    (sharded / "pytorch_model.bin.index.json").write_text(json.dumps(index, indent=2) + "\n")

    # Errors: PyTorch before 1.6 wrote no archive, and float64 is not a dtype of a checkpoint.
    torch.save(contiguous(), HERE / "before_1_6.bin", _use_new_zipfile_serialization=False)
    torch.save({"model.norm.weight": places(8).double()}, HERE / "float64.bin")
    torch.save({"model": contiguous()}, HERE / "nested.bin")
    # A view whose values are those of the file times -1.
    torch.save({"model.norm.weight": torch._neg_view(places(8))}, HERE / "negative.bin")


if __name__ == "__main__":
    main()
