"""How do pictures and their captions become a task in which one seeks the other?

A picture is found if any of its captions is among the first k, as the publications of CLIP and its successors count it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from vlm2vec.documents import parse_json
from vlm2vec.errors import MediaError
from vlm2vec.items import Image
from vlm2vec.tasks.data import TaskData, TaskParser
from vlm2vec.tasks.reading import TaskReader, TaskRow, composed, plain


class CaptionParser(TaskParser):
    """Reads a task of pictures and captions. A candidate caption is one by its text, whichever pictures it is of.

    Pictures that may be missing are an error if all of them are.

    Args:
        query: what seeks the other.
        picture: column that says which picture it is.
        file: name of the picture's file by its row, whose number in the split, from 0, stands for `{row}`; None: the
            column of the picture holds it.
        may_lack: leave out rows whose picture is not in place, as long as one is.
        captions: column of its captions: texts, or objects with the text `raw`.
        folder: column of the folder that the file is in; None: the media folder itself.
        most: only the first so many captions of a picture belong to the task.
        several: a row has a list of captions, which may be written as JSON; else one.
        target_instruction: of pictures that are sought.
    """

    query: Literal["picture", "caption"]
    picture: str = "filename"
    file: str | None = None
    may_lack: bool = False
    captions: str = "captions"
    folder: str | None = None
    most: int = 5
    several: bool = True
    target_instruction: str = ""

    def parse(self, reader: TaskReader) -> TaskData:
        lacking, found = list[str](), False
        for row in reader.rows():
            path, captions = self._path(row), self._captions(row)
            if self.may_lack and not reader.has_picture(path):
                reader.warn(row, self.picture, "the picture is not in place, so the row is left out")
                lacking.append(path)
                continue
            found = True
            picture = reader.picture(row, self.picture, path)
            if self.query == "picture":
                labels = [reader.candidate(row, self.captions, text, text, plain) for text in captions]
                query = composed(reader.instruction, medium=picture)
                reader.query(row, query, labels, column=self.captions, name=path)
            else:
                label = self._candidate(reader, row, path, picture)
                for text in captions:
                    if not reader.full:
                        query = composed(reader.instruction, text) if reader.instruction else plain(text)
                        reader.query(row, query, [label], column=self.picture)
        if lacking and not found:
            raise MediaError(
                f"{reader.task}: none of its {len(lacking):,} pictures is in {reader.root / reader.media_dir}, neither "
                f"{lacking[0]} nor any other: put them there as docs/benchmark_data.md says"
            )
        return reader.data()

    def _path(self, row: TaskRow) -> str:
        named = row.text(self.picture)
        file = self.file.format(row=row.position) if self.file else named
        return f"{row.text(self.folder)}/{file}" if self.folder and file else file

    def _candidate(self, reader: TaskReader, row: TaskRow, path: str, picture: Image) -> str:
        item = composed(self.target_instruction, medium=picture)
        return reader.candidate(row, self.picture, path, item.verbatim or "", lambda verbatim: item)

    def _captions(self, row: TaskRow) -> list[str]:
        if self.several:
            captions = [_caption(row, self.captions, entry) for entry in _entries(row, self.captions)[: self.most]]
        else:
            captions = [row.text(self.captions)]
        if not captions or not all(caption.strip() for caption in captions):
            raise row.wrong(self.captions, "is empty or holds an empty caption: a picture must have captions")
        return captions


def _entries(row: TaskRow, column: str) -> list[object]:
    """A list, or the JSON of one, which is what a table in CSV holds."""
    written = row.values.get(column)
    if not isinstance(written, str):
        return row.entries(column)
    try:
        entries = parse_json(written)
    except ValueError as error:
        raise row.wrong(column, f"is a text, but not the JSON of a list: {error}") from None
    return replace(row, values={column: entries}).entries(column)


def _caption(row: TaskRow, column: str, entry: object) -> str:
    """A caption as a text, or as Karpathy's files hold it."""
    if isinstance(entry, dict):
        return replace(row, values=entry).text("raw")
    return replace(row, values={column: entry}).text(column)
