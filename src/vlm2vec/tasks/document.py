"""How do questions and pages in the tables of a BEIR-like data set become queries and candidates?"""

from __future__ import annotations

import os.path
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Literal, overload

import PIL.ExifTags
import PIL.Image

from vlm2vec.data.records import Columns, check_inside
from vlm2vec.data.tables import Table, TableName
from vlm2vec.errors import DataError, MediaError
from vlm2vec.items import Image, Item
from vlm2vec.media.image import open_image, open_picture, upright
from vlm2vec.media.source import DEFAULT_LIMITS
from vlm2vec.tasks.data import TaskData, TaskParser
from vlm2vec.tasks.reading import TaskReader, composed


@dataclass(frozen=True, kw_only=True)
class _PageParser(TaskParser):
    """Reads a task of the tables `queries`, `corpus` and `qrels`.

    Candidates are the right pages of the queries in their order, then the rest of the corpus. Pages are read from the
    table when they are asked for. A query without a right page, and a right page that is not in the corpus, are errors.

    Args:
        target_instruction: of the pages.
        saved_as: the published evaluation writes each page to a file and reads it back: a "png", which changes no
            pixel, or "by-id", in the format that the ending of the page's id names, which may be a lossy one.
    """

    target_instruction: str
    saved_as: Literal["png", "by-id"] = "png"

    def tables(self, own: TableName) -> list[TableName]:
        return [own._replace(config=config) for config in ("corpus", "qrels", "queries")]

    def parse(self, reader: TaskReader) -> TaskData:
        table = reader.open("corpus")
        rows: dict[str, int] = {}
        for number, row in enumerate(reader.scan(table, ("corpus-id",))):
            page = row.key("corpus-id")
            if self.saved_as == "by-id" and (_format(page) is None or "/" in page):
                raise row.wrong("corpus-id", f"is {page!r}: it must be a file name with the ending of a picture format")
            if rows.setdefault(page, number) != number:
                reader.warn(row, "corpus-id", "a page occurs twice; the first one is taken")
        grades: dict[str, dict[str, int]] = {}
        for row in reader.scan(reader.open("qrels"), ("query-id", "corpus-id", "score")):
            query, page, score = row.key("query-id"), row.key("corpus-id"), row.number("score")
            if score <= 0:
                continue
            if page not in rows:
                raise row.wrong("corpus-id", f"is {page!r}, which is not in the corpus")
            of_query = grades.setdefault(query, {})
            of_query[page] = max(score, of_query.get(page, score))
        names: dict[str, None] = {}
        for row in reader.rows("queries"):
            query = row.key("query-id")
            if query not in grades:
                raise row.wrong("query-id", f"is {query!r}, for which 'qrels' has no page with a score above 0")
            names |= dict.fromkeys(grades[query])
            item = composed(reader.spec.instruction, row.text("query"))
            reader.query(row, item, grades[query], column="query-id", name=query)
        names |= dict.fromkeys(rows)
        pages = Pages(table, tuple(names), tuple(rows[name] for name in names), reader.root, self, reader.allow_outside)
        return reader.data((pages.names, pages))


PARSERS: Mapping[str, type[TaskParser]] = {"pages": _PageParser}
"""Each form by the name that a benchmark's table gives it."""


@dataclass(frozen=True, slots=True, eq=False)
class Pages(Sequence[Item]):
    """The pages of a corpus, each read from its table when it is asked for; can be pickled.

    Args:
        names, rows: ids of the pages, and their rows in the table.
        root: what paths in the table are relative to, where it holds no bytes.
        parser: says how the task gives its pages.
        allow_outside: the table may name files outside of the root.
    """

    table: Table
    names: tuple[str, ...]
    rows: tuple[int, ...]
    root: Path
    parser: _PageParser
    allow_outside: bool = False

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, index: int, /) -> Item: ...

    @overload
    def __getitem__(self, index: slice, /) -> list[Item]: ...

    def __getitem__(self, index: int | slice, /) -> Item | list[Item]:
        """Read a page.

        Raises:
            DataError: the table holds no picture, or names a file outside of the root, which is not allowed.
            MediaError: there is no such file, or it cannot be written as published.
        """
        if isinstance(index, slice):
            return [self[position] for position in range(len(self))[index]]
        name, where = self.names[index], self.where(index)
        source = self._stored(Columns(self.table[self.rows[index]], where))
        source = _as_saved(source, (_format(name) or "PNG") if self.parser.saved_as == "by-id" else "PNG", where)
        return composed(self.parser.target_instruction, medium=Image(source, as_stored=True))

    def where(self, index: int) -> str:
        """Which row of the table a page is, for messages."""
        return self.table.name(self.rows[index])

    def _stored(self, row: Columns) -> Path | bytes:
        picture = row.picture("image")
        if isinstance(picture, bytes):
            return picture
        path = self.root / picture
        if not self.allow_outside:
            try:
                check_inside(path, (self.root,), "allow_outside")
            except DataError as error:
                raise error.of(f"{row.origin}: column 'image'") from None
        if not path.is_file():
            raise MediaError(f"{row.origin}: column 'image' names {picture!r}, which is not in {self.root}")
        return path


def _as_saved(source: Path | bytes, form: str, where: str) -> Path | bytes:
    """A picture with the pixels that it has after the published evaluation saved it in this format.

    The library `datasets`, which read it there, turns a picture by its EXIF orientation. Lossy formats give the same
    pixels only with the same libraries (JPEG: quality 75, Pillow's default).
    """
    try:
        with open_picture(source, DEFAULT_LIMITS) as picture:
            orientation = picture.getexif().get(PIL.ExifTags.Base.Orientation, 1)
        if form == "PNG" and orientation == 1:
            return source
        buffer = BytesIO()
        upright(open_image(Image(source, as_stored=True)), orientation).save(buffer, form)
    except MediaError as error:
        raise error.of(where) from None
    except (OSError, ValueError) as error:
        raise MediaError(f"{where}: the page cannot be written as {form}, as its id's ending asks: {error}") from None
    return buffer.getvalue()


def _format(page: str) -> str | None:
    """The format that the ending of a page's id names."""
    return PIL.Image.registered_extensions().get(os.path.splitext(page)[1].lower())
