"""How are the benchmark's files written? Rows and pages as parquet, all pictures and frames in one pack."""

from __future__ import annotations

import io
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pyarrow
import pyarrow.parquet
from PIL import Image

Row = dict[str, object]

TARGET = Path(__file__).parents[2] / "src" / "vlm2vec" / "mmeb_mini"
SPLIT = "test"
_PAGE = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
_WHOLE_PAGE = 64 << 20
"""Bytes of a dictionary page: with the default of 1 MB, parquet would store equal frames again and again."""


class Pack:
    """Collects what the benchmark consists of; `write` puts it on disk."""

    def __init__(self) -> None:
        self.media: dict[str, bytes] = {}
        self.tables: dict[tuple[str, str], pyarrow.Table] = {}

    def picture(self, folder: str, name: str, image: Image.Image, quality: int = 82) -> str:
        """Take a picture; returns its path in the folder."""
        path = f"{name}.webp"
        self._take(f"{folder}/{path}", webp(image, quality))
        return path

    def frames(self, folder: str, images: Iterable[Image.Image], quality: int = 72) -> None:
        """Take the frames of a video."""
        self.files(folder, [webp(image, quality) for image in images])

    def files(self, folder: str, frames: Iterable[bytes]) -> None:
        """Take the frames of a video that are encoded already."""
        for number, data in enumerate(frames):
            self._take(f"{folder}/{number:02d}.webp", data)

    def rows(self, task: str, rows: Sequence[Mapping[str, object]], config: str = "default") -> None:
        """Take the annotations of a task."""
        self.tables[task, config] = pyarrow.Table.from_pylist(list(rows))

    def pages(
        self,
        task: str,
        pages: Sequence[tuple[str, bytes]],
        queries: Sequence[tuple[str, str, str]],
        **columns: list[str],
    ) -> None:
        """Take a document task.

        Args:
            task: its name.
            pages: ids and WebP files.
            queries: id, text, and id of the right page.
            columns: further columns of the queries, which no parser reads.
        """
        images = pyarrow.array([{"bytes": data, "path": None} for _, data in pages], _PAGE)
        self.tables[task, "corpus"] = pyarrow.table({"corpus-id": [name for name, _ in pages], "image": images})
        asked = {"query-id": [name for name, _, _ in queries], "query": [text for _, text, _ in queries]}
        self.tables[task, "queries"] = pyarrow.table(asked | columns)
        judged = [{"query-id": name, "corpus-id": page, "score": 1} for name, _, page in queries]
        self.rows(task, judged, "qrels")

    def write(self) -> None:
        """Replace the data in the package; cards and baselines beside them stay."""
        shutil.rmtree(TARGET / "annotations", ignore_errors=True)
        for (task, config), table in sorted(self.tables.items()):
            folder = TARGET / "annotations" / f"mmeb-mini__{task}" / config
            folder.mkdir(parents=True)
            _write(table, folder / f"{SPLIT}.parquet")
        paths = sorted(self.media)
        media = pyarrow.table({"path": paths, "bytes": pyarrow.array([self.media[path] for path in paths])})
        _write(media, TARGET / "media.parquet")

    def _take(self, path: str, data: bytes) -> None:
        if self.media.setdefault(path, data) != data:
            raise ValueError(f"two different files want to be {path}")


def image_row(
    instruction: str,
    *,
    text: str = "",
    picture: str = "",
    target_instruction: str = "",
    texts: Sequence[str] = (),
    pictures: Sequence[str] = (),
    concepts: Sequence[str] = (),
) -> Row:
    """A row of a picture task: the right candidate first. `concepts` is read by the tests alone."""
    return {
        "qry_inst": instruction,
        "qry_text": text,
        "qry_img_path": picture,
        "tgt_inst": target_instruction,
        "tgt_text": list(texts) or [""] * len(pictures),
        "tgt_img_path": list(pictures) or [""] * len(texts),
        "concepts": list(concepts),
    }


def webp(image: Image.Image, quality: int | None) -> bytes:
    """The picture as WebP; None: without loss."""
    buffer = io.BytesIO()
    if quality is None:
        # More effort takes fifty times as long and saves a thousandth.
        image.convert("RGB").save(buffer, "WEBP", lossless=True, quality=90, method=4)
    else:
        image.convert("RGB").save(buffer, "WEBP", quality=quality, method=6)
    return buffer.getvalue()


def slug(name: str) -> str:
    """A name as part of a path."""
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")


def first(right: str, others: Iterable[str]) -> list[str]:
    """The pool of a row: the right candidate, then all others in their order."""
    return [right, *(other for other in others if other != right)]


def _write(table: pyarrow.Table, path: Path) -> None:
    pyarrow.parquet.write_table(
        table,
        path,
        row_group_size=len(table),
        compression="zstd",
        compression_level=19,
        dictionary_pagesize_limit=_WHOLE_PAGE,
        write_batch_size=64,
        store_schema=False,
    )
