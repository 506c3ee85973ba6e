"""Seconds and memory that the bundled model's tokenizer needs for a text of 20 MB, of words and without a space."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time

from size import sized

from vlm2vec.model.checkpoint import SHIPPED
from vlm2vec.model.families.qwen_tokenizer import TextTokenizer

BYTES = sized(20_000_000, 20_000)
TEXTS = {"words": "the quick brown fox jumps over 13 lazy dogs. ", "no space": "abcdefghijklmnopqrstuvwxyz"}


def main() -> None:
    if len(sys.argv) == 1:
        # Each in a process of its own, for its peak.
        for kind in TEXTS:
            subprocess.run([sys.executable, __file__, kind], check=True)
        return
    kind = sys.argv[1]
    text = TEXTS[kind] * (BYTES // len(TEXTS[kind]))
    tokenizer = TextTokenizer(SHIPPED["tiny"])
    before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    tokenizer.encode_alone(text)
    seconds = time.perf_counter() - start
    peak_mb = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb) / 1024
    for unit, value in (("s", seconds), ("MB", peak_mb)):
        print(json.dumps({"row": f"tokenise a text of 20 MB, {kind}", "unit": unit, "value": round(value, 2)}))


if __name__ == "__main__":
    main()
