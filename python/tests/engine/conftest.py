"""The programs to compare with."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def colm_bin() -> Path:
    """The program `colm`, from the environment variable COLM_BIN, which `make python-test` sets."""
    path = os.environ.get("COLM_BIN")
    if path is None or not Path(path).is_file():
        pytest.fail(f"COLM_BIN = {path}; expected the path of the program colm, as `make python-test` sets it")
    return Path(path)


@pytest.fixture(scope="session")
def colm_convert(colm_bin: Path) -> Path:
    """The program `colm-convert`, beside `colm`."""
    return colm_bin.with_name("colm-convert")
