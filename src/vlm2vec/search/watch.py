"""How does an index follow what happens in its folder?"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from vlm2vec.errors import BusyError, StorageError
from vlm2vec.search.ignore import IGNORE_FILE
from vlm2vec.search.library import Library
from vlm2vec.search.scan import check_folder, may_be_searched
from vlm2vec.search.update import Summary


class Pace(NamedTuple):
    """How changes are gathered, so that a burst of them is one update.

    Args:
        quiet_s: an update begins when nothing has happened for so long,
        most_s: or so long after the first change.
        retry_s: an update that failed is tried again after so long.
    """

    quiet_s: float = 0.5
    most_s: float = 10.0
    retry_s: float = 1.0


class Followed(NamedTuple):
    """An update of the index.

    Args:
        paths: that have changed, relative to the folder, in order; None: all of the folder was looked at.
        summary: what was done.
        trouble: why nothing could be done; it is tried again, and told once.
    """

    paths: tuple[str, ...] | None
    summary: Summary | None
    trouble: BusyError | StorageError | None = None


def follow(
    library: Library,
    *,
    pace: Pace = Pace(),  # noqa: B008  # It never changes.
    on_progress: Callable[[int, int], None] | None = None,
) -> Iterator[Followed]:
    """Bring an index up to date, and again whenever something changes, until the caller ends it. Yields each update.

    What changes while an update runs, or while the caller holds what was yielded, is in the next one. A file that could
    not be read is tried again when it changes. Changes of linked folders that lie elsewhere, and of network drives that
    other machines write, are not seen by every system.

    Raises:
        StorageError: the system watches no more folders.
        IndexFolderError: the folder is gone, or the index is damaged.
    """
    root = os.path.abspath(library.folder)
    # Nothing is known of what happened before the watch began.
    pending: set[str] | None = None
    told = ""
    for changed in _changes(root, Path(os.path.abspath(library.path)), pace):
        # Before an update would make the folder of an index anew.
        check_folder(library.folder)
        if pending is not None:
            pending |= changed
            if not pending:
                continue
        paths = None if pending is None else tuple(sorted(name for name in pending if may_be_searched(root, name)))
        if paths == ():
            pending = set()
            continue
        names = None if paths is None else [os.path.join(root, path) for path in paths]
        try:
            summary = library.sync(names, on_progress=on_progress, retry=False)
        except (BusyError, StorageError) as error:
            if str(error) != told:
                told = str(error)
                yield Followed(paths, None, error)
            continue
        pending, told = set(), ""
        yield Followed(paths, summary)


def _changes(root: str, index: Path, pace: Pace) -> Iterator[set[str]]:
    """The files and folders that have changed since the last time; at least once in `pace.retry_s`, perhaps none."""
    # Here, because only this needs it.
    from watchfiles import Change, watch

    def matters(_: Change, path: str) -> bool:
        return _name(root, index, path) is not None

    batches = watch(
        root,
        watch_filter=matters,
        debounce=round(pace.most_s * 1000),
        step=round(pace.quiet_s * 1000),
        rust_timeout=round(pace.retry_s * 1000),
        yield_on_timeout=True,
        raise_interrupt=True,
        ignore_permission_denied=True,
    )
    while True:
        try:
            batch = next(batches)
        except StopIteration:
            return
        except OSError as error:
            raise StorageError(
                f"cannot watch {root}: {error}; on Linux, fs.inotify.max_user_watches limits how many folders may be"
            ) from error
        yield {name for _, path in batch if (name := _name(root, index, path)) is not None}


def _name(root: str, index: Path, path: str) -> str | None:
    """What has to be looked at because something happened to a path; None: nothing."""
    name = os.path.relpath(path, root).replace(os.sep, "/")
    if Path(path).is_relative_to(index):
        return None
    if name == ".":
        return ""
    folder, _, last = name.rpartition("/")
    if any(part.startswith(".") for part in folder.split("/")):
        return None
    if last == IGNORE_FILE:
        return folder
    return None if last.startswith(".") else name
