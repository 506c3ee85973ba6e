"""A miniature of each benchmark task in its real schema: two or three rows, tiny pictures and frames.

`write_fixture(spec, root)` writes annotations and media of one task under a data root, so that every task of a
benchmark can be parsed and run from one folder. Texts and colours differ between rows.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import PIL.Image
import pyarrow
import pyarrow.parquet

from vlm2vec.tasks.data import TaskParser, TaskSpec
from vlm2vec.tasks.document import _PageParser
from vlm2vec.tasks.image import _CaptionParser, _ImageParser, _InstructedParser, _MBeirParser
from vlm2vec.tasks.video import (
    _ChoiceParser,
    _ClipParser,
    _LabelParser,
    _ListedClipParser,
    _packaged_labels,
    _RetrievalParser,
)

Rows = Sequence[Mapping[str, object]]

COLOURS = ("red", "green", "blue")
CAPTIONED = {"WebQA", "EDIS", "OVEN", "RefCOCO-Matching"}
"""Tasks whose pictures come with a text."""


def write_rows(spec: TaskSpec, root: Path, rows: Rows, config: str | None = None) -> Path:
    """Put rows where the mirror has those of a task's configuration."""
    path = _place(spec, root, config).with_suffix(".jsonl")
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def write_corpus(spec: TaskSpec, root: Path, pages: Sequence[tuple[object, bytes | None]]) -> Path:
    """Put a corpus of ids and pictures where the mirror has it, as parquet with a column of pictures."""
    path = _place(spec, root, "corpus").with_suffix(".parquet")
    ids = [page for page, _ in pages]
    images = [{"bytes": data, "path": None} for _, data in pages]
    kind = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    pyarrow.parquet.write_table(pyarrow.table({"corpus-id": ids, "image": pyarrow.array(images, kind)}), path)
    return path


def write_pool(spec: TaskSpec, root: Path, rows: Rows) -> Path:
    """Put the candidates of a task of M-BEIR where the mirror has them."""
    assert isinstance(spec.parser, _MBeirParser)
    path = _place(spec, root, "cand_pool/local").with_name(f"{spec.parser.candidates}.jsonl")
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def write_picture(path: Path, colour: str) -> None:
    """A picture of one colour, with its folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.new("RGB", (16, 16), colour).save(path)


def write_frames(folder: Path, colour: str, count: int = 8) -> None:
    """A video of one colour."""
    for number in range(1, count + 1):
        write_picture(folder / f"frame_{number:04d}.png", colour)


def picture_bytes(colour: str, mode: str = "RGB", form: str = "PNG") -> bytes:
    """The bytes of a picture file."""
    buffer = io.BytesIO()
    PIL.Image.new("RGB", (24, 32), colour).convert(mode).save(buffer, form)
    return buffer.getvalue()


def write_fixture(spec: TaskSpec, root: Path) -> None:
    """Write annotations and media of a task."""
    _WRITERS[type(spec.parser)](spec, root, root / spec.media_dir)


def _place(spec: TaskSpec, root: Path, config: str | None) -> Path:
    folder = root / "annotations" / spec.source.dataset.replace("/", "__") / (config or spec.source.config or "default")
    folder.mkdir(parents=True, exist_ok=True)
    return folder / spec.source.split


def _image(spec: TaskSpec, root: Path, media: Path) -> None:
    assert isinstance(spec.parser, _ImageParser)
    for colour in COLOURS:
        write_picture(media / spec.name / f"{colour}.png", colour)
    asks, answers = spec.parser.query == "text", spec.parser.target == "text"
    rows = []
    for number, colour in enumerate(COLOURS):
        others = [colour, *(other for other in COLOURS if other != colour)]
        paths = [f"{spec.name}/{other}.png" for other in others]
        captions = [f"the {other} one" if spec.name in CAPTIONED else "" for other in others]
        rows.append(
            {
                "qry_inst": f"Find the colour in {spec.name}."
                if asks
                else f"<|image_1|> Name the colour in {spec.name}.\n",
                "qry_text": f"a {colour} square" if asks or number else "",
                "qry_img_path": "" if asks else paths[0],
                "tgt_inst": "" if answers else "<|image_1|> Represent the given image.",
                "tgt_text": others if answers else captions,
                "tgt_img_path": [""] * 3 if answers else paths,
            }
        )
    write_rows(spec, root, rows)


def _labels(spec: TaskSpec, root: Path, media: Path) -> None:
    assert isinstance(spec.parser, _LabelParser)
    listed = (
        _packaged_labels(spec.parser.labels)[:3]
        if spec.parser.labels
        else ("Closing a box", "Lifting a box", "Hitting a box")
    )
    rows: list[dict[str, object]] = []
    for number, (colour, label) in enumerate(zip(COLOURS, listed, strict=True)):
        write_frames(media / f"vid_{number}", colour)
        rows.append({"video_id": f"vid_{number}", "pos_text": label})
        if spec.parser.listed:
            rows[-1][spec.parser.listed] = list(listed)
    write_rows(spec, root, rows)


def _choices(spec: TaskSpec, root: Path, media: Path) -> None:
    assert isinstance(spec.parser, _ChoiceParser)
    for config in spec.parser.configs or (None,):
        rows = []
        for number, colour in enumerate(COLOURS[:2]):
            # MVBench alone has more than one configuration, and one question in each is enough.
            if config and number:
                break
            where = f"{config}/" if config else ""
            video = 100 + number if spec.parser.form == "five-columns" else f"clip_{number}"
            write_frames(media / f"{where}{spec.parser.prefix}{video}", colour)
            rows.append(_question(spec.parser.form, number, colour) | {spec.parser.video: video})
        write_rows(spec, root, rows, config)


def _question(form: str, number: int, colour: str) -> dict[str, object]:
    question, lettered = "Which colour is it?", [f"{'ABC'[i]}. {other.title()}." for i, other in enumerate(COLOURS)]
    if form == "lettered":
        return {"question": question, "candidates": list(COLOURS), "answer": colour, "start": 0.0, "end": 2.0}
    if form == "five-columns":
        answers = {f"a{i}": text for i, text in enumerate([*COLOURS, "black", "white"])}
        return {"frame_count": 8, "width": 16, "height": 16, "question": question, "answer": number, "qid": number,
                "type": "DO", **answers}  # fmt: skip
    if form == "written":
        return {"question": question, "options": lettered, "answer": "ABC"[number], "question_id": f"001-{number}",
                "domain": "Knowledge", "sub_category": "Colours"}  # fmt: skip
    if form == "written-inline":
        return {"question": question, "option": lettered, "answer": str(number), "question_idx": str(number)}
    return {"question": f"is it {colour}", "answer": ("yes", "no")[number], "question_id": f"q_{number}"}


def _retrieval(spec: TaskSpec, root: Path, media: Path) -> None:
    assert isinstance(spec.parser, _RetrievalParser)
    rows = []
    for number, colour in enumerate(COLOURS):
        write_frames(media / f"video_{number}", colour)
        caption = f"the screen turns {colour} in {spec.name}"
        rows.append(
            {
                "video": f"video_{number}.mp4",
                spec.parser.video: f"video_{number}" + (".mp4" if spec.parser.is_path else ""),
                spec.parser.query: [caption, "another one"] if spec.parser.several else caption,
            }
        )
    write_rows(spec, root, rows)


def _clips(spec: TaskSpec, root: Path, media: Path) -> None:
    for number, colour in enumerate(COLOURS[:2]):
        for clip, shade in zip(("query", "positive", "negative_0", "negative_1"), (colour, *COLOURS), strict=True):
            write_frames(media / f"v{number}_0.0_9.0" / clip, shade)
    write_rows(
        spec,
        root,
        [{"query": f"it is {COLOURS[n]}", "video_path": f"v{n}_0.0_9.0.mp4", "duration": 9.0} for n in range(2)],
    )


def _listed_clips(spec: TaskSpec, root: Path, media: Path) -> None:
    for colour in COLOURS:
        write_frames(media / "video_frames" / f"movie_{colour}", colour, 9)
    write_picture(media / "query_still.jpg", "red")
    clips = [{"output_path": f"movie/{colour}.mp4", "start": 0.0} for colour in COLOURS]
    write_rows(
        spec,
        root,
        [
            {"query": "it is red", "input_frames": "", "positive_frames": clips[:1], "negative_frames": clips[1:]},
            {
                "query": "like it",
                "input_frames": "still.jpg",
                "positive_frames": clips[:2],
                "negative_frames": clips[2:],
            },
            {
                "query": "then",
                "input_frames": "movie/blue.mp4",
                "positive_frames": clips[2:],
                "negative_frames": clips[:2],
            },
        ],
    )


def _pages(spec: TaskSpec, root: Path, media: Path) -> None:
    assert isinstance(spec.parser, _PageParser)
    by_id = spec.parser.saved_as == "by-id"
    pages = [f"{colour}.{'jpg' if by_id else ''}" if by_id else number for number, colour in enumerate(COLOURS)]
    queries: list[object] = [f"q{number}" if by_id else 100 + number for number in range(2)]
    write_corpus(spec, root, [(page, picture_bytes(colour)) for page, colour in zip(pages, COLOURS, strict=True)])
    asked = [{"query-id": query, "query": f"Where is {COLOURS[n]}?"} for n, query in enumerate(queries)]
    write_rows(spec, root, asked, "queries")
    judged = [(0, 0, 2), (0, 1, 1), (1, 1, 1), (1, 2, 0)]
    write_rows(
        spec, root, [{"query-id": queries[q], "corpus-id": pages[p], "score": score} for q, p, score in judged], "qrels"
    )


def _instructed(spec: TaskSpec, root: Path, media: Path) -> None:
    for colour in COLOURS:
        write_picture(media / spec.name / f"{colour}.png", colour)
    # What asks and what is sought differs between tasks, and nothing in the table says how; any of both must be read.
    shows, sought = spec.group != "I-RET" or spec.name.endswith("i2t"), spec.group in ("I-RET", "I-VG")
    rows = []
    for number, colour in enumerate(COLOURS):
        others = [colour, *(other for other in COLOURS if other != colour)]
        paths = [f"{spec.name}/{other}.png" for other in others]
        asked = f"Find it in {spec.name}: {number}\n"
        rows.append(
            {
                "qry_text": f"<|image_1|>\n{asked}" if shows else asked,
                "qry_img_path": paths[0] if shows else "",
                "tgt_text": ["<|image_1|>\nRepresent the given image.\n"] * 3 if sought else others,
                "tgt_img_path": paths if sought else [""] * 3,
            }
        )
    write_rows(spec, root, rows)


def _m_beir(spec: TaskSpec, root: Path, media: Path) -> None:
    assert isinstance(spec.parser, _MBeirParser)
    # From the name, as in visualnews_task0.
    task = int(spec.name[-1])
    asks = spec.parser.query
    sought = {0: "image", 1: "text", 2: "image,text", 3: "text", 4: "image", 6: "text", 7: "image", 8: "image,text"}[
        task
    ]
    queries, pool = [], []
    for number, colour in enumerate(COLOURS):
        path = f"mbeir_images/{spec.name}/{colour}.jpg"
        write_picture(media / path, colour)
        queries.append(
            {
                "qid": f"9:{number}",
                "query_txt": f"a {colour} one" if "text" in asks else None,
                "query_img_path": path if "image" in asks else None,
                "query_modality": asks,
                "query_src_content": None,
                "pos_cand_list": [f"9:1{number}"],
                "neg_cand_list": [],
                "task_id": task,
            }
        )
        pool.append(
            {
                "txt": f"It is {colour}." if "text" in sought else None,
                "img_path": path if "image" in sought else None,
                "modality": sought,
                "did": f"9:1{number}",
                "src_content": None,
            }
        )
    write_rows(spec, root, queries)
    write_pool(spec, root, pool)


def _captions(spec: TaskSpec, root: Path, media: Path) -> None:
    assert isinstance(spec.parser, _CaptionParser)
    rows: list[dict[str, object]] = []
    for number, colour in enumerate(COLOURS):
        texts = [f"{word} {colour} square" for word in ("a", "one", "this", "that", "some")]
        ids = [number * 5 + place for place in range(5)]
        file = f"{number:08d}.jpg" if spec.group == "CC" else f"{number}.jpg"
        if spec.group == "CC":
            rows.append({"image_url": f"http://host/{colour}.png?size=1", "caption": texts[0]})
        elif spec.group == "Flickr30K":
            # A table in CSV, where every value is a text.
            rows.append({"raw": json.dumps(texts), "sentids": json.dumps(ids), "split": "test", "filename": file,
                         "img_id": str(number)})  # fmt: skip
        else:
            rows.append({"filepath": "val2014", "sentids": ids, "filename": file, "imgid": number, "split": "test",
                         "sentences": texts, "cocoid": 100 + number, "url": f"http://host/{file}"})  # fmt: skip
        write_picture(media / str(rows[-1].get("filepath", "")) / file, colour)
    write_rows(spec, root, rows)


_WRITERS: Mapping[type[TaskParser], Callable[[TaskSpec, Path, Path], None]] = {
    _ImageParser: _image,
    _LabelParser: _labels,
    _ChoiceParser: _choices,
    _RetrievalParser: _retrieval,
    _ClipParser: _clips,
    _ListedClipParser: _listed_clips,
    _PageParser: _pages,
    _InstructedParser: _instructed,
    _MBeirParser: _m_beir,
    _CaptionParser: _captions,
}
