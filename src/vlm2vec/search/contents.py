"""Which files have equal contents, so that one of them is embedded for all?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TypeAlias

from vlm2vec.files import content_hash
from vlm2vec.items import ANIMATED_SUFFIXES
from vlm2vec.search.looks import beside_film
from vlm2vec.search.scan import FileKind, ending, file_kind
from vlm2vec.search.store import StoredFile

Content: TypeAlias = tuple[str, FileKind, bool]
"""What makes files equal: hash, kind, and whether the ending is one of those whose pictures may move."""


def content_of(path: str, kind: FileKind, content_hash: str) -> Content:
    """What a file must have in common with another one so that both have the same vectors."""
    return content_hash, kind, ending(path) in ANIMATED_SUFFIXES


def hash_with_words(path: Path) -> str:
    """Of a film with the files beside it that hold words of it; one that cannot be read has no words to compare."""
    own = content_hash(path)
    beside = beside_film(path)
    if not beside:
        return own
    hashes = [own]
    for file in beside:
        with suppress(OSError):
            hashes.append(f"{file.name.removeprefix(path.stem)} {content_hash(file)}")
    return content_hash("\n".join(hashes).encode("utf-8", "surrogateescape"))


class ContentHolders:
    """Which stored files are whole, by their content.

    Args:
        stored: what is in the store; kept true by its owner with every commit, `add` aside.
        lacking: files in it that lack words, until they are added.
    """

    def __init__(self, stored: Mapping[str, StoredFile], lacking: Iterable[str]) -> None:
        self._stored = stored
        self._lacking = set(lacking)
        # By hash alone: of a hundred thousand files, few are ever asked for by more.
        self._paths: dict[str, list[str]] = {}
        for path in sorted(stored.keys() - self._lacking, reverse=True):
            self.add(path)

    def lacks(self, path: str) -> bool:
        """Whether a stored file has to be written again although it is as it was."""
        return path in self._lacking

    def add(self, path: str) -> None:
        """Take in a file that has come into the store."""
        self._lacking.discard(path)
        self._paths.setdefault(self._stored[path].content_hash, []).append(path)

    def find(self, content: Content, path: str) -> str | None:
        """A file with this content, `path` itself by preference; None if the store has none."""
        if self._content(path) == content:
            return path
        paths = self._paths.get(content[0], [])
        while paths and self._content(paths[-1]) is None:
            # It has left the store since.
            paths.pop()
        return next((one for one in reversed(paths) if self._content(one) == content), None)

    def _content(self, path: str) -> Content | None:
        one, kind = self._stored.get(path), file_kind(path)
        if one is None or kind is None or not one.complete or path in self._lacking:
            return None
        return content_of(path, kind, one.content_hash)
