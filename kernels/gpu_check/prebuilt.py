"""The compiled files that are copied to a machine with a GPU, and how large they and the results may be.

`pack` writes them to target/gpu_day/PART, stripped and compressed; `day PART` unpacks them. PART is `first` or
`second`, and `first.twin` or `second.twin` for a rehearsal on the twin, on this machine.
"""

import json
import lzma
import shutil
import subprocess
from pathlib import Path

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent.parent
PACKED = REPOSITORY / "target" / "gpu_day"

MIB = 1 << 20
# The working tree and the packed files of one part, together: small enough for a slow connection.
COPIED_LIMIT = 62 * MIB
# The results.
FILES_LIMIT, FILE_LIMIT, DEPTH_LIMIT = 8, 16 * MIB, 2

PARTS = ["first", "second"]
# The parts that use each file, by the name of the packed file without its suffixes.
USERS = {
    "libcolm_kernels": PARTS,
    "candle_tests": ["first"],
    "engine_tests": ["first"],
    "colm": ["second"],
}


def folder_of(part, twin):
    return f"{part}.twin" if twin else part


def pack(path, name, twin=False):
    """Writes NAME.xz for the parts that use it, and prints its sizes. `name` begins with a key of USERS."""
    stripped = PACKED / "stripped"
    PACKED.mkdir(parents=True, exist_ok=True)
    subprocess.run(["strip", "-o", stripped, path], check=True)
    compressed = lzma.compress(stripped.read_bytes(), preset=6)
    print(f"{name}: {stripped.stat().st_size / MIB:.1f} MiB stripped, {len(compressed) / MIB:.1f} MiB compressed")
    stripped.unlink()
    for part in USERS[name.partition(".")[0]]:
        folder = PACKED / folder_of(part, twin)
        folder.mkdir(exist_ok=True)
        (folder / f"{name}.xz").write_bytes(compressed)


def unpack(folder, target):
    """Unpacks every file of `folder` to `target`. Returns the paths by name; a damaged file is left out."""
    unpacked = {}
    for packed in sorted(Path(folder).glob("*.xz")):
        path = Path(target) / packed.stem
        try:
            with lzma.open(packed) as source, open(path, "wb") as file:
                shutil.copyfileobj(source, file)
        except (lzma.LZMAError, EOFError) as error:
            print(f"{packed.name}: {error}")
            continue
        path.chmod(0o755)
        unpacked[packed.stem] = path
    return unpacked


def write_built_from(commit):
    """Says beside the packed files what they were built from."""
    for folder in [PACKED / folder_of(part, twin) for part in PARTS for twin in (False, True)]:
        if folder.exists():
            record = {"commit": commit, "repository": str(REPOSITORY)}
            (folder / "built_from.json").write_text(json.dumps(record) + "\n")


def built_from(folder):
    """`commit` and `repository` of the files of `folder`, each empty if it is not known."""
    path = Path(folder) / "built_from.json"
    unknown = {"commit": "", "repository": ""}
    return unknown | json.loads(path.read_text()) if path.exists() else unknown


def link_repository(folder):
    """Test binaries contain the path of the repository they were built in. Where that does not exist, it becomes a
    link to this one. Returns why that failed, or nothing."""
    built_in = built_from(folder)["repository"]
    if not built_in or Path(built_in).exists():
        return ""
    try:
        Path(built_in).parent.mkdir(parents=True, exist_ok=True)
        Path(built_in).symlink_to(REPOSITORY)
    except OSError as error:
        return f"the tests look for their files in {built_in}: {error}"
    return ""


def working_tree_bytes():
    """The size of the files that git tracks or would add."""
    listed = subprocess.run(
        ["git", "-C", REPOSITORY, "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        capture_output=True, check=True).stdout.split(b"\0")
    paths = {REPOSITORY / name.decode() for name in listed if name}
    return sum(path.stat().st_size for path in paths if path.is_file())


def check_copied(part, folder=None):
    """Raises an error with the sizes if the files of a part and the working tree are too large together."""
    folder = Path(folder or PACKED / part)
    files = {path.name: path.stat().st_size for path in sorted(folder.glob("*"))}
    tree = working_tree_bytes()
    total = tree + sum(files.values())
    listed = ", ".join(f"{name} {size / MIB:.1f}" for name, size in files.items())
    text = f"{part}: working tree {tree / MIB:.1f}, {listed or 'nothing packed'}: {total / MIB:.1f} MiB"
    if total > COPIED_LIMIT:
        raise SystemExit(f"{text}, more than {COPIED_LIMIT / MIB:.0f}")
    return text


def check_results(out):
    """A list of what is wrong with the files of `out`."""
    wrong = []
    files = [path for path in Path(out).rglob("*") if path.is_file()]
    if len(files) > FILES_LIMIT:
        wrong.append(f"{len(files)} files, more than {FILES_LIMIT}")
    for path in files:
        name = path.relative_to(out)
        if path.stat().st_size > FILE_LIMIT:
            wrong.append(f"{name} has {path.stat().st_size} bytes")
        if len(name.parts) > DEPTH_LIMIT + 1:
            wrong.append(f"{name} is too deep")
        if not all(c.isascii() and (c.isalnum() or c in "._-/") for c in str(name)):
            wrong.append(f"{name} has an odd name")
    return wrong
