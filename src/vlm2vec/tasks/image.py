"""How do the rows of picture tasks become queries and candidates? One parser a form.

In MMEB a row is one query with its own list of candidates, the first of which is right. Every string is the published
one (TIGER-AI-Lab/VLM2Vec at commit 6e1e1d4, and for the form "image" at 2a14158, src/dataset.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

from vlm2vec.data.tables import TableName
from vlm2vec.documents import parse_json
from vlm2vec.errors import DataError, MediaError
from vlm2vec.items import MEDIA_MARKER, Image, Item
from vlm2vec.tasks.data import TaskData, TaskParser
from vlm2vec.tasks.reading import TaskReader, TaskRow, composed, plain

_TOKEN = "<|image_1|>"
"""Stands for the picture in the published columns."""

_TYPED_TOKEN = "<|image_pad|>"
"""Stands in the published strings where no picture goes with the text."""

_POOLS = "cand_pool/local"
"""Folder of the tasks' own pools."""


@dataclass(frozen=True, kw_only=True)
class _ImageParser(TaskParser):
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
            if self.target == "text":
                pool = [reader.candidate(row, column, text, text) for text in row.texts(column)]
            else:
                pool = self._pictures(reader, row)
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


@dataclass(frozen=True, kw_only=True)
class _InstructedParser(TaskParser):
    """Reads a picture task with the columns of TIGER-Lab/MMEB-eval, whose texts hold everything.

    Each text holds its instruction, and `<|image_1|>` where the picture stands. As in VLM2Vec's first version with
    Qwen2-VL, a text is taken as it is with its own visual token in that place, and a candidate is one by its text and
    picture together.
    """

    def parse(self, reader: TaskReader) -> TaskData:
        for row in reader.rows():
            query = self._item(reader, row, "qry_text", row.text("qry_text"), "qry_img_path", row.text("qry_img_path"))
            if not query.verbatim:
                raise row.wrong("qry_text", "is empty, and no picture goes with it: a query must hold something")
            texts, paths = row.texts("tgt_text"), row.texts("tgt_img_path")
            if not texts:
                raise row.wrong("tgt_text", "is empty: it must list candidates, the right one first")
            if len(texts) != len(paths):
                raise _unequal(row, texts, paths)
            pool = []
            for text, path in zip(texts, paths, strict=True):
                item = self._item(reader, row, "tgt_text", text, "tgt_img_path", path)
                name = (f"{path}:{item.text}" if item.text else path) if path else text
                pool.append(reader.candidate(row, "tgt_text", name, item))
            reader.query(row, query, pool[:1], pool=pool, column="tgt_text")
        return reader.data()

    def _item(self, reader: TaskReader, row: TaskRow, column: str, text: str, path_column: str, path: str) -> Item:
        if not path:
            if _TOKEN in text:
                side = "query" if column == "qry_text" else "candidate"
                reader.warn(row, column, f"{_TOKEN} stands in a {side} without picture; it stays text")
            return Item(text.replace(_TOKEN, "").strip(), (), "", text.replace(_TOKEN, _TYPED_TOKEN))
        if text.count(_TOKEN) != 1:
            found = f"holds {_TOKEN} {text.count(_TOKEN)} times beside a picture"
            raise row.wrong(column, f"{found}: it must hold it once, in its place")
        picture = reader.picture(row, path_column, path)
        return Item(text.replace(_TOKEN, "").strip(), (picture,), "", text.replace(_TOKEN, MEDIA_MARKER))


@dataclass(frozen=True, kw_only=True)
class _MBeirParser(TaskParser):
    """Reads a task of TIGER-Lab/M-BEIR, whose files lie as they are there: every query seeks candidates of its pool.

    What is not VLM2Vec's is read as UniIR reads it (TIGER-AI-Lab/UniIR at commit 1017242, src/data/mbeir_dataset.py):
    texts become sentences, and a query is its instruction with its words behind it. Two candidates of one id are an
    error.

    Args:
        query: what its queries consist of; the instruction is one for such queries alone.
        candidates: file of the candidates, without its ending.
        target_instruction: of candidates that have a picture.
    """

    query: Literal["text", "image", "image,text"]
    candidates: str
    target_instruction: str = ""

    def tables(self, own: TableName) -> list[TableName]:
        return [own, own._replace(config=_POOLS, split=self.candidates)]

    def parse(self, reader: TaskReader) -> TaskData:
        known: set[str] = set()
        pool = reader.open(_POOLS, self.candidates)
        for row in reader.scan(pool, ("did", "txt", "img_path")):
            known.add(self._candidate(reader, row, known))
        for row in reader.rows():
            labels = row.texts("pos_cand_list")
            if not labels:
                raise row.wrong("pos_cand_list", "is empty: it must name a right candidate")
            found = [label for label in labels if label in known]
            if not found:
                reader.warn(row, "pos_cand_list", "no right candidate is in the pool, so that no answer is right")
            elif len(found) < len(labels):
                reader.warn(row, "pos_cand_list", "a right candidate is not in the pool; it is never found")
            modality = row.text("query_modality")
            if modality != self.query:
                problem = f"is {modality!r}: the task's instruction is for queries of {self.query!r}"
                raise row.wrong("query_modality", problem)
            text = _words(row.text("query_txt", nullable=True))
            if "text" in modality and not text.strip():
                raise row.wrong("query_txt", f"is empty: a query of {modality!r} must hold words")
            picture = self._picture(reader, row, "query_img_path", needed="image" in modality)
            query = composed(reader.spec.instruction, text, picture)
            reader.query(row, query, labels, column="pos_cand_list", name=row.text("qid"))
        return reader.data()

    def _candidate(self, reader: TaskReader, row: TaskRow, known: set[str]) -> str:
        did = row.text("did")
        if did in known:
            problem = f"is {did!r}, as that of an earlier candidate: give every candidate an id of its own"
            raise row.wrong("did", problem)
        text = _sentence(row.text("txt", nullable=True))
        picture = self._picture(reader, row, "img_path")
        if not text and picture is None:
            raise row.wrong("txt", "is empty, and no picture goes with it: a candidate must hold something")
        item = plain(text) if picture is None else composed(self.target_instruction, text, picture)
        return reader.candidate(row, "did", did, item)

    @staticmethod
    def _picture(reader: TaskReader, row: TaskRow, column: str, *, needed: bool = False) -> Image | None:
        path = row.text(column, nullable=True)
        return reader.picture(row, column, path) if path or needed else None


@dataclass(frozen=True, kw_only=True)
class _CaptionParser(TaskParser):
    """Reads a task of pictures and their captions, of which one seeks the other.

    A picture is found if any of its captions is among the first k, as the publications of CLIP and its successors
    count it. A candidate caption is one by its text, whichever pictures it is of.

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
            named = row.text(self.picture)
            file = self.file.format(row=row.position) if self.file else named
            path = f"{row.text(self.folder)}/{file}" if self.folder and file else file
            captions = self._captions(row)
            if self.may_lack and not reader.has_picture(path):
                reader.warn(row, self.picture, "the picture is not in place, so the row is left out")
                lacking.append(path)
                continue
            found = True
            picture = reader.picture(row, self.picture, path)
            if self.query == "picture":
                labels = [reader.candidate(row, self.captions, text, text) for text in captions]
                query = composed(reader.spec.instruction, medium=picture)
                reader.query(row, query, labels, column=self.captions, name=path)
            else:
                sought = composed(self.target_instruction, medium=picture)
                label = reader.candidate(row, self.picture, path, sought)
                for text in captions:
                    if not reader.full:
                        query = composed(reader.spec.instruction, text) if reader.spec.instruction else plain(text)
                        reader.query(row, query, [label], column=self.picture)
        if lacking and not found:
            folder = reader.root / reader.spec.media_dir
            raise MediaError(
                f"{reader.spec.name}: none of its {len(lacking):,} pictures is in {folder}, neither {lacking[0]} nor "
                "any other: put them there as docs/benchmark_data.md says"
            )
        return reader.data()

    def _captions(self, row: TaskRow) -> list[str]:
        if self.several:
            captions = [_caption(row, self.captions, entry) for entry in _entries(row, self.captions)[: self.most]]
        else:
            captions = [row.text(self.captions)]
        if not captions or not all(caption.strip() for caption in captions):
            raise row.wrong(self.captions, "is empty or holds an empty caption: a picture must have captions")
        return captions


PARSERS: Mapping[str, type[TaskParser]] = {
    "image": _ImageParser,
    "instructed": _InstructedParser,
    "m-beir": _MBeirParser,
    "captions": _CaptionParser,
}
"""Each form by the name that a benchmark's table gives it."""


def _unequal(row: TaskRow, texts: list[str], paths: list[str]) -> DataError:
    """The error for a row whose candidates have other numbers of texts and pictures."""
    return row.wrong("tgt_text", f"has {len(texts)} entries but 'tgt_img_path' has {len(paths)}: give one for each")


def _picture_item(reader: TaskReader, row: TaskRow, path: str, instruction: str, text: str, verbatim: str) -> Item:
    return Item(text, (reader.picture(row, "tgt_img_path", path),), instruction, verbatim)


def _joined(body: str) -> str:
    """Put the picture in front; no space stays before a line's end, as published."""
    return f"{MEDIA_MARKER} {body}".replace(" \n", "\n")


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
    return replace(row, values=entry).text("raw") if isinstance(entry, dict) else row.checked(entry, column)


def _words(text: str) -> str:
    """Words that stand behind an instruction: as UniIR ends a sentence."""
    ended = text.replace("\r", "").rstrip().rstrip('"')
    return f"{ended}." if ended and ended[-1] not in ".?!" else ended


def _sentence(text: str) -> str:
    """A text as UniIR gives it to its models: without quotes around it, with a capital and an end."""
    whole = _words(text.strip().lstrip('"'))
    return whole[:1].upper() + whole[1:]
