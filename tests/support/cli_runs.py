"""Runs of the command line within a test, a model and files for them."""

from __future__ import annotations

import gc
import json
from pathlib import Path

from PIL import Image as PILImage
from typer.testing import CliRunner

from support.golden_cases import MODEL
from vlm2vec.cli.app import app


class Result:
    """Exit code, stdout and stderr of one run."""

    def __init__(self, *arguments: object, stdin: str | None = None) -> None:
        result = CliRunner().invoke(app, [str(argument) for argument in arguments], input=stdin)
        # In a process of its own a command ends with it; here other tests go on.
        gc.unfreeze()
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        self.code, self.out, self.err = result.exit_code, result.stdout, result.stderr


def write_model(folder: Path) -> Path:
    """The tiny golden model, with the file that names its prompt style."""
    folder.mkdir()
    for file in MODEL.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    (folder / "vlm2vec.json").write_text(json.dumps({"prompt_style": "qwen2-vl"}))
    return folder


def write_pictures(folder: Path) -> Path:
    """A red and a blue picture, and a file of no known kind; nothing that is decoded in a process of its own."""
    folder.mkdir()
    save_picture(folder / "red.png", "red")
    save_picture(folder / "blue.png", "blue")
    (folder / "notes.xyz").write_text("words")
    return folder


def write_files(folder: Path) -> Path:
    """As `write_pictures`, and a PDF of two pages."""
    write_pictures(folder)
    pages = [PILImage.new("RGB", (56, 56), colour) for colour in ("green", "yellow")]
    pages[0].save(folder / "doc.pdf", save_all=True, append_images=pages[1:])
    return folder


def save_picture(path: Path, colour: str | tuple[int, int, int]) -> None:
    PILImage.new("RGB", (28, 28), colour).save(path)
