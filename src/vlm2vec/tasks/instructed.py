"""How do the rows of MMEB's first form become queries and candidates?

Columns are those of TIGER-Lab/MMEB-eval: each text holds its instruction, and `<|image_1|>` where the picture stands.
The first candidate is right. As in VLM2Vec's first version with Qwen2-VL, a text is taken as it is with its own visual
token in that place, and a candidate is one by its text and picture together (TIGER-AI-Lab/VLM2Vec at commit 2a14158,
src/dataset.py).
"""

from __future__ import annotations

from vlm2vec.items import MEDIA_MARKER, Item
from vlm2vec.tasks.data import TaskData, TaskParser
from vlm2vec.tasks.image import TOKEN, TYPED_TOKEN, unequal
from vlm2vec.tasks.reading import TaskReader, TaskRow


class InstructedParser(TaskParser):
    """Reads a task whose rows hold whole texts. There are no options: a row says everything itself."""

    def parse(self, reader: TaskReader) -> TaskData:
        for row in reader.rows():
            query = _item(reader, row, "qry_text", row.text("qry_text"), "qry_img_path", row.text("qry_img_path"))
            if not query.verbatim:
                raise row.wrong("qry_text", "is empty, and no picture goes with it: a query must hold something")
            texts, paths = row.texts("tgt_text"), row.texts("tgt_img_path")
            if not texts:
                raise row.wrong("tgt_text", "is empty: it must list candidates, the right one first")
            if len(texts) != len(paths):
                raise unequal(row, texts, paths)
            pool = [_candidate(reader, row, text, path) for text, path in zip(texts, paths, strict=True)]
            reader.query(row, query, pool[:1], pool=pool, column="tgt_text")
        return reader.data()


def _candidate(reader: TaskReader, row: TaskRow, text: str, path: str) -> str:
    item = _item(reader, row, "tgt_text", text, "tgt_img_path", path)
    name = (f"{path}:{item.text}" if item.text else path) if path else text
    return reader.candidate(row, "tgt_text", name, item.verbatim or "", lambda verbatim: item)


def _item(reader: TaskReader, row: TaskRow, column: str, text: str, path_column: str, path: str) -> Item:
    if not path:
        if TOKEN in text:
            side = "query" if column == "qry_text" else "candidate"
            reader.warn(row, column, f"{TOKEN} stands in a {side} without picture; it stays text")
        return Item(text.replace(TOKEN, "").strip(), (), "", text.replace(TOKEN, TYPED_TOKEN))
    if text.count(TOKEN) != 1:
        raise row.wrong(
            column, f"holds {TOKEN} {text.count(TOKEN)} times beside a picture: it must hold it once, in its place"
        )
    picture = reader.picture(row, path_column, path)
    return Item(text.replace(TOKEN, "").strip(), (picture,), "", text.replace(TOKEN, MEDIA_MARKER))
