"""How do the towers and trained heads become the folder that ships?

    python recipes/default/export.py FOLDER HEADS.safetensors ...

Several heads that share a text head become one, whose vectors are the mean of theirs.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from features import MINILM, SIDE, read_pictures
from fetch import UNPACKED
from pictures import read_shown
from train import DIMS, load_heads, merged

from vlm2vec.model.families.towers_export import export
from vlm2vec.model.families.towers_inputs import TextSide, TowersConfig, VideoSide
from vlm2vec.model.families.towers_torch import load_image_tower, load_text_tower

CONFIG = TowersConfig(
    family="towers",
    dim=DIMS[0],
    matryoshka_dims=DIMS,
    image=SIDE,
    text=TextSide(overlap=32),
    video=VideoSide(pool="mean"),
)


def main(folder: Path, paths: Sequence[Path]) -> None:
    """Write the folder."""
    heads = [load_heads(path) for path in paths]
    _, features = read_pictures(len(read_shown()), 0)
    with torch.no_grad():
        image = merged([image for image, _ in heads], torch.from_numpy(features))
    [weights] = (UNPACKED / "efficientnet").rglob("*.pth")
    folder.mkdir(parents=True, exist_ok=True)
    towers = load_image_tower(weights), load_text_tower(MINILM / "model.safetensors")
    export(folder, (towers[0], image), (towers[1], heads[0][1]), CONFIG)
    (folder / "vlm2vec.json").write_text(CONFIG.model_dump_json(indent=1) + "\n", "utf-8")
    shutil.copyfile(MINILM / "tokenizer.json", folder / CONFIG.text.tokenizer)


if __name__ == "__main__":
    main(Path(sys.argv[1]), [Path(word) for word in sys.argv[2:]])
