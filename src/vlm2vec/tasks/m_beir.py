"""How do the queries and candidates of M-BEIR become those of a task?

The files are those of TIGER-Lab/M-BEIR as they lie there. What is not VLM2Vec's is read as UniIR reads it
(TIGER-AI-Lab/UniIR at commit 1017242, src/data/mbeir_dataset.py): texts become sentences, and a query is its
instruction with its words behind it.
"""

from __future__ import annotations

from typing import Literal

from vlm2vec.data.tables import TableName
from vlm2vec.items import Image
from vlm2vec.tasks.data import TaskData, TaskParser
from vlm2vec.tasks.reading import TaskReader, TaskRow, composed, plain

_POOLS = "cand_pool/local"
"""Folder of the tasks' own pools."""


class MBeirParser(TaskParser):
    """Reads a task in which every query seeks candidates of its pool. Two candidates of one id are an error.

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
            known.add(_candidate(reader, row, self.target_instruction, known))
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
                raise row.wrong(
                    "query_modality", f"is {modality!r}: the task's instruction is for queries of {self.query!r}"
                )
            text = _words(row.text("query_txt", nullable=True))
            if "text" in modality and not text.strip():
                raise row.wrong("query_txt", f"is empty: a query of {modality!r} must hold words")
            picture = _picture(reader, row, "query_img_path", needed="image" in modality)
            query = composed(reader.instruction, text, picture)
            reader.query(row, query, labels, column="pos_cand_list", name=row.text("qid"))
        return reader.data()


def _candidate(reader: TaskReader, row: TaskRow, instruction: str, known: set[str]) -> str:
    did = row.text("did")
    if did in known:
        raise row.wrong("did", f"is {did!r}, as that of an earlier candidate: give every candidate an id of its own")
    text = _sentence(row.text("txt", nullable=True))
    picture = _picture(reader, row, "img_path")
    if not text and picture is None:
        raise row.wrong("txt", "is empty, and no picture goes with it: a candidate must hold something")
    item = plain(text) if picture is None else composed(instruction, text, picture)
    return reader.candidate(row, "did", did, item.verbatim or "", lambda verbatim: item)


def _picture(reader: TaskReader, row: TaskRow, column: str, *, needed: bool = False) -> Image | None:
    path = row.text(column, nullable=True)
    return reader.picture(row, column, path) if path or needed else None


def _words(text: str) -> str:
    """Words that stand behind an instruction: as UniIR ends a sentence."""
    ended = text.replace("\r", "").rstrip().rstrip('"')
    return f"{ended}." if ended and ended[-1] not in ".?!" else ended


def _sentence(text: str) -> str:
    """A text as UniIR gives it to its models: without quotes around it, with a capital and an end."""
    whole = _words(text.strip().lstrip('"'))
    return whole[:1].upper() + whole[1:]
