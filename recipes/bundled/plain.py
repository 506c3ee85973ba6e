"""Copies of the corpus's rows without their instructions: what things are, before what is asked of them.

python recipes/bundled/plain.py        writes work/corpus/*_plain.jsonl   (a few seconds)
"""

from __future__ import annotations

import json
from pathlib import Path

CORPUS = Path(__file__).parent / "work" / "corpus"


def main() -> None:
    """Write the copies."""
    for path in sorted(CORPUS.glob("*.jsonl")):
        if path.stem.endswith(("_heldout", "_plain")):
            continue
        rows = [json.loads(line) for line in path.read_text("utf-8").split("\n") if line]
        for row in rows:
            for part in (row["query"], row["positive"], *row.get("negatives", ())):
                part["instruction"] = ""
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        path.with_name(f"{path.stem}_plain.jsonl").write_text(lines, "utf-8")


if __name__ == "__main__":
    main()
