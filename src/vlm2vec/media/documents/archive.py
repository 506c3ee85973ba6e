"""How is a ZIP file that holds a document read safely: how much may come out of it?"""

from __future__ import annotations

import posixpath
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal
from urllib.parse import unquote

from vlm2vec.errors import LimitError, MediaError
from vlm2vec.media.documents.markup import Event, xml_events
from vlm2vec.media.source import Limits, open_source

_CHUNK_BYTES = 1 << 16
_ENCRYPTED = 1
# How old Office files begin, and new ones that are encrypted.
_COMPOUND = b"\xd0\xcf\x11\xe0"


class Archive:
    """The parts of an opened document by their names. All that are read share one limit.

    Args:
        file: the opened ZIP file.
        name: of the document, for messages.
        max_bytes: that are unpacked.
        what: is read, for messages.
    """

    def __init__(self, file: zipfile.ZipFile, name: str, max_bytes: int, what: Literal["text", "pictures"]) -> None:
        self.name = name
        self._file = file
        self._left_bytes = max_bytes
        self._too_much = f"{name} has more than the {max_bytes:,} bytes of {what} allowed; split it into parts"
        self._members = {member.filename: member for member in file.infolist()}

    def __contains__(self, path: str) -> bool:
        return path in self._members

    def names(self) -> list[str]:
        """Of all parts, sorted."""
        return sorted(self._members)

    def read(self, path: str) -> bytes:
        """Unpack a part whole. Raises as `events`."""
        return b"".join(self._chunks(path))

    def events(self, path: str) -> Iterator[Event]:
        """Read a part as XML.

        Raises:
            MediaError: there is no such part, or it is encrypted or damaged, or declares entities.
            LimitError: the parts that were read are larger than the limits allow.
        """
        return xml_events(self._chunks(path), self.name)

    def _chunks(self, path: str) -> Iterator[bytes]:
        member = self._members.get(path)
        if member is None:
            raise MediaError(
                f"{self.name} cannot be read as a document: it has no part {path}; check that the file is whole and "
                "what its name says"
            )
        if member.flag_bits & _ENCRYPTED:
            raise MediaError(f"{self.name} is encrypted; save a copy without a password")
        # `zipfile` never gives more than a part says to hold, and finds that it is damaged if there is more.
        self._left_bytes -= member.file_size
        if self._left_bytes < 0:
            raise LimitError(self._too_much)
        with self._file.open(member) as stream:
            while chunk := stream.read(_CHUNK_BYTES):
                yield chunk


@contextmanager
def open_archive(path: Path, limits: Limits, what: Literal["text", "pictures"] = "text") -> Iterator[Archive]:
    """Open a document that is a ZIP file.

    Args:
        what: will be read; texts may have `Limits.text_bytes` together, pictures `Limits.image_bytes`.

    Raises:
        MediaError: missing, no ZIP file, or damaged. LimitError: more bytes than `limits` allow.
    """
    with open_source(path, "a document", limits) as stream:
        if stream.read(len(_COMPOUND)) == _COMPOUND:
            raise MediaError(
                f"{path} is encrypted or in Office's format of before 2007; save a copy in today's without a password"
            )
        with zipfile.ZipFile(stream) as file:
            yield Archive(file, str(path), limits.text_bytes if what == "text" else limits.image_bytes, what)


def inner_path(of: str, target: str) -> str:
    """The name of a part that another one names: relative to that one's folder, or, after a "/", to the whole."""
    target = unquote(target.partition("#")[0])
    return posixpath.normpath(posixpath.join(posixpath.dirname(of), target)).lstrip("/")
