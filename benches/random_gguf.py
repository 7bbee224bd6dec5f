"""Writes Llama and Qwen2 models with random weights as GGUF files.

    python random_gguf.py check          prints the version of llama-cpp-python, or fails
    python random_gguf.py write JSON     {"path": ..., "config": Llama's config.json, "weights": "q8_0",
                                          "tokenizer": a tokenizer.json of single characters, or null}
"""

import json
import os
import sys

import gguf
import llama_cpp
import numpy

FTYPES = {
    "bf16": llama_cpp.LLAMA_FTYPE_MOSTLY_BF16,
    "q8_0": llama_cpp.LLAMA_FTYPE_MOSTLY_Q8_0,
    "q4k": llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_K_S,
}


def tensors(config):
    """Names and shapes of the tensors in llama.cpp, rows first."""
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    head_dim = hidden // config["num_attention_heads"]
    kv = config["num_key_value_heads"] * head_dim
    yield "token_embd.weight", (config["vocab_size"], hidden)
    for layer in range(config["num_hidden_layers"]):
        shapes = {
            "attn_norm": (hidden,),
            "attn_q": (hidden, hidden),
            "attn_k": (kv, hidden),
            "attn_v": (kv, hidden),
            "attn_output": (hidden, hidden),
            "ffn_norm": (hidden,),
            "ffn_gate": (inner, hidden),
            "ffn_up": (inner, hidden),
            "ffn_down": (hidden, inner),
        }
        for name, shape in shapes.items():
            yield f"blk.{layer}.{name}.weight", shape
            if config["attention_bias"] and name in ("attn_q", "attn_k", "attn_v"):
                yield f"blk.{layer}.{name}.bias", shape[:1]
    yield "output_norm.weight", (hidden,)
    if not config["tie_word_embeddings"]:
        yield "output.weight", (config["vocab_size"], hidden)


def random_tensor(name, shape, random):
    """Values of a scale at which activations stay near one and the largest logit is clearly the largest."""
    values = random.random(shape, dtype=numpy.float32) * 2 - 1
    if "norm" in name:
        return 1 + values * numpy.float32(0.1)
    if name.endswith("bias"):
        return values * numpy.float32(0.5)
    spread = 1.7 if "embd" in name else (3 if name == "output.weight" else 1.7) / shape[-1] ** 0.5
    return values * numpy.float32(spread)


def add_vocabulary(writer, path):
    """The tokens of a tokenizer.json without merges. Token 0 ends a text."""
    with open(path) as file:
        vocabulary = json.load(file)["model"]["vocab"]
    tokens = sorted(vocabulary, key=vocabulary.get)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types([gguf.TokenType.CONTROL] + [gguf.TokenType.NORMAL] * (len(tokens) - 1))
    # llama.cpp asks for at least one. The prompts have no capital letters.
    writer.add_token_merges(["A B"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(0)
    writer.add_add_bos_token(False)


def write_f32(path, config, tokenizer):
    # Qwen2 is a Llama with biases of q, k and v.
    writer = gguf.GGUFWriter(path, "qwen2" if config["attention_bias"] else "llama")
    writer.add_vocab_size(config["vocab_size"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_rope_dimension_count(config["hidden_size"] // config["num_attention_heads"])
    writer.add_rope_freq_base(config["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    if tokenizer:
        add_vocabulary(writer, tokenizer)
    else:
        writer.add_tokenizer_model("none")
    for name, shape in tensors(config):
        size = 4 * int(numpy.prod(shape))
        writer.add_tensor_info(name, shape, numpy.dtype(numpy.float32), size)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    random = numpy.random.default_rng(0)
    for name, shape in tensors(config):
        values = random_tensor(name, shape, random)
        if tokenizer and name == "output.weight":
            # The largest logit is positive, so no greedy answer ends early.
            values[0] = 0
        writer.write_tensor_data(values)
    writer.close()


def write(path, config, weights, tokenizer=None):
    """Writes the model; quantized weights by llama.cpp's own quantization, all matrices in the same type."""
    if weights == "f32":
        return write_f32(path, config, tokenizer)
    f32 = path + ".f32"
    write_f32(f32, config, tokenizer)
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype = FTYPES[weights]
    params.pure = True
    failed = llama_cpp.llama_model_quantize(f32.encode(), path.encode(), params)
    os.remove(f32)
    if failed:
        sys.exit(f"llama_model_quantize to {weights} failed with {failed}")


if __name__ == "__main__":
    if sys.argv[1] == "check":
        system = llama_cpp.llama_print_system_info().decode().strip(" |")
        print(f"llama-cpp-python {llama_cpp.__version__}, {system}")
    else:
        write(**json.loads(sys.argv[2]))
