"""Put a trained checkpoint into the package: weights, configuration and tokenizer, without what only training needs.

python recipes/bundled/export.py recipes/bundled/work/trained        writes src/vlm2vec/bundled/
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

TARGET = Path(__file__).parents[2] / "src" / "vlm2vec" / "bundled"
FILES = ("model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json", "vlm2vec.json")


def main(checkpoint: Path) -> None:
    """Copy the files; the model card beside them is written by hand."""
    TARGET.mkdir(exist_ok=True)
    for name in FILES:
        shutil.copyfile(checkpoint / name, TARGET / name)
    size = sum((TARGET / name).stat().st_size for name in FILES)
    print(f"{size / 1e6:.1f} MB in {TARGET}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
