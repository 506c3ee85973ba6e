"""How do the rows of MMEB's picture tasks become queries and candidates? One parser for each of its two forms.

A row is one query with its own list of candidates, the first of which is right. Every string is the published one
(TIGER-AI-Lab/VLM2Vec at commit 6e1e1d4, and for the first form at 2a14158, src/dataset.py).
"""

from __future__ import annotations

from functools import partial
from typing import Literal

from vlm2vec.errors import DataError
from vlm2vec.items import MEDIA_MARKER, Item
from vlm2vec.tasks.data import TaskData, TaskParser
from vlm2vec.tasks.reading import TaskReader, TaskRow, plain

_TOKEN = "<|image_1|>"
"""Stands for the picture in the published columns."""

_TYPED_TOKEN = "<|image_pad|>"
"""Stands in the published strings where no picture goes with the text."""


class ImageParser(TaskParser):
    """Reads a picture task with the columns of ziyjiang/MMEB_Test_Instruct.

    Args:
        query: a "picture" with its instruction; a picture with a "question", whose instruction stands alone on a new
            line; or a "text".
        target: a "text"; a "picture", identified by its file; or a "region" or edit, identified by file and caption.
        query_end: what a text query ends in.
    """

    query: Literal["picture", "question", "text"]
    target: Literal["text", "picture", "region"]
    query_end: str = "\n"

    def parse(self, reader: TaskReader) -> TaskData:
        for row in reader.rows():
            query = self._text_query(reader, row) if self.query == "text" else self._picture_query(reader, row)
            column = "tgt_text" if self.target == "text" else "tgt_img_path"
            pool = _texts(reader, row) if self.target == "text" else self._pictures(reader, row)
            if not pool:
                raise row.wrong(column, "is empty: it must list candidates, the right one first")
            reader.query(row, query, pool[:1], pool=pool, column=column)
        return reader.data()

    def _picture_query(self, reader: TaskReader, row: TaskRow) -> Item:
        instruction = row.text("qry_inst").replace(_TOKEN, "")
        text = row.text("qry_text", nullable=True)
        body = "\n" + instruction.strip() if self.query == "question" else instruction
        whole = _joined(f"{body} {text}" if text else body) + "\n"
        picture = reader.picture(row, "qry_img_path", row.text("qry_img_path"))
        return Item(text.strip(), (picture,), instruction.strip(), whole)

    def _text_query(self, reader: TaskReader, row: TaskRow) -> Item:
        instruction, text = row.text("qry_inst"), row.text("qry_text")
        if _TOKEN in instruction:
            reader.warn(row, "qry_inst", f"{_TOKEN} stands in a query without picture; it stays text")
        whole = f"{instruction.replace(_TOKEN, _TYPED_TOKEN)} {text}{self.query_end}"
        return Item(text.strip(), (), instruction.replace(_TOKEN, "").strip(), whole)

    def _pictures(self, reader: TaskReader, row: TaskRow) -> list[str]:
        captions, paths = row.texts("tgt_text"), row.texts("tgt_img_path")
        if not captions:
            raise row.wrong("tgt_text", "is empty: it must hold a caption for each picture, or an empty text")
        # The publication looks at the first caption alone.
        captioned, region = bool(captions[0].strip()), self.target == "region"
        if len(captions) != len(paths) and (captioned or region):
            raise _unequal(row, captions, paths)
        instruction = row.text("tgt_inst").replace(_TOKEN, "")
        bare = _joined(instruction) + ("" if region else "\n")
        pool = []
        for number, path in enumerate(paths):
            caption = captions[number] if captioned or region else ""
            whole = _joined(f"{instruction} {caption}") + "\n" if captioned else bare
            make = partial(_picture_item, reader, row, path, instruction.strip(), caption.strip() if captioned else "")
            name = f"{path}:{caption.strip(chr(34))}" if region else path
            pool.append(reader.candidate(row, "tgt_img_path", name, whole, make))
        return pool


class InstructedParser(TaskParser):
    """Reads a picture task with the columns of TIGER-Lab/MMEB-eval, whose texts hold everything.

    Each text holds its instruction, and `<|image_1|>` where the picture stands. As in VLM2Vec's first version with
    Qwen2-VL, a text is taken as it is with its own visual token in that place, and a candidate is one by its text and
    picture together.
    """

    def parse(self, reader: TaskReader) -> TaskData:
        for row in reader.rows():
            query = _item(reader, row, "qry_text", row.text("qry_text"), "qry_img_path", row.text("qry_img_path"))
            if not query.verbatim:
                raise row.wrong("qry_text", "is empty, and no picture goes with it: a query must hold something")
            texts, paths = row.texts("tgt_text"), row.texts("tgt_img_path")
            if not texts:
                raise row.wrong("tgt_text", "is empty: it must list candidates, the right one first")
            if len(texts) != len(paths):
                raise _unequal(row, texts, paths)
            pool = [_candidate(reader, row, text, path) for text, path in zip(texts, paths, strict=True)]
            reader.query(row, query, pool[:1], pool=pool, column="tgt_text")
        return reader.data()


def _unequal(row: TaskRow, texts: list[str], paths: list[str]) -> DataError:
    """The error for a row whose candidates have other numbers of texts and pictures."""
    return row.wrong("tgt_text", f"has {len(texts)} entries but 'tgt_img_path' has {len(paths)}: give one for each")


def _texts(reader: TaskReader, row: TaskRow) -> list[str]:
    return [reader.candidate(row, "tgt_text", text, text, plain) for text in row.texts("tgt_text")]


def _picture_item(reader: TaskReader, row: TaskRow, path: str, instruction: str, text: str, verbatim: str) -> Item:
    return Item(text, (reader.picture(row, "tgt_img_path", path),), instruction, verbatim)


def _joined(body: str) -> str:
    """Put the picture in front; no space stays before a line's end, as published."""
    return f"{MEDIA_MARKER} {body}".replace(" \n", "\n")


def _candidate(reader: TaskReader, row: TaskRow, text: str, path: str) -> str:
    item = _item(reader, row, "tgt_text", text, "tgt_img_path", path)
    name = (f"{path}:{item.text}" if item.text else path) if path else text
    return reader.candidate(row, "tgt_text", name, item.verbatim or "", lambda verbatim: item)


def _item(reader: TaskReader, row: TaskRow, column: str, text: str, path_column: str, path: str) -> Item:
    if not path:
        if _TOKEN in text:
            side = "query" if column == "qry_text" else "candidate"
            reader.warn(row, column, f"{_TOKEN} stands in a {side} without picture; it stays text")
        return Item(text.replace(_TOKEN, "").strip(), (), "", text.replace(_TOKEN, _TYPED_TOKEN))
    if text.count(_TOKEN) != 1:
        raise row.wrong(
            column, f"holds {_TOKEN} {text.count(_TOKEN)} times beside a picture: it must hold it once, in its place"
        )
    picture = reader.picture(row, path_column, path)
    return Item(text.replace(_TOKEN, "").strip(), (picture,), "", text.replace(_TOKEN, MEDIA_MARKER))
