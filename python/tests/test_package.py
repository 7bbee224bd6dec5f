"""The package as a whole."""

import contextlib
import io
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tomllib
from packaging.requirements import Requirement

import colm
from cases import ROOT


def test_the_version_is_that_of_the_workspace() -> None:
    workspace = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"]["version"]
    assert colm.__version__ == project("python")["version"] == workspace


def project(folder: str) -> dict[str, Any]:
    """The metadata in the pyproject.toml of a folder of the repository."""
    return tomllib.loads((ROOT / folder / "pyproject.toml").read_text())["project"]


def test_both_builds_have_the_same_metadata() -> None:
    """The package alone (python/pyproject.toml), and with the programs (pyproject.toml, `make wheel`)."""
    alone, with_programs = project("python"), project("")
    # maturin takes it from Cargo.toml.
    assert with_programs.pop("dynamic") == ["version"]
    del alone["version"], with_programs["license-files"]
    assert alone == with_programs


def test_the_programs_come_without_torch() -> None:
    """All dependencies are in the extra, and allow the versions that are tested."""
    assert "dependencies" not in project("")
    extra = [Requirement(line) for line in project("")["optional-dependencies"]["train"]]
    for file in ("requirements-test.txt", "requirements-test-4.txt"):
        lines = (ROOT / "python" / file).read_text().splitlines()
        pinned = {one.name: next(iter(one.specifier)).version for one in map(Requirement, lines)}
        for requirement in extra:
            assert requirement.specifier.contains(pinned[requirement.name]), (file, str(requirement))


@pytest.mark.parametrize("missing", ["torch", "transformers"])
def test_without_the_extra_the_import_says_what_to_install(missing: str) -> None:
    program = f"import sys\nsys.modules[{missing!r}] = None\nimport colm"
    command = [sys.executable, "-c", program]
    run = subprocess.run(command, cwd=ROOT / "python" / "src", capture_output=True, text=True)
    assert run.returncode == 1
    expected = f"ModuleNotFoundError: the Python package colm needs {missing}; `pip install {missing}` installs it"
    assert run.stderr.splitlines()[-1] == expected


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
