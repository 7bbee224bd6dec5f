"""English prose from Debian's documentation packages.

Needs apt-get, dpkg-deb and Debian 12. Nothing of the text is committed: the packages are downloaded, and their
licenses (`PACKAGES`) apply.
"""

import gzip
import hashlib
import json
import re
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from lxml import etree, html
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

#: Package, license, and the files under /usr/share that have English prose.
PACKAGES = [
    ("apache2-doc", "Apache-2.0", "doc/apache2-doc/**/*.html"),
    ("cinder-doc", "Apache-2.0", "doc/cinder-doc/**/*.html"),
    ("debian-reference-en", "GPL-2+", "debian-reference/*.en.html"),
    ("dict-foldoc", "GFDL-1.2+", "dictd/foldoc.dict.dz"),
    ("dict-gcide", "GPL-3+", "dictd/gcide.dict.dz"),
    ("dict-jargon", "public domain", "dictd/jargon.dict.dz"),
    ("git-doc", "GPL-2", "doc/git-doc/**/*.html"),
    ("gnome-user-docs", "CC-BY-SA-3.0", "help/C/**/*.page"),
    ("libreoffice-help-en-us", "MPL-2.0", "libreoffice/help/en-US/**/*.html"),
    ("linux-doc-6.1", "GPL-2", "doc/linux-doc-6.1/html/**/*.html"),
    ("neutron-doc", "Apache-2.0", "doc/neutron-doc/**/*.html"),
    ("nova-doc", "Apache-2.0", "doc/nova-doc/**/*.html"),
    ("postgresql-doc-15", "PostgreSQL", "doc/postgresql-doc-15/**/*.html"),
    ("python-django-doc", "BSD-3-Clause", "doc/python-django-doc/**/*.html"),
    ("python3.11-doc", "PSF-2", "doc/python3.11/html/**/*.html"),
    ("sqlite3-doc", "public domain", "doc/sqlite3/**/*.html"),
]

#: Shorter paragraphs are menus and captions.
SHORTEST = 60
#: One document in this many is held out.
HELD_OUT = 100
#: The elements that may hold a paragraph, and those in which it is code.
PARAGRAPHS = {"p", "li", "dd"}
BLOCKS = {"p", "ul", "ol", "dl", "li", "table", "pre"}

END_OF_TEXT = "<|endoftext|>"


def make(folder: Path, vocab_size: int) -> dict[str, Any]:
    """Writes train.jsonl, validation.jsonl and a tokenizer into ``folder``, once. Returns what they contain."""
    facts = folder / "corpus.json"
    if not facts.exists():
        folder.mkdir(parents=True, exist_ok=True)
        found = _write_documents(folder)
        found |= _write_tokenizer(folder, vocab_size)
        facts.write_text(json.dumps(found, indent=1))
    return json.loads(facts.read_text())


def documents(file: Path) -> list[str]:
    """The documents of train.jsonl or validation.jsonl."""
    with file.open(encoding="utf-8") as lines:
        return [json.loads(line)["text"] for line in lines]


def _write_documents(folder: Path) -> dict[str, Any]:
    """Each file of a package is a document. A paragraph that has occurred before is left out."""
    seen: set[bytes] = set()
    packages = []
    total = {"train": 0, "validation": 0}
    with (folder / "train.jsonl").open("w") as train, (folder / "validation.jsonl").open("w") as validation:
        for name, terms, pattern in PACKAGES:
            root = _unpacked(folder / "packages", name)
            size = 0
            for document_name, paragraphs in _read(root / "usr" / "share", pattern):
                text = "\n".join(_new(paragraphs, seen))
                if not text:
                    continue
                held_out = int.from_bytes(_hash(document_name)[:2], "big") % HELD_OUT == 0
                kind = "validation" if held_out else "train"
                line = json.dumps({"text": text, "document": document_name}, ensure_ascii=False)
                print(line, file=validation if held_out else train)
                total[kind] += len(text.encode())
                size += len(text.encode())
            packages.append({"package": name, "license": terms, "megabytes": round(size / 1e6, 2)})
    return {"packages": packages, "train_bytes": total["train"], "validation_bytes": total["validation"]}


def _unpacked(folder: Path, package: str) -> Path:
    root = folder / package
    if not root.exists():
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run(["apt-get", "download", "-qq", package], cwd=folder, check=True)
        (archive,) = folder.glob(f"{package}_*.deb")
        partial = folder / f"{package}.partial"
        subprocess.run(["dpkg-deb", "-x", archive, partial], check=True)
        partial.rename(root)
    return root


def _read(root: Path, pattern: str) -> Iterator[tuple[str, Iterable[str]]]:
    """Names and paragraphs of the documents whose files fit ``pattern``."""
    for path in sorted(root.glob(pattern)):
        name = str(path.relative_to(root))
        if path.is_symlink():
            continue
        if path.suffix == ".dz":
            # A dictionary. Its entries follow each other without a gap, so that pieces of it are the documents.
            entries = re.split(r"\n(?=\S)", gzip.decompress(path.read_bytes()).decode("utf-8", "replace"))
            for start in range(0, len(entries), 1000):
                yield f"{name}#{start}", entries[start : start + 1000]
        else:
            yield name, _marked_up(path)


def _marked_up(path: Path) -> Iterator[str]:
    """The paragraphs of an HTML page, or of one of GNOME's help pages, which are XML."""
    parse = html.fromstring if path.suffix == ".html" else etree.fromstring
    for element in parse(path.read_bytes()).iter(etree.Element):
        inner = {_tag(child) for child in element}
        if _tag(element) in PARAGRAPHS and not inner & BLOCKS:
            yield "".join(element.itertext())


def _tag(element: Any) -> str:
    return element.tag.rpartition("}")[2] if isinstance(element.tag, str) else ""


def _new(paragraphs: Iterable[str], seen: set[bytes]) -> Iterator[str]:
    for paragraph in paragraphs:
        text = re.sub(r"\s+", " ", paragraph).strip()
        key = _hash(text)
        if len(text) >= SHORTEST and key not in seen:
            seen.add(key)
            yield text


def _hash(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=12).digest()


def _write_tokenizer(folder: Path, vocab_size: int) -> dict[str, Any]:
    """A byte-level BPE, trained on the documents that are not held out."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    train = documents(folder / "train.jsonl")
    tokenizer.train_from_iterator(train, trainer)
    target = folder / "tokenizer"
    target.mkdir(exist_ok=True)
    tokenizer.save(str(target / "tokenizer.json"))
    fields = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": END_OF_TEXT}
    (target / "tokenizer_config.json").write_text(json.dumps(fields))
    tokens = sum(len(encoded) + 1 for encoded in tokenizer.encode_batch_fast(train))
    return {"train_tokens": tokens, "vocab_size": tokenizer.get_vocab_size()}
