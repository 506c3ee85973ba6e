"""Seconds and peak memory that the bundled model's tokenizer needs for a text of 20 MB, of words and without a space."""

from __future__ import annotations

import json
import resource
import sys
import time
import warnings

from vlm2vec.model.checkpoint import BUNDLED_FOLDER
from vlm2vec.model.tokenizer import TextTokenizer

BYTES = 20_000_000
TEXTS = {"words": "the quick brown fox jumps over 13 lazy dogs. ", "no space": "abcdefghijklmnopqrstuvwxyz"}


def main() -> None:
    kind = sys.argv[1] if len(sys.argv) > 1 else "words"
    part = TEXTS[kind]
    text = part * (BYTES // len(part))
    tokenizer = TextTokenizer(BUNDLED_FOLDER)
    before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ids = tokenizer.encode_alone(text)
    seconds = time.perf_counter() - start
    peak_mb = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb) / 1024
    row = {"row": f"text of 20 MB ({kind}), tokenised", "unit": "s", "value": round(seconds, 3)}
    print(json.dumps(row | {"peak_mb": round(peak_mb, 1), "kept_tokens": len(ids)}))


if __name__ == "__main__":
    main()
