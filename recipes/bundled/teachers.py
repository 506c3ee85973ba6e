"""What would others say? Caches the vectors of three teachers for what the corpus says, shows and names.

Run:  python recipes/bundled/teachers.py        (after corpus.py and tasks.py)

What is there already is not made again. Written are

- `work/teachers/words`: MiniLM-L6's vector of every text; a picture or page has that of its name or title.
- `work/teachers/pictures`: EfficientNet-Lite0's features of every picture as it was drawn on white, which all other
  drawings of it share. They are centred and rotated to their 256 largest components.
- `work/teachers/spelling`: the letters of what a sign, slide or page says, and of the texts that ask for it.

No teacher is asked about a held-out row. Vectors are kept by content (`vlm2vec.vectors.keys.content_key`), as
`teachers` of a training configuration wants them.
"""

from __future__ import annotations

import re
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from fetch import RECIPE, UNPACKED
from numpy.typing import NDArray
from PIL import Image as PILImage
from spelling import DIM, spelled
from torch.nn import functional as F

from vlm2vec.data.records import Pair, read_pairs
from vlm2vec.items import Image, Item
from vlm2vec.vectors.keys import content_key
from vlm2vec.vectors.store import VectorStore

CORPORA = (RECIPE / "work" / "corpus", RECIPE / "work" / "corpus_tasks")
TARGET = RECIPE / "work" / "teachers"
SIDE_PX = 224
COMPONENTS = 256
WORDS_DIM = 384
KEPT_TOGETHER = 8192
"""Texts whose vectors are written at once."""

NAMED = {"caption_to_image", "caption_to_drawing", "image_to_caption", "image_to_image", "text_to_page"}
"""Files whose labels are the names of what their pictures show."""

READ = {"text_to_sign", "title_to_slide", "text_to_page", "slide_by_question", "section_to_page"}
"""Files whose labels are what their pictures say."""

MANUALS = {"text_to_page", "section_to_page"}
"""Files with pages of manuals, whose name stands in front of the label."""

Vectors = NDArray[np.float32]


def main() -> None:
    """Cache all three."""
    clock = time.monotonic()
    pairs = list(_rows())
    print(f"{time.monotonic() - clock:6.1f} s  read {len(pairs)} rows", file=sys.stderr)
    pictures = sorted({path for name, pair in pairs if name in NAMED - {"text_to_page"} for path in _paths(pair)})
    store_pictures(pictures)
    print(f"{time.monotonic() - clock:6.1f} s  looked at {len(pictures)} pictures", file=sys.stderr)
    texts: dict[Item, str] = {}
    said: dict[Item, str] = {}
    for name, pair in pairs:
        for item in (pair.query, pair.positive, *pair.negatives):
            if item.text and not item.media:
                texts[Item(item.text)] = item.text
        title = pair.label or ""
        if name in MANUALS:
            # "manual: title"
            title = re.sub(r"^[\w-]+: ", "", title)
        if name in NAMED:
            texts |= {Item("", (Image(path),)): title for path in _paths(pair)}
        if name in READ:
            said |= {Item(pair.query.text): title} | {Item("", (Image(path),)): title for path in _paths(pair)}
    store_spelling(said)
    print(f"{time.monotonic() - clock:6.1f} s  spelled {len(set(said.values()))} texts", file=sys.stderr)
    store_words(texts)
    print(f"{time.monotonic() - clock:6.1f} s  read {len(set(texts.values()))} texts", file=sys.stderr)


def store_pictures(pictures: Sequence[Path]) -> None:
    """EfficientNet's view of each drawing, from the one on white: `<name>_0.jpg` for every `<name>_<n>.jpg`."""
    store = VectorStore.open(TARGET / "pictures", COMPONENTS)
    keys = [content_key(Item("", (Image(path),))) for path in pictures]
    if all(key in store for key in keys):
        return
    if len(store):
        # Components are those of all pictures together, so vectors of two corpora cannot be compared.
        sys.exit(f"{TARGET / 'pictures'} is of another corpus; delete it")
    white = {path: path.with_name(re.sub(r"_\d+\.jpg$", "_0.jpg", path.name)) for path in pictures}
    drawn = sorted(set(white.values()))
    parts = [drawn[start : start + 64] for start in range(0, len(drawn), 64)]
    # Started anew, since a process that has used torch cannot be forked; one thread each.
    with get_context("spawn").Pool(2) as pool:
        features = np.concatenate(list(pool.imap(_look_at, parts)))
    features -= features.mean(0)
    # Half whitened: the largest components would otherwise say how round and how dark a picture is, and little else.
    sizes, directions = np.linalg.eigh(np.cov(features, rowvar=False))
    sizes, directions = sizes[::-1][:COMPONENTS], directions[:, ::-1][:, :COMPONENTS]
    vectors = dict(zip(drawn, features @ directions / np.sqrt(np.sqrt(sizes)), strict=True))
    store.put(keys, np.stack([vectors[white[path]] for path in pictures]).astype(np.float32))


def store_words(texts: dict[Item, str]) -> None:
    """MiniLM's vector of a text for each item, in the order of lengths so that nothing is padded in vain."""
    store = VectorStore.open(TARGET / "words", WORDS_DIM)
    keys = {item: content_key(item) for item in texts}
    texts = {item: words for item, words in texts.items() if keys[item] not in store}
    said_by: dict[str, list[bytes]] = {}
    for item, words in texts.items():
        said_by.setdefault(words, []).append(keys[item])
    different = sorted(said_by, key=lambda words: (len(words), words))
    with get_context("spawn").Pool(2) as pool:
        # Kept now and then, so that a run that was stopped goes on where it was.
        for start in range(0, len(different), KEPT_TOGETHER):
            some = different[start : start + KEPT_TOGETHER]
            parts = [some[at : at + 128] for at in range(0, len(some), 128)]
            vectors = np.concatenate(list(pool.imap(_read, parts)))
            rows = [(key, number) for number, words in enumerate(some) for key in said_by[words]]
            store.put([key for key, _ in rows], vectors[[number for _, number in rows]])


def store_spelling(said: dict[Item, str]) -> None:
    """The letters of what each item says. They are centred over all texts, so that one is made anew with all."""
    folder, keys = TARGET / "spelling", [content_key(item) for item in said]
    kept = VectorStore.open(folder, DIM)
    if all(key in kept for key in keys):
        return
    shutil.rmtree(folder, ignore_errors=True)
    texts = sorted(set(said.values()))
    vectors = dict(zip(texts, spelled(texts), strict=True))
    VectorStore.open(folder, DIM).put(keys, np.stack([vectors[words] for words in said.values()]))


def _rows() -> Iterator[tuple[str, Pair]]:
    for folder in CORPORA:
        if not folder.is_dir():
            sys.exit(f"{folder} is missing; run corpus.py and tasks.py first")
        for path in sorted(folder.glob("*.jsonl")):
            if not path.stem.endswith("_heldout"):
                yield from ((path.stem, pair) for pair in read_pairs(path))


def _paths(pair: Pair) -> list[Path]:
    media = [medium for item in (pair.query, pair.positive) for medium in item.media]
    return [one.source for one in media if isinstance(one, Image) and isinstance(one.source, Path)]


_models: dict[str, object] = {}


def _look_at(paths: Sequence[Path]) -> Vectors:
    torch.set_num_threads(1)
    pictures = []
    for path in paths:
        with PILImage.open(path) as image:
            pictures.append(image.copy())
    return look_at(pictures)


def look_at(pictures: Sequence[PILImage.Image]) -> Vectors:
    """EfficientNet-Lite0's pooled features [N, 1280]."""
    if "pictures" not in _models:
        sys.path.insert(0, str(UNPACKED / "efficientnet-code"))
        from efficientnet_lite_pytorch import EfficientNet  # type: ignore[import-not-found]

        network = EfficientNet.from_name("efficientnet-lite0")
        [weights] = (UNPACKED / "efficientnet").rglob("*.pth")
        network.load_state_dict(torch.load(weights, weights_only=True))
        _models["pictures"] = network.eval().bfloat16().to(memory_format=torch.channels_last)
    squares = [one.convert("RGB").resize((SIDE_PX, SIDE_PX), PILImage.Resampling.BICUBIC) for one in pictures]
    # The range that its weights were trained with.
    pixels = ((torch.from_numpy(np.stack(squares)).permute(0, 3, 1, 2).float() - 127) / 128).bfloat16()
    with torch.inference_mode():
        features = _models["pictures"].extract_features(pixels.contiguous(memory_format=torch.channels_last))  # type: ignore[attr-defined]
        return features.float().mean((2, 3)).numpy()  # type: ignore[no-any-return]


def _read(texts: Sequence[str]) -> Vectors:
    torch.set_num_threads(1)
    return read(texts)


def read(texts: Sequence[str]) -> Vectors:
    """MiniLM's mean over the tokens [N, 384], of length one."""
    if "words" not in _models:
        from transformers import AutoModel, AutoTokenizer

        folder = UNPACKED / "minilm" / "model"
        _models["words"] = (AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval().bfloat16())
    tokenizer, model = _models["words"]  # type: ignore[misc]
    batch = tokenizer(list(texts), padding=True, truncation=True, max_length=64, return_tensors="pt")
    with torch.inference_mode():
        states = model(**batch).last_hidden_state.float()
    mask = batch["attention_mask"].unsqueeze(-1)
    return F.normalize((states * mask).sum(1) / mask.sum(1), dim=1).numpy()  # type: ignore[no-any-return]


if __name__ == "__main__":
    main()
