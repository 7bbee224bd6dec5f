"""What save_pretrained leaves beside new weights: the code of the model, and no weights of an earlier save."""

import os
from pathlib import Path

from transformers import PreTrainedModel
from transformers.dynamic_module_utils import custom_object_save

#: The weights in one file, and the index of weights in several. A save writes one of the two.
_FILES = ("model.safetensors", "model.safetensors.index.json")

FileIdentity = tuple[int, int, int] | None


def package_class(model: PreTrainedModel) -> type[PreTrainedModel]:
    """The class that defines the model. FSDP2 gives its modules a class of its own, derived from that."""
    return next(one for one in type(model).__mro__ if one.__module__.partition(".")[0] != "torch")


def write_code(model: PreTrainedModel, folder: str | os.PathLike, writes: bool) -> None:
    """Writes the code of a model whose class is torch's, and the way to it in ``auto_map`` of the config.

    For other models transformers does this. Here it would copy torch's sources, which do not load a checkpoint; in
    version 4 all processes would, so each of them calls this, and the one that ``writes`` does.
    """
    defining = package_class(model)
    if defining is type(model) or defining._auto_class is None:
        return
    type(model)._auto_class = None
    if not writes:
        return
    os.makedirs(folder, exist_ok=True)
    # It reads nothing but the class of the object.
    custom_object_save(object.__new__(defining), folder, config=model.config)


def file_identities(folder: str | os.PathLike) -> dict[str, FileIdentity]:
    """Time, inode and size of each of `_FILES`, to tell which of them a save has written."""
    return {name: _file_identity(Path(folder) / name) for name in _FILES}


def remove_replaced(folder: str | os.PathLike, before: dict[str, FileIdentity]) -> None:
    """Removes the weight file or index that the save after ``before`` did not write, because it wrote the other one.

    transformers removes the files that a stale index names, but not the index; and it reads a stale single file in
    place of new ones in parts.
    """
    after = file_identities(folder)
    written = [name for name in _FILES if after[name] not in (None, before[name])]
    if len(written) == 1:
        (stale,) = set(_FILES) - set(written)
        (Path(folder) / stale).unlink(missing_ok=True)


def _file_identity(path: Path) -> FileIdentity:
    if not path.is_file():
        return None
    found = path.stat()
    return (found.st_mtime_ns, found.st_ino, found.st_size)
