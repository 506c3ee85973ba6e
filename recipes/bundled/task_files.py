"""Where do the files of the training tasks go, and what do the parts of their rows look like?"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from fetch import RECIPE
from PIL import Image
from rows import Part

TARGET = RECIPE / "work" / "corpus_tasks"
FOLDER = RECIPE / "work" / "corpus_tasks.partial"
"""Where it is built; it takes the name of TARGET when it is whole."""

CORPUS = RECIPE / "work" / "corpus"
"""What `corpus.py` built: some of its pictures and clips are used again, by relative paths."""


def save_picture(picture: Image.Image, kind: str, held: bool, *names: object, quality: int = 90) -> str:
    """Write a picture as JPEG; returns its path relative to the rows."""
    folder = FOLDER / kind / _side(held)
    path = folder / f"{'_'.join(f'{name:05d}' if isinstance(name, int) else str(name) for name in names)}.jpg"
    folder.mkdir(parents=True, exist_ok=True)
    picture.save(path, quality=quality)
    return path.relative_to(FOLDER).as_posix()


def save_frames(frames: Sequence[Image.Image], kind: str, held: bool, number: int) -> tuple[str, str]:
    """Write a clip forwards, and the same files backwards; returns both folders relative to the rows."""
    forwards = FOLDER / kind / _side(held) / f"{number:05d}f"
    backwards = forwards.with_name(f"{number:05d}b")
    forwards.mkdir(parents=True)
    backwards.mkdir(parents=True)
    for index, path in enumerate(reversed(_save_frames(frames, forwards))):
        os.link(path, backwards / f"{index:02d}.jpg")
    return forwards.relative_to(FOLDER).as_posix(), backwards.relative_to(FOLDER).as_posix()


def save_clip(frames: Sequence[Image.Image], kind: str, held: bool, number: int, end: int) -> str:
    """Write a clip; returns its folder relative to the rows. Frames that are the same picture are one file."""
    folder = FOLDER / kind / _side(held) / f"{number:05d}_{end}"
    folder.mkdir(parents=True)
    _save_frames(frames, folder)
    return folder.relative_to(FOLDER).as_posix()


def _save_frames(frames: Sequence[Image.Image], folder: Path) -> list[Path]:
    written: dict[int, Path] = {}
    paths = [folder / f"{index:02d}.jpg" for index in range(len(frames))]
    for path, frame in zip(paths, frames, strict=True):
        if id(frame) in written:
            os.link(written[id(frame)], path)
        else:
            frame.save(path, quality=88)
            written[id(frame)] = path
    return paths


def join_clips(clips: Sequence[str], kind: str, held: bool, number: int) -> str:
    """A film of the frames of clips, one after the other, without copying them; returns its folder."""
    film = FOLDER / kind / _side(held) / f"{number:05d}"
    film.mkdir(parents=True)
    frames = [path for clip in clips for path in sorted((FOLDER / clip).glob("*.jpg"))]
    for index, path in enumerate(frames):
        os.link(path, film / f"{index:03d}.jpg")
    return film.relative_to(FOLDER).as_posix()


def asked(path: str, words: str, instruction: str) -> Part:
    """A picture with a question about it."""
    return {"image": path, "text": words, "instruction": instruction}


def asked_of_video(path: str, words: str, instruction: str) -> Part:
    """A video with a question about it."""
    return {"video": path, "text": words, "instruction": instruction}


def _side(held: bool) -> str:
    return "held" if held else "seen"


def relative(path: str) -> str:
    """A path in the corpus as the rows of the tasks name it."""
    return f"../{CORPUS.name}/{path}"
