"""Index samples/ with the default model and put questions to it, by the command line and by Python."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

from answers import Question, first_hit, is_right, read_questions

HERE = Path(__file__).parent
SAMPLES = HERE.parent / "samples"
VLM2VEC = Path(sys.executable).with_name("vlm2vec")
SHOWN = ("a cup of coffee", "butterfly.png", "heap smells of ammonia", "grandfather counts the stairs", "asdfgh qwerty")
"""What is asked by the command line."""


def main() -> None:
    """Print some commands and what they print, then the first hit of every question, none of which was trained."""
    started_s = time.monotonic()
    # Anew, since an earlier demo may have been run with an earlier model.
    _run("index", str(SAMPLES), "--rebuild")
    for asked in SHOWN:
        by = ("", str(SAMPLES), "--image", str(HERE / asked)) if asked.endswith(".png") else (asked, str(SAMPLES))
        _run("search", *by, "-k", "3")
    all_right = _ask_all(read_questions())
    print(f"\nThat took {time.monotonic() - started_s:.0f} seconds. Your own files: {VLM2VEC} search 'words' FOLDER")
    sys.exit(not all_right)


def _ask_all(questions: list[Question]) -> bool:
    print("\nAll questions, from Python:", flush=True)
    from vlm2vec import Library

    num_right = 0
    with Library.open(SAMPLES) as library:
        for question in questions:
            hit, asked = first_hit(library, question), question.get("text") or question.get("image", "")
            num_right += (right := is_right(hit, question))
            told = "nothing matches well" if hit.weak else f"{hit.path}  {hit.place}".rstrip()
            print(
                f"  {question['shows']:31} {asked:48} {told}" + ("" if right else f"   (wrong: {json.dumps(question)})")
            )
    print(f"{num_right} of {len(questions)} answers are right")
    return num_right == len(questions)


def _run(*arguments: str) -> None:
    shown = [str(_short(argument)) for argument in arguments]
    print(f"\n$ vlm2vec {' '.join(repr(a) if not a or ' ' in a else a for a in shown)}", flush=True)
    subprocess.run([VLM2VEC, *arguments], check=True)


def _short(argument: str) -> str:
    path = Path(argument)
    return str(path.relative_to(HERE.parent)) if path.is_absolute() else argument


if __name__ == "__main__":
    main()
