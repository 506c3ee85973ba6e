"""Which files come out of decoding otherwise than when their vectors were made?"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from vlm2vec.errors import MediaError
from vlm2vec.search.scan import FileKind, Scan
from vlm2vec.search.standing import Standing

if TYPE_CHECKING:
    from vlm2vec.search.index import Index


def renew(index: Index, scan: Scan) -> None:
    """Mark the files for which this release sees other pictures than the one that made the index did.

    They are found until they are embedded anew. All are marked in one commit, after which the index says so; a process
    that is killed before has to ask again, and no more.

    Args:
        scan: all files of the folder.
    """
    standing = Standing(index.table.files(), {}, scan.files)
    shown_otherwise = _load()
    outdated = []
    for file in scan.files:
        if standing.is_as_stored(file):
            try:
                if shown_otherwise[file.kind](index.folder / file.path):
                    outdated.append(file.path)
            except (MediaError, OSError):
                # It is as it was, and will be tried when it changes.
                continue
    index.table.mark_outdated(outdated)
    index.note_decoding()


def _load() -> Mapping[FileKind, Callable[[Path], bool]]:
    # Here, because an index is renewed once.
    from vlm2vec.media import document, image, video

    return {"image": image.shown_otherwise, "video": video.shown_otherwise, "pdf": document.shown_otherwise}
