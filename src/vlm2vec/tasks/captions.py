"""How do pictures and their captions become a task in which one seeks the other?

A picture is found if any of its captions is among the first k, as the publications of CLIP and its successors count it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from vlm2vec.items import Image
from vlm2vec.tasks.data import TaskData
from vlm2vec.tasks.reading import TaskReader, TaskRow, composed, plain


@dataclass(frozen=True, slots=True)
class CaptionOptions:
    """Where pictures and captions are, and which of them asks.

    Args:
        query: what seeks the other.
        picture: column of the picture's file.
        captions: column of its captions: texts, or objects with the text `raw`.
        folder: column of the folder that the file is in; None: the media folder itself.
        most: only the first so many captions of a picture belong to the task.
        several: a row has a list of captions, else one.
        target_instruction: of pictures that are sought.
    """

    query: Literal["picture", "caption"]
    picture: str = "filename"
    captions: str = "captions"
    folder: str | None = None
    most: int = 5
    several: bool = True
    target_instruction: str = ""


def parse_captions(reader: TaskReader, options: CaptionOptions) -> TaskData:
    """Read a task of pictures and captions. A candidate caption is one by its text, whichever pictures it is of.

    Raises:
        ConfigError: a row is malformed; MediaError: a picture is missing.
    """
    for row in reader.rows():
        file = row.text(options.picture)
        path = f"{row.text(options.folder)}/{file}" if options.folder and file else file
        picture = reader.picture(row, options.picture, path)
        captions = _captions(row, options)
        if options.query == "picture":
            labels = [reader.candidate(row, options.captions, text, text, plain) for text in captions]
            query = composed(reader.instruction, medium=picture)
            reader.query(row, query, labels, column=options.captions, name=path)
        else:
            label = _candidate(reader, row, options, path, picture)
            for text in captions:
                if not reader.full:
                    query = composed(reader.instruction, text) if reader.instruction else plain(text)
                    reader.query(row, query, [label], column=options.picture)
    return reader.data()


def _candidate(reader: TaskReader, row: TaskRow, options: CaptionOptions, path: str, picture: Image) -> str:
    item = composed(options.target_instruction, medium=picture)
    return reader.candidate(row, options.picture, path, item.verbatim or "", lambda verbatim: item)


def _captions(row: TaskRow, options: CaptionOptions) -> list[str]:
    if options.several:
        captions = [_caption(row, options.captions, entry) for entry in row.entries(options.captions)[: options.most]]
    else:
        captions = [row.text(options.captions)]
    if not captions or not all(caption.strip() for caption in captions):
        raise row.wrong(options.captions, "is empty or holds an empty caption: a picture must have captions")
    return captions


def _caption(row: TaskRow, column: str, entry: object) -> str:
    """A caption as a text, or as Karpathy's files hold it."""
    if isinstance(entry, dict):
        return replace(row, values=entry).text("raw")
    return replace(row, values={column: entry}).text(column)
