"""The wheel of `make wheel`, installed in the virtual environment of this Python without other packages.

The argument is the wheel. Both programs must run, and `import colm` must say what to install.
"""

import re
import subprocess
import sys
import tempfile
import zipfile
from email.parser import Parser
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROGRAMS = Path(sys.executable).parent
MODEL = ROOT / "models/tiny-colm-air"


def run(*command):
    # Not in the root of the repository, so that nothing but the wheel is imported.
    with tempfile.TemporaryDirectory() as folder:
        return subprocess.run(command, cwd=folder, capture_output=True, text=True)


def printed(*command):
    done = run(*command)
    assert done.returncode == 0, done.stderr
    return done.stdout


def check_contents(wheel):
    """The files, and that they need no newer glibc than the tag says. maturin checks `colm` alone."""
    tag = re.match(r"colm-[0-9.]+-py3-none-(?:manylinux_(\d+)_(\d+)|linux)_", wheel.name)
    assert tag, wheel.name
    provided = tag[1] and (int(tag[1]), int(tag[2]))
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        scripts = {Path(name).name: name for name in names if ".data/scripts/" in name}
        assert scripts.keys() == {"colm", "colm-convert"}, scripts
        modules = {path.name for path in (ROOT / "python/src/colm").iterdir() if path.is_file()}
        assert {Path(name).name for name in names if name.startswith("colm/")} == modules
        (metadata,) = (name for name in names if name.endswith(".dist-info/METADATA"))
        requirements = Parser().parsestr(archive.read(metadata).decode()).get_all("Requires-Dist")
        assert requirements and all("extra == 'train'" in one.replace('"', "'") for one in requirements), requirements
        for script in scripts.values():
            needed = re.findall(rb"GLIBC_(\d+)\.(\d+)", archive.read(script))
            newest = max((int(major), int(minor)) for major, minor in needed)
            assert provided is None or newest <= provided, (script, newest, wheel.name)


def check_programs():
    answer = printed(PROGRAMS / "colm", "run", "-m", MODEL, "--chains", "4", "-i", "Sort 93 3 71 18.")
    assert answer.strip() == "3 18 71 93", answer
    costs = printed(PROGRAMS / "colm-convert", "inspect", MODEL)
    assert costs.startswith("CoLMAirForCausalLM, chains [1, 1, 1, 1]\n"), costs


def check_import():
    done = run(sys.executable, "-c", "import colm")
    said = done.stderr.splitlines()[-1]
    expected = "ModuleNotFoundError: the Python package colm needs torch; `pip install 'colm[train]'` installs it"
    assert done.returncode == 1 and said == expected, done.stderr


def main():
    (wheel,) = map(Path, sys.argv[1:])
    check_contents(wheel)
    check_programs()
    check_import()
    print(f"{wheel.name}: {wheel.stat().st_size / 1e6:.0f} MB, both programs run")


if __name__ == "__main__":
    main()
