"""Index samples/ with the default model and put questions to it, by the command line and by Python."""

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
    """Print some commands and what they print, then the first hit of all ten questions, none of which was trained."""
    started_s = time.monotonic()
    questions = json.loads((HERE / "queries.json").read_text("utf-8"))
    # Anew, since an earlier demo may have been run with an earlier model.
    _run("index", str(SAMPLES), "--rebuild")
    for question in (*questions[:3], questions[-1]):
        if "image" in question:
            _run("search", "", str(SAMPLES), "--image", str(HERE / question["image"]), "-k", "3")
        else:
            _run("search", question["text"], str(SAMPLES), "-k", "3")
        print(f"     (expected first: {question['right']})")
    _ask_all(questions)
    print(f"\nThat took {time.monotonic() - started_s:.0f} seconds. Your own files: {VLM2VEC} search 'words' FOLDER")


def _ask_all(questions: list[dict[str, str]]) -> None:
    print("\nAll ten questions, from Python:", flush=True)
    from vlm2vec import Library

    library = Library.open(SAMPLES)
    num_right = 0
    for question in questions:
        asked = question["image"] if "image" in question else question["text"]
        [hit] = library.search(HERE / asked if "image" in question else asked, k=1)
        is_right = hit.path == question["right"]
        num_right += is_right
        print(f"  {asked:24} {hit.path}" + ("" if is_right else f"   (expected {question['right']})"))
    print(f"{num_right} of {len(questions)} have the expected file first")


def _run(*arguments: str) -> None:
    shown = [repr(a) if not a or " " in a else str(_short(a)) for a in arguments]
    print(f"\n$ vlm2vec {' '.join(shown)}", flush=True)
    subprocess.run([VLM2VEC, *arguments], check=True)


def _short(argument: str) -> str:
    path = Path(argument)
    return str(path.relative_to(HERE.parent)) if path.is_absolute() else argument


if __name__ == "__main__":
    main()
