"""How does a file look without reading it, with the files beside it that belong to it?"""

from __future__ import annotations

import os
import stat
from bisect import bisect_left
from collections.abc import Sequence
from pathlib import Path

from vlm2vec.items import VIDEO_SUFFIXES
from vlm2vec.search.store import Look


def look_at(
    path: str | os.PathLike[str], status: os.stat_result | None = None, names: Sequence[str] | None = None
) -> Look:
    """The look of a file that is searched; that of a film takes in the files beside it that hold words of it.

    Args:
        status: of the file, if it is known.
        names: of all that lies beside it, sorted, if they are known.

    Raises:
        OSError: it is missing, or no regular file.
    """
    status = status or os.stat(path)
    if not stat.S_ISREG(status.st_mode):
        # Opening a pipe would wait for ever.
        raise OSError("not a regular file")
    look = Look.of(status)
    for beside in beside_film(Path(path), names):
        other = Look.of(beside.stat())
        look = Look(
            look.size + other.size,
            max(look.mtime_ns, other.mtime_ns),
            max(look.ctime_ns, other.ctime_ns),
            look.inode,
        )
    return look


def beside_film(path: Path, names: Sequence[str] | None = None) -> tuple[Path, ...]:
    """The files beside a film that hold words of it, sorted by name; none for other files.

    Args:
        names: of all that lies beside it, sorted, if they are known.

    Raises:
        OSError: the folder cannot be listed.
    """
    if path.suffix.lower() not in VIDEO_SUFFIXES:
        return ()
    names = sorted(os.listdir(path.parent)) if names is None else names
    stem = f"{path.stem}."
    at = bisect_left(names, stem)
    if not any(name.startswith(stem) and name != path.name for name in names[at : at + 2]):
        return ()
    # Here, because most films stand alone.
    from vlm2vec.media.sidecars import sidecars

    return sidecars(path, names)
