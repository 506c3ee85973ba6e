"""What does the `index.json` of an index that LanceDB keeps say?"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, Field, ValidationError

from vlm2vec.documents import parse_json
from vlm2vec.errors import IndexFolderError
from vlm2vec.files import reason
from vlm2vec.search.store import IndexInfo
from vlm2vec.search.stores.place import DRAFT, INFO, TABLE

_FORMAT = 1
_MOST_BYTES = 1 << 20
_MOST_DIMENSIONS = 1 << 20


def _without_nul(path: str) -> str:
    if "\0" in path:
        raise ValueError("no path holds a NUL")
    return path


class InfoDocument(BaseModel, strict=True):
    """`index.json` of format 1.

    Args:
        store: "lance" where LanceDB was asked for; None: made when there was no other store.
        checksum: of what nobody has a reason to change by hand; the rest is checked by its values.
    """

    format: Literal[1]
    model: str
    fingerprint: str
    dim: int = Field(gt=0, le=_MOST_DIMENSIONS)
    dtype: Literal["float32", "bfloat16", "float16"] | None = None
    folder: Annotated[str, AfterValidator(_without_nul)]
    decoding: int = Field(default=1, gt=0)
    store: Literal["lance"] | None = None
    checksum: str | None = None

    @property
    def info(self) -> IndexInfo:
        """What the store says of itself."""
        return IndexInfo(self.model, self.fingerprint, self.dim, self.dtype, self.folder, self.decoding)


def read_info(place: Path) -> InfoDocument:
    """Read `index.json`.

    Raises:
        IndexFolderError: there is none, it is damaged, of a newer format, of another program, or may not be read.
    """
    damaged = f"the index {place} is damaged: its {INFO}"
    try:
        with (place / INFO).open("rb") as stream:
            content = stream.read(_MOST_BYTES + 1)
        if len(content) > _MOST_BYTES:
            raise ValueError("it is too long")
        value = parse_json(content)
    except FileNotFoundError:
        raise IndexFolderError(f"there is no index at {place}", "make_index") from None
    except PermissionError as error:
        raise IndexFolderError(
            f"the index {place} cannot be read: {reason(error)}; allow this user to read it", "other_index"
        ) from error
    except (OSError, ValueError) as error:
        raise IndexFolderError(f"{damaged} cannot be read ({error})", "rebuild") from error
    version = value.get("format") if isinstance(value, dict) else None
    if isinstance(version, int) and version > _FORMAT:
        raise IndexFolderError(
            f"the index {place} has format {version}, and this version of vlm2vec knows up to {_FORMAT}; use a newer "
            "vlm2vec",
            "rebuild",
        )
    try:
        document = InfoDocument.model_validate(value)
    except ValidationError as error:
        if not (place / TABLE).exists():
            raise IndexFolderError(f"{place} is no index: its {INFO} is another program's", "other_index") from error
        first = error.errors()[0]
        where = f" at {first['loc'][0]}" if first["loc"] else ""
        raise IndexFolderError(f"{damaged} is none{where}: {first['msg']}", "rebuild") from error
    if "checksum" in value and document.checksum != _checksum_of(document.info):
        raise IndexFolderError(f"{damaged} is not as it was written", "rebuild")
    return document


def write_info(place: Path, info: IndexInfo, store: Literal["lance"] | None = "lance") -> None:
    """Write `index.json` in one step."""
    value = {"format": _FORMAT, **asdict(info), "store": store, "checksum": _checksum_of(info)}
    draft = place / (INFO + DRAFT)
    draft.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
    os.replace(draft, place / INFO)


def _checksum_of(info: IndexInfo) -> str:
    value = json.dumps([info.model, info.fingerprint, info.dim, info.folder])
    return hashlib.blake2b(value.encode(), digest_size=8).hexdigest()
