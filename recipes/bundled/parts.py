"""How does the corpus get to a machine without a network, and a checkpoint back? In parts of limited size.

    python recipes/bundled/parts.py make                     what corpus.py and tasks.py draw from, teachers' vectors
                                                             and the tokenizer, to work/parts/ in parts of 20 MB
    python recipes/bundled/parts.py split CHECKPOINT FOLDER  a checkpoint, in parts of 15 MB
    python recipes/bundled/parts.py join FOLDER [TARGET]     what is in the parts, to TARGET or else work/

Pictures travel as the SVG bodies or WebP files they are drawn from, pages as their PDFs, and vectors in float16, equal
ones once. After `join`, corpus.py draws every picture, clip and page as here, byte for byte, which was compared once;
tasks.py, whose draws are seeded alike, was not run there. Their wheels (requirements.txt) have to be there. Parts may
come in any number of turns: `join` names those that are missing or damaged, and does nothing before all are whole.
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import numpy as np
from catalogue import EMOJI_SETS, EMOJIBASE, FLUENT_3D, ICONIFY, OTHER_SETS, THING_SETS
from drawings import FOLDER as DRAWINGS
from drawings import LIMIT_BYTES
from fetch import RECIPE
from holdouts import HELD_RENDERER
from manuals import DOCS, free_manuals
from wordnet import FOLDER as WORDNET

from vlm2vec.vectors.store import VectorStore

WORK = RECIPE / "work"
PARTS = WORK / "parts"
PART_BYTES = {"make": 20_000_000, "split": 15_000_000}
INDEX = "parts.json"


def make() -> None:
    """Pack what the corpus is drawn from."""
    with _archive(PARTS, PART_BYTES["make"], "w:xz") as archive:
        for path in sources():
            archive.add(path, path.relative_to(WORK).as_posix())
        for folder in sorted((WORK / "teachers").iterdir()):
            data = _halved(folder)
            entry = tarfile.TarInfo(f"teachers/{folder.name}.npz")
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))


def sources() -> Iterator[Path]:
    """The files of work/ that corpus.py, tasks.py and the trainer read."""
    for prefix in (*EMOJI_SETS, *OTHER_SETS, *THING_SETS, HELD_RENDERER):
        yield ICONIFY / f"{prefix}.json"
    yield from (EMOJIBASE / "data.json", EMOJIBASE / "messages.json")
    yield from sorted((EMOJIBASE / "shortcodes").glob("*.json"))
    yield from sorted(path for path in FLUENT_3D.rglob("*") if path.is_file())
    yield from sorted(path for path in DRAWINGS.rglob("*.svg") if path.stat().st_size <= LIMIT_BYTES)
    yield from sorted(path for path in WORDNET.iterdir() if path.is_file())
    yield DOCS / "texlive-latex-recommended-doc" / "Licenses.gz"
    yield from free_manuals()
    yield from sorted((WORK / "tokenizer").iterdir())


def split(path: Path, target: Path) -> None:
    """Pack a folder as it is. Weights do not become smaller, so nothing is compressed."""
    with _archive(target, PART_BYTES["split"], "w") as archive:
        archive.add(path, path.name)


def join(folder: Path, target: Path) -> None:
    """Put everything where it was; teachers' vectors become stores again."""
    if not (folder / INDEX).exists():
        sys.exit(f"{folder / INDEX} is missing; bring it too")
    expected: dict[str, str] = json.loads((folder / INDEX).read_text("utf-8"))
    wrong = [name for name, digest in expected.items() if not _whole(folder / name, digest)]
    if wrong:
        sys.exit(f"missing or damaged in {folder}: {', '.join(wrong)}; bring these parts again")
    with tempfile.TemporaryFile() as whole:
        for name in expected:
            whole.write((folder / name).read_bytes())
        whole.seek(0)
        with tarfile.open(fileobj=whole) as archive:
            archive.extractall(target, filter="data")
    for path in sorted((target / "teachers").glob("*.npz")):
        with np.load(path) as arrays:
            rows = arrays["vectors"].astype(np.float32)[arrays["of"]]
            keys = [key.tobytes() for key in arrays["keys"]]
        VectorStore.open(path.with_suffix(""), rows.shape[1]).put(keys, rows)
        path.unlink()


@contextmanager
def _archive(folder: Path, part_bytes: int, mode: Literal["w", "w:xz"]) -> Iterator[tarfile.TarFile]:
    """An archive that is then cut into parts, listed with their hashes; the folder appears when all are there."""
    if folder.exists():
        sys.exit(f"{folder} is there already; delete it first")
    with tempfile.TemporaryFile() as whole:
        with tarfile.open(fileobj=whole, mode=mode) as archive:
            yield archive
        whole.seek(0)
        partial = folder.with_name(f"{folder.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        digests = {}
        while part := whole.read(part_bytes):
            name = f"part-{len(digests):03d}"
            (partial / name).write_bytes(part)
            digests[name] = hashlib.sha256(part).hexdigest()
    (partial / INDEX).write_text(json.dumps(digests, indent=1) + "\n", "utf-8")
    partial.rename(folder)
    print(f"{len(digests)} parts in {folder}")


def _whole(path: Path, digest: str) -> bool:
    return path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == digest


def _halved(folder: Path) -> bytes:
    """The store's vectors in float16, equal ones once: a picture has the vector of its name."""
    [dim] = VectorStore.dims(folder)
    store = VectorStore.open(folder, dim)
    # Sorted, since shards are named and so read at random.
    keys = sorted(store.keys())
    vectors, of = np.unique(store.get(keys)[1].astype(np.float16), axis=0, return_inverse=True)
    buffer = io.BytesIO()
    key_bytes = np.frombuffer(b"".join(keys), np.uint8).reshape(len(keys), -1)
    np.savez(buffer, keys=key_bytes, vectors=vectors, of=of.astype(np.int32).ravel())
    return buffer.getvalue()


def main(arguments: list[str]) -> None:
    """One of the three."""
    match arguments:
        case ["make"]:
            make()
        case ["split", path, folder]:
            split(Path(path), Path(folder))
        case ["join", folder]:
            join(Path(folder), WORK)
        case ["join", folder, target]:
            join(Path(folder), Path(target))
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
