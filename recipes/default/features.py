"""What do the pretrained towers make of pictures and words? Computes it once for all of them, in parts on the disk.

    python recipes/default/features.py [PROCESSES]      about 12 minutes on two quiet cores

Writes work/features/. What is already there is not computed again, so a run that was stopped continues.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Sequence
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from fetch import UNPACKED, WORK
from numpy.typing import NDArray
from pictures import SHOTS, Shown, draw, read_shown
from PIL import Image
from texts import wordings
from tokenizers import Tokenizer

from vlm2vec.files import atomic_writer, write_atomically
from vlm2vec.model.families.towers import OnnxTower
from vlm2vec.model.families.towers_export import export_image, export_text
from vlm2vec.model.families.towers_inputs import ImageSide, read_pixels
from vlm2vec.model.families.towers_torch import load_image_tower, load_text_tower

FEATURES = WORK / "features"
PART = 400
SIDE = ImageSide(fit="squash")
MINILM = UNPACKED / "minilm" / "model"

Vectors = NDArray[np.float32]


class Job(NamedTuple):
    """One part of the work: the pictures of one shot, or texts, from a place on."""

    kind: Literal["look", "read"]
    shot: int
    start: int
    items: Sequence[Shown] | Sequence[str]


def compute(processes: int) -> None:
    """Compute what is missing: of each picture the first drawing, then texts, then the other drawings."""
    FEATURES.mkdir(parents=True, exist_ok=True)
    if not (path := FEATURES / "image.onnx").exists():
        [weights] = (UNPACKED / "efficientnet").rglob("*.pth")
        write_atomically(path, export_image(load_image_tower(weights), None, SIDE.size, small=False))
    if not (path := FEATURES / "text.onnx").exists():
        write_atomically(path, export_text(load_text_tower(MINILM / "model.safetensors"), None, small=False))
    shown = read_shown()
    texts = sorted({text for one in shown if one.is_trained for text in wordings(one)})
    write_atomically(FEATURES / "texts.json", json.dumps(texts, ensure_ascii=False).encode())
    looks = [Job("look", shot, at, shown[at : at + PART]) for shot in range(SHOTS) for at in _starts(shown)]
    reads = [Job("read", 0, at, texts[at : at + PART]) for at in _starts(texts)]
    first = len(_starts(shown))
    jobs = [*looks[:first], *reads, *looks[first:]]
    with get_context("fork").Pool(processes) as pool:
        for done, _ in enumerate(pool.imap_unordered(_run, jobs), 1):
            print(f"{done} of {len(jobs)} parts", file=sys.stderr)


def read_pictures(num: int, shot: int) -> tuple[NDArray[np.intp], Vectors]:
    """Positions of those of the first `num` pictures that could be drawn, and their features [N, 1280]."""
    parts = [np.load(_file("look", shot, start)) for start in range(0, num, PART)]
    places = np.concatenate([part["places"] for part in parts])
    return places, np.concatenate([part["vectors"] for part in parts]).astype(np.float32)


def read_texts() -> tuple[list[str], Vectors]:
    """Every text, and its vector [N, 384], not scaled."""
    texts: list[str] = json.loads((FEATURES / "texts.json").read_text("utf-8"))
    parts = [np.load(_file("read", 0, start))["vectors"] for start in _starts(texts)]
    return texts, np.concatenate(parts).astype(np.float32)


def look_at(pictures: Sequence[Image.Image]) -> Vectors:
    """The image tower's features [N, 1280]."""
    return np.stack([_tower("image", 1280).run({"pixels": read_pixels(one, SIDE)[None]}) for one in pictures])


def read(texts: Sequence[str]) -> Vectors:
    """The text tower's vectors [N, 384], not scaled."""
    tokens = [np.array([encoding.ids], np.int64) for encoding in _tokenizer().encode_batch(list(texts))]
    return np.stack([_tower("text", 384).run({"ids": ids, "mask": np.ones_like(ids)}) for ids in tokens])


def _run(job: Job) -> None:
    path, made_of = _file(job.kind, job.shot, job.start), hashlib.sha256(repr(job).encode()).hexdigest()
    if path.exists() and str(np.load(path)["made_of"]) == made_of:
        return
    if job.kind == "look":
        drawn = [draw(one, job.shot) for one in job.items if isinstance(one, Shown)]
        places = [place for place, picture in enumerate(drawn) if picture is not None]
        vectors = look_at([picture for picture in drawn if picture is not None])
    else:
        places, vectors = list(range(len(job.items))), read([one for one in job.items if isinstance(one, str)])
    with atomic_writer(path) as stream:
        # Half precision moves a vector by 1e-7 in cosine.
        halved = vectors.astype(np.float16)
        np.savez(stream, places=job.start + np.array(places, np.int64), vectors=halved, made_of=np.array(made_of))


def _starts(items: Sequence[object]) -> range:
    return range(0, len(items), PART)


def _file(kind: str, shot: int, start: int) -> Path:
    return FEATURES / f"{kind}{shot}-{start:06d}.npz"


@cache
def _tower(name: str, dim: int) -> OnnxTower:
    return OnnxTower(FEATURES / f"{name}.onnx", dim)


@cache
def _tokenizer() -> Tokenizer:
    tokenizer = Tokenizer.from_file(str(MINILM / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(256)
    return tokenizer


if __name__ == "__main__":
    compute(int(sys.argv[1]) if len(sys.argv) > 1 else os.cpu_count() or 1)
