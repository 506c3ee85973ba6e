"""Is a folder an index, and what does its `index.json` say of it?"""

from __future__ import annotations

import hashlib
import json
import os
import reprlib
from dataclasses import dataclass
from pathlib import Path

from vlm2vec.documents import load_json, parse_json
from vlm2vec.errors import IndexFolderError
from vlm2vec.search.lock import LOCK
from vlm2vec.search.table import TABLE_FOLDER

DEFAULT_NAME = ".vlm2vec"
"""Folder of an index inside the folder it is for."""

DECODING = 2
"""Counts the releases in which files came out of decoding otherwise than before."""

_FORMAT = 1
_INFO = "index.json"
_DRAFT = f"{_INFO}.part"
_MOST_BYTES = 1 << 20
_MOST_DIMENSIONS = 1 << 20
_DTYPES = ("float32", "bfloat16", "float16")
_REMEDY = "'vlm2vec index FOLDER --rebuild' makes it anew"


@dataclass(frozen=True, slots=True)
class Info:
    """What an index says of itself.

    Args:
        model, fingerprint, dim, dtype: as `Index` has them.
        folder: whose files are indexed, relative to the index where it lies inside.
        decoding: how files were decoded for the vectors, 1 for the first releases, which did not say so.
    """

    model: str
    fingerprint: str
    dim: int
    folder: str
    dtype: str | None
    decoding: int = DECODING


def is_there(place: Path) -> bool:
    """Whether an index, sound or not, lies at `place`; True as well where nobody may look."""
    try:
        os.stat(place / _INFO)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


def read_info(place: Path) -> Info:
    """Read `index.json`.

    Raises:
        IndexFolderError: there is none, it is damaged, of a newer format, of another program, or may not be read.
    """
    try:
        with (place / _INFO).open("rb") as stream:
            content = stream.read(_MOST_BYTES + 1)
        if len(content) > _MOST_BYTES:
            raise ValueError("it is too long")
        info = parse_json(content)
    except FileNotFoundError:
        raise IndexFolderError(f"there is no index at {place}; 'vlm2vec index FOLDER' makes one") from None
    except PermissionError as error:
        raise IndexFolderError(
            f"the index {place} cannot be read: permission denied; allow this user to read it, or give another path "
            "with --index"
        ) from error
    except (OSError, ValueError) as error:
        raise IndexFolderError(
            f"the index {place} is damaged: its {_INFO} cannot be read ({error}); {_REMEDY}"
        ) from error
    version = info.get("format") if isinstance(info, dict) else None
    if isinstance(version, int) and version > _FORMAT:
        raise IndexFolderError(
            f"the index {place} has format {version}, and this version of vlm2vec knows up to {_FORMAT}; "
            f"use a newer vlm2vec, or {_REMEDY}"
        )
    types = {"model": str, "fingerprint": str, "dim": int, "folder": str, "dtype": str | None}
    if version != _FORMAT or not all(isinstance(info.get(key), kind) for key, kind in types.items()):
        if not (place / TABLE_FOLDER).exists():
            raise IndexFolderError(
                f"{place} is no index: its {_INFO} is another program's; give another path with --index"
            )
        raise IndexFolderError(f"the index {place} is damaged: its {_INFO} lacks {', '.join(types)}; {_REMEDY}")
    read = Info(**{key: info.get(key) for key in types}, decoding=info.get("decoding", 1))
    for key, is_sound in (
        ("dim", type(read.dim) is int and 0 < read.dim <= _MOST_DIMENSIONS),
        ("dtype", read.dtype in (None, *_DTYPES)),
        ("folder", "\0" not in read.folder),
        ("decoding", type(read.decoding) is int and read.decoding > 0),
    ):
        if not is_sound:
            value = reprlib.repr(getattr(read, key))
            raise IndexFolderError(f"the index {place} is damaged: its {_INFO} has {key} {value}; {_REMEDY}")
    if "checksum" in info and info["checksum"] != _checksum_of(read):
        raise IndexFolderError(f"the index {place} is damaged: its {_INFO} is not as it was written; {_REMEDY}")
    return read


def write_info(place: Path, info: Info) -> None:
    """Write `index.json` in one step."""
    value = {
        "format": _FORMAT,
        "model": info.model,
        "fingerprint": info.fingerprint,
        "dim": info.dim,
        "dtype": info.dtype,
        "folder": info.folder,
        "decoding": info.decoding,
        "checksum": _checksum_of(info),
    }
    draft = place / _DRAFT
    draft.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
    os.replace(draft, place / _INFO)


def make_place(place: Path) -> None:
    """Make the folder of an index.

    Raises:
        IndexFolderError: it cannot be made, or holds other things than an index.
    """
    try:
        if place.is_dir():
            if not _is_ours(place):
                raise IndexFolderError(
                    f"{place} holds other things than an index; give an empty or new folder with --index"
                )
            if (place / LOCK).is_symlink():
                (place / LOCK).unlink()
            elif (place / LOCK).is_dir():
                # Only if it is empty, as that of damage is; so with the others.
                (place / LOCK).rmdir()
        elif place.is_file() and not place.stat().st_size:
            place.unlink()
        place.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise IndexFolderError(
            f"cannot make the index folder {place}: it is a file; move it away, or give a folder with --index"
        ) from error
    except OSError as error:
        raise IndexFolderError(
            f"cannot make the index folder {place}: {error.strerror}; give a folder that you can write to with --index"
        ) from error


def remove_info(place: Path) -> None:
    """Make a folder no index, by taking its `index.json` away."""
    for name in (_INFO, _DRAFT):
        path = place / name
        if path.is_dir() and not path.is_symlink():
            path.rmdir()
        else:
            path.unlink(missing_ok=True)


def _is_ours(place: Path) -> bool:
    """Whether a folder holds nothing but what an index leaves there, whole or not; hidden files do not count."""
    names = {name for name in os.listdir(place) if not name.startswith(".")}
    if not names <= {_INFO, _DRAFT, LOCK, TABLE_FOLDER}:
        return False
    if names != {_INFO} or (place / _INFO).is_dir():
        return True
    # Many programs have a file of that name, but none a folder of this one.
    try:
        return "fingerprint" in load_json(place / _INFO) or place.name == DEFAULT_NAME
    except (ValueError, TypeError):
        return place.name == DEFAULT_NAME


def _checksum_of(info: Info) -> str:
    # Of what nobody has a reason to change by hand; the rest is checked by its values.
    value = json.dumps([info.model, info.fingerprint, info.dim, info.folder])
    return hashlib.blake2b(value.encode(), digest_size=8).hexdigest()
