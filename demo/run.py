"""Index samples/ with the bundled model and put four questions to it, by the command line a user has."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent
SAMPLES = HERE.parent / "samples"
VLM2VEC = Path(sys.executable).with_name("vlm2vec")


def main() -> None:
    """Print each command and what it prints; the questions were fixed before the model was trained."""
    started_s = time.monotonic()
    _run("index", str(SAMPLES))
    for question in json.loads((HERE / "queries.json").read_text("utf-8")):
        if "image" in question:
            _run("search", "", str(SAMPLES), "--image", str(HERE / question["image"]), "-k", "3")
        else:
            _run("search", question["text"], str(SAMPLES), "-k", "3")
        print(f"     (expected first: {question['right']})")
    print(f"\nThat took {time.monotonic() - started_s:.0f} seconds. Your own files: {VLM2VEC} search 'words' FOLDER")


def _run(*arguments: str) -> None:
    shown = [repr(a) if not a or " " in a else str(_short(a)) for a in arguments]
    print(f"\n$ vlm2vec {' '.join(shown)}", flush=True)
    subprocess.run([VLM2VEC, *arguments], check=True)


def _short(argument: str) -> str:
    path = Path(argument)
    return str(path.relative_to(HERE.parent)) if path.is_absolute() else argument


if __name__ == "__main__":
    main()
