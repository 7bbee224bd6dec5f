"""The package as a whole."""

import contextlib
import io
import re
from pathlib import Path

import pytest

import colm
from cases import ROOT


def test_the_version_is_that_of_the_workspace() -> None:
    workspace = re.search(r'^version = "(.*)"$', (ROOT / "Cargo.toml").read_text(), re.MULTILINE)
    package = re.search(r'^version = "(.*)"$', (ROOT / "python" / "pyproject.toml").read_text(), re.MULTILINE)
    assert workspace is not None
    assert package is not None
    assert colm.__version__ == package[1] == workspace[1]


def test_the_examples_of_the_documentation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The Python blocks of docs/python.md, one after another, print what the text blocks after them say."""
    (tmp_path / "models").symlink_to(ROOT / "models")
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```(python|text)\n(.*?)```", (ROOT / "docs" / "python.md").read_text(), re.DOTALL)
    assert [kind for kind, _ in blocks] == ["python", "text", "python", "text", "python"]
    variables: dict[str, object] = {}
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        for kind, code in blocks:
            if kind == "python":
                exec(code, variables)
    assert printed.getvalue() == "".join(text for kind, text in blocks if kind == "text")
    assert (tmp_path / "target" / "trained" / "config.json").is_file()
