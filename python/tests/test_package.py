"""The package as a whole."""

import re

import colm
from cases import ROOT


def test_the_version_is_that_of_the_workspace() -> None:
    workspace = re.search(r'^version = "(.*)"$', (ROOT / "Cargo.toml").read_text(), re.MULTILINE)
    package = re.search(r'^version = "(.*)"$', (ROOT / "python" / "pyproject.toml").read_text(), re.MULTILINE)
    assert workspace is not None
    assert package is not None
    assert colm.__version__ == package[1] == workspace[1]
