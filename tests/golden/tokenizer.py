"""The tokenizer of all golden cases."""

from cases import VOCAB
from files import json_bytes


def byte_letters():
    """GPT-2's printable stand-ins for the 256 bytes, as the ByteLevel pre-tokenizer writes them."""
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAC + 1), *range(0xAE, 0xFF + 1)]
    letters, unprintable = {}, 0
    for byte in range(256):
        if byte in printable:
            letters[byte] = chr(byte)
        else:
            letters[byte] = chr(256 + unprintable)
            unprintable += 1
    return letters


def tokenizer_files():
    """Byte-level BPE without merges over 59 characters; 0 is the end of a text."""
    letters = byte_letters()
    alphabet = " \nabcdefghijklmnopqrstuvwxyz0123456789.,:;!?'\"()+-*/=<>ABCD"
    end = {"content": "<|end|>", "lstrip": False, "normalized": False, "rstrip": False, "single_word": False}
    vocab = {end["content"]: 0}
    for character in alphabet:
        vocab[letters[ord(character)]] = len(vocab)
    vocab["<|unknown|>"] = len(vocab)
    assert len(vocab) == VOCAB, len(vocab)
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    tokenizer = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": 0, **end, "special": True}],
        "normalizer": None,
        "pre_tokenizer": byte_level,
        "post_processor": None,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": "<|unknown|>",
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": vocab,
            "merges": [],
        },
    }
    tokenizer_config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "add_bos_token": False,
        "add_eos_token": False,
        "bos_token": end["content"],
        "eos_token": end["content"],
        "unk_token": "<|unknown|>",
        "model_max_length": 64,
        "chat_template": "{% for message in messages %}{{ message['role'] + ': ' + message['content'] + '\n' }}"
        "{% endfor %}{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}",
    }
    return {"tokenizer.json": json_bytes(tokenizer), "tokenizer_config.json": json_bytes(tokenizer_config)}
