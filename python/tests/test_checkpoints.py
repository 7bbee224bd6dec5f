"""Loading and saving: tensor names, files, and the code beside a checkpoint."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModel, AutoTokenizer

import colm
from cases import GOLDEN, SHIPPED, golden_cases, load, random_tokens, run_without_the_package, small_model


def tensors_in(folder: Path) -> dict[str, torch.Tensor]:
    return {name: value for file in folder.glob("model*.safetensors") for name, value in load_file(file).items()}


@pytest.mark.parametrize("case", golden_cases(), ids=lambda case: case.name)
def test_saving_what_was_loaded_gives_the_same_tensors(case: Path, tmp_path: Path) -> None:
    """Names, shapes and bits of docs/spec.md#tensors; tied heads are not saved."""
    load(case, torch.float32).save_pretrained(tmp_path)
    before, after = tensors_in(case), tensors_in(tmp_path)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_shards_load_again(tmp_path: Path) -> None:
    model = small_model().to(torch.float32)
    model.save_pretrained(tmp_path, max_shard_size="30KB")
    assert len(list(tmp_path.glob("model-*-of-*.safetensors"))) > 2
    again = load(tmp_path, torch.float32)
    assert type(again) is colm.ColmForCausalLM
    tokens = random_tokens(1, 5)
    with torch.no_grad():
        assert torch.equal(again(tokens).logits, model.eval()(tokens).logits)


def test_saving_into_a_folder_replaces_the_weights_there(tmp_path: Path) -> None:
    """From one file per chain to one file, to shards, and to one file again."""
    for name in ("config.json", "model.safetensors.index.json"):
        shutil.copy(SHIPPED[1] / name, tmp_path)
    for file in SHIPPED[1].glob("model-chain-*.safetensors"):
        shutil.copy(file, tmp_path)
    (tmp_path / "other.safetensors").touch()
    model, name = load(tmp_path, torch.float32), "model.norm.chains.0.weight"
    for step, size in enumerate(["5GB", "1MB", "5GB"]):
        with torch.no_grad():
            model.get_parameter(name).add_(1 + step)
        model.save_pretrained(tmp_path, max_shard_size=size)
        again = load(tmp_path, torch.float32)
        assert torch.equal(again.get_parameter(name), model.get_parameter(name))
        shards = len(list(tmp_path.glob("model-*.safetensors")))
        names = {path.name for path in tmp_path.glob("model.safetensors*")}
        assert names == {"model.safetensors.index.json" if size == "1MB" else "model.safetensors"}
        assert (shards > 1) == (size == "1MB")
    assert (tmp_path / "other.safetensors").exists(), "no file of this model"


def test_the_backbone_loads_from_a_language_model() -> None:
    whole = load(SHIPPED[1], torch.float32)
    backbone = AutoModel.from_pretrained(SHIPPED[1], dtype=torch.float32).eval()
    assert type(backbone) is colm.ColmAirModel
    tokens = random_tokens(1, 5)
    with torch.no_grad():
        assert torch.equal(backbone(tokens).last_hidden_state, whole.model(tokens).last_hidden_state)


def test_the_dense_layout_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"tensors of the dense layout, such as lm_head\.weight; expected the chain"):
        load(GOLDEN / "colm-widths-dense")


def test_missing_and_unknown_tensors_are_refused(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    small_model().to(torch.float32).save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    tensors["model.norm.chains.3.weight"] = tensors.pop("model.norm.chains.2.weight")
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    message = r"misses 1 tensors \(model.norm.chains.2.weight\) and has unknown 1 tensors \(model.norm.chains.3.weight"
    with pytest.raises(ValueError, match=message):
        load(tmp_path, torch.float32)


def test_a_head_of_its_own_in_a_tied_model_is_refused(tmp_path: Path) -> None:
    small_model().to(torch.float32).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"tie_word_embeddings": True}))
    with pytest.raises(ValueError, match=r"has lm_head\.chains\.0\.weight, and config.json has tie_word_embeddings"):
        load(tmp_path, torch.float32)


@pytest.mark.parametrize("folder", SHIPPED, ids=lambda folder: folder.name)
def test_the_shipped_models_answer(folder: Path) -> None:
    """An answer that both models know at every k; tests/engine compares more of them with the engine."""
    model, tokenizer = load(folder, torch.float32), AutoTokenizer.from_pretrained(folder)
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Reverse: blue fox river"}], add_generation_prompt=True, return_tensors="pt"
    )
    prompt = prompt if isinstance(prompt, torch.Tensor) else prompt["input_ids"]
    for k in (2, 3, 4):
        answer = model.generate(prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=16, chains=k)
        assert tokenizer.decode(answer[0, prompt.shape[1] :], skip_special_tokens=True) == "river fox blue"


@pytest.mark.parametrize("air", [False, True], ids=["colm", "air"])
def test_the_code_beside_a_checkpoint_works_without_the_package(air: bool, tmp_path: Path) -> None:
    """Another process that cannot import colm gives the same logits, and saves a checkpoint with the code again."""
    saved, again = tmp_path / "saved", tmp_path / "again"
    model = small_model(air).to(torch.float32).eval()
    model.save_pretrained(saved)
    code = {path.name: path.read_bytes() for path in saved.glob("*.py")}
    assert {"configuration_colm.py", "modeling_colm.py", "chain_layers.py"} <= code.keys()
    program = f"""
import torch
from transformers import AutoModel, AutoModelForCausalLM
loading = dict(trust_remote_code=True, dtype=torch.float32)
model = AutoModelForCausalLM.from_pretrained("saved", **loading).eval()
backbone = AutoModel.from_pretrained("saved", **loading).eval()
tokens = torch.tensor({random_tokens(1, 5).tolist()})
torch.save(model(tokens, chains=2).logits.detach(), "logits.pt")
assert torch.equal(backbone(tokens).last_hidden_state, model.model(tokens).last_hidden_state)
model.generate(tokens, max_new_tokens=2, chains=1)
model.save_pretrained("again")
"""
    run_without_the_package(program, tmp_path)
    with torch.no_grad():
        expected = model(random_tokens(1, 5), chains=2).logits
    torch.testing.assert_close(torch.load(tmp_path / "logits.pt"), expected)
    assert {path.name: path.read_bytes() for path in again.glob("*.py")} == code
    classes = "ColmAir" if air else "Colm"
    for folder in (saved, again):
        assert json.loads((folder / "config.json").read_text())["auto_map"] == {
            "AutoConfig": f"configuration_colm.{classes}Config",
            "AutoModel": f"backbone.{classes}Model",
            "AutoModelForCausalLM": f"modeling_colm.{classes}ForCausalLM",
        }


def test_resized_embeddings_are_saved_and_keep_the_old_logits(tmp_path: Path) -> None:
    for tied in (False, True):
        model = small_model(tie_word_embeddings=tied).to(torch.float32).eval()
        tokens = random_tokens(1, 5)
        with torch.no_grad():
            before = model(tokens).logits
            model.resize_token_embeddings(70)
            after = model(tokens).logits
        assert after.shape[-1] == model.config.vocab_size == 70
        assert [head.out_features for head in model.lm_head.chains] == [70, 70, 70]
        torch.testing.assert_close(after[..., :61], before)
        model.save_pretrained(tmp_path / str(tied))
        with torch.no_grad():
            torch.testing.assert_close(load(tmp_path / str(tied), torch.float32)(tokens).logits, after)
