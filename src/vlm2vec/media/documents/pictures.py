"""Which pictures does a document hold inside of its file?"""

from __future__ import annotations

import email
import email.policy
import hashlib
from collections.abc import Callable, Iterator
from email.message import EmailMessage
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeAlias

from vlm2vec.errors import MediaError
from vlm2vec.items import IMAGE_SUFFIXES
from vlm2vec.media.documents.archive import open_archive
from vlm2vec.media.documents.plain import read_bytes
from vlm2vec.media.image import open_picture
from vlm2vec.media.source import DEFAULT_LIMITS, Limits, decoding

SMALLEST_PX = 64
"""The shorter side of a picture; what is smaller is an icon, a bullet or a line."""

_PACKED = frozenset({
    ".docx", ".docm", ".dotx", ".pptx", ".pptm", ".ppsx", ".potx", ".xlsx", ".xlsm", ".xltx", ".odt", ".ott", ".odp",
    ".otp", ".ods", ".ots", ".epub",
})  # fmt: skip
_SAVED = frozenset({".mhtml", ".mht"})
# What a program draws of the first page, for file managers.
_THUMBNAILS = ("Thumbnails/", "docProps/thumbnail")


_Read: TypeAlias = Callable[[], bytes]


class InnerPictures(NamedTuple):
    """The pictures of a document.

    Args:
        members: names by which `read_picture` gives them, sorted; pictures that are equal have one.
        num_small: that are left out because a side is shorter than `SMALLEST_PX`.
        num_unread: that are left out because they are damaged, of an unknown format or larger than the limits allow.
    """

    members: tuple[str, ...]
    num_small: int
    num_unread: int


def list_pictures(path: Path, limits: Limits = DEFAULT_LIMITS) -> InnerPictures:
    """List the pictures inside of an Office file, a book or a saved page; of photographs, headers only are decoded.

    A document of another kind has none: pictures of a web page lie in a folder beside it. All together may have
    `Limits.image_bytes`.

    Raises:
        MediaError: missing, empty, damaged or encrypted. LimitError: larger than `limits` allow.
    """
    members: dict[bytes, str] = {}
    num_small = num_unread = 0
    for name, read in _pictures(path, limits):
        try:
            with decoding(f"{path}: {name}", "an image"):
                data = read()
            with open_picture(data, limits) as picture:
                side_px = min(picture.size)
        except MediaError:
            num_unread += 1
            continue
        if side_px < SMALLEST_PX:
            num_small += 1
        else:
            members.setdefault(hashlib.sha256(data).digest(), name)
    return InnerPictures(tuple(sorted(members.values())), num_small, num_unread)


def read_picture(path: Path, member: str, limits: Limits = DEFAULT_LIMITS) -> bytes:
    """The bytes of a picture file inside of a document, by a name that `list_pictures` gives.

    Raises:
        MediaError: there is none of this name, or as `list_pictures`.
    """
    for name, read in _pictures(path, limits):
        if name == member:
            with decoding(f"{path}: {name}", "an image"):
                return read()
    raise MediaError(f"{path} has no picture {member}; list_pictures names those that it has")


def _pictures(path: Path, limits: Limits) -> Iterator[tuple[str, _Read]]:
    """The name of each picture, and how it is read while this is not at its end."""
    suffix = path.suffix.lower()
    with decoding(str(path), "a document"):
        if suffix in _PACKED:
            with open_archive(path, limits, "pictures") as archive:
                for name in archive.names():
                    if Path(name).suffix.lower() in IMAGE_SUFFIXES and not name.startswith(_THUMBNAILS):
                        yield name, partial(archive.read, name)
        elif suffix in _SAVED:
            message = email.message_from_bytes(read_bytes(path, limits), policy=email.policy.default)
            for number, part in enumerate(message.walk()):
                if part.get_content_maintype() == "image":
                    yield str(part.get("Content-Location") or number), partial(_content, part)


def _content(part: EmailMessage) -> bytes:
    data = part.get_payload(decode=True)
    if not isinstance(data, bytes):
        raise ValueError("it has no content")
    return data
