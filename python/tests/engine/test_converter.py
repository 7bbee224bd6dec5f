"""The package against `colm-convert --with-python`."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer

from cases import ROOT, SHIPPED, load, run_without_the_package


@pytest.mark.parametrize("folder", SHIPPED, ids=lambda folder: folder.name)
def test_the_converter_writes_the_same_code(colm_bin: Path, colm_convert: Path, folder: Path, tmp_path: Path) -> None:
    """As save_pretrained. It works without the package, and the engine loads the folder."""
    grown, saved = tmp_path / "grown", tmp_path / "saved"
    flags = ["--chains", "1,1,1,1,1", "--init", "normal", "--with-python"]
    run = subprocess.run([colm_convert, "expand", folder, grown, *flags], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    model, tokenizer = load(grown, torch.float32), AutoTokenizer.from_pretrained(grown)
    model.save_pretrained(saved)
    code = {path.name: path.read_bytes() for path in grown.glob("*.py")}
    assert code == {path.name: path.read_bytes() for path in saved.glob("*.py")}
    fields = [json.loads((path / "config.json").read_text()) for path in (grown, saved)]
    assert fields[0]["auto_map"] == fields[1]["auto_map"]

    text = (ROOT / "examples" / "held_out.tsv").read_text()[:600]
    tokens = tokenizer(text, return_tensors="pt")["input_ids"]
    program = f"""
import torch
from transformers import AutoModelForCausalLM
model = AutoModelForCausalLM.from_pretrained("grown", trust_remote_code=True, dtype=torch.float32).eval()
tokens = torch.tensor({tokens.tolist()})
with torch.no_grad():
    torch.save(torch.stack([model(tokens, labels=tokens, chains=k).loss for k in range(1, 6)]), "losses.pt")
"""
    run_without_the_package(program, tmp_path)
    losses = torch.load(tmp_path / "losses.pt")
    with torch.no_grad():
        expected = [model(tokens, labels=tokens, chains=k).loss for k in range(1, 6)]
    torch.testing.assert_close(losses, torch.stack(expected), rtol=0, atol=1e-6)

    (tmp_path / "text.txt").write_text(text)
    command: list[str | Path] = [colm_bin, "perplexity", "-m", grown, "-f", tmp_path / "text.txt", "--json"]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    found = torch.tensor([row["nll"] for row in json.loads(run.stdout)])
    torch.testing.assert_close(found, losses, rtol=0, atol=2e-5)


@pytest.mark.parametrize("size", ["5GB", "1MB"])
def test_a_model_saved_into_its_own_folder_is_whole(colm_convert: Path, size: str, tmp_path: Path) -> None:
    """Its folder had one file per chain, and an index."""
    folder = tmp_path / "model"
    shutil.copytree(SHIPPED[1], folder)
    load(folder, torch.float32).save_pretrained(folder, max_shard_size=size)
    run = subprocess.run([colm_convert, "verify", folder], capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
