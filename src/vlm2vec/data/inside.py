"""Does a file that a row names lie in the folder of its data? Links count by where they lead."""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from vlm2vec.errors import Action, DataError, Hint

# Folders whose real place is remembered: asking for it takes a look at each of its parents, over a network perhaps.
_REMEMBERED = 1 << 16


def check_inside(path: Path, folders: Iterable[Path], *hints: Hint | Action, remedy: str = "") -> None:
    """Refuse a path that leads out of some folders.

    A folder may itself be a link. Where it lies in a snapshot of the hub's cache, whose files are links to blobs, these
    belong to it.

    Args:
        path: what a row names, joined to the folder that it is relative to.
        folders: where it may be.
        hints, remedy: what allows other places, for the message.

    Raises:
        DataError: it leads elsewhere, or is no path.
    """
    if "\0" in str(path):
        raise DataError(f"{str(path)!r} is no path: it holds a null character")
    leads_to = _real(_absolute(path))
    allowed = [place for folder in folders for place in _places(_absolute(folder))]
    if not any(os.path.normcase(leads_to + os.sep).startswith(place) for place in allowed):
        names = " and ".join(dict.fromkeys(str(folder) for folder in folders))
        advice = f"put the file there{remedy and ', or ' + remedy}"
        raise DataError(f"{path} leads to {leads_to}, outside of {names}: {advice}", *hints)


def links_in(folder: Path) -> list[Path]:
    """The links in a folder, sorted; none where there is no folder."""
    try:
        with os.scandir(folder) as entries:
            return sorted(folder / entry.name for entry in entries if entry.is_symlink())
    except OSError:
        return []


def _absolute(path: Path) -> str:
    # Without taking ".." out, which leads elsewhere behind a link.
    return os.path.join(os.getcwd(), path)


def _real(path: str) -> str:
    """Where a path leads; what is not there counts by its name."""
    folder, name = os.path.split(path)
    if name in ("", os.curdir, os.pardir):
        return os.path.realpath(path)
    place = os.path.join(_real_folder(folder), name)
    return os.path.realpath(place) if os.path.islink(place) else place


@lru_cache(maxsize=_REMEMBERED)
def _real_folder(folder: str) -> str:
    return os.path.realpath(folder)


@lru_cache(maxsize=_REMEMBERED)
def _places(folder: str) -> tuple[str, ...]:
    """The folder's real place, and the blobs that links in it lead to, each with a separator behind."""
    real = os.path.realpath(folder)
    # datasets--a--b/snapshots/<revision>/... beside datasets--a--b/blobs
    snapshots = [parent for parent in Path(real).parents if parent.name == "snapshots"]
    blobs = [os.path.realpath(parent.parent / "blobs") for parent in snapshots if (parent.parent / "blobs").is_dir()]
    return tuple(os.path.normcase(place.rstrip(os.sep) + os.sep) for place in (real, *blobs))
