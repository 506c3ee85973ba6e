"""Tasks of pictures and documents: strings that are easy to get wrong, odd rows read as published, rows refused."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import PIL.Image
import pytest

from support.odd_rows import problems, read_picture_row, read_rows, strings, task_named, write_clip
from support.task_fixtures import picture_bytes, write_corpus, write_rows
from vlm2vec.errors import ConfigError, DataError, MediaError
from vlm2vec.items import Image, Item
from vlm2vec.media import open_image
from vlm2vec.tasks.data import TaskData
from vlm2vec.tasks.registry import parse_task

TASK = (
    "Given a video and a question, select the most accurate answer from the provided candidates. "
    "Return only the exact text of your chosen answer. Question:  "
)
"""With two spaces at its end: one of the instruction, one that joins."""

# Pictures


@pytest.mark.parametrize(
    ("name", "columns", "query", "candidates"),
    [
        ("ImageNet-1K", {}, "<|media|>  Say:\n\n", ["x", "y"]),
        ("ImageNet-1K", {"qry_inst": ""}, "<|media|> \n", ["x", "y"]),
        ("ImageNet-1K", {"qry_text": None}, "<|media|>  Say:\n\n", ["x", "y"]),
        ("MSCOCO_i2t", {"qry_text": "what \n"}, "<|media|>  Say:\n what\n\n", ["x", "y"]),
        ("ChartQA", {"qry_text": "what"}, "<|media|>\nSay: what\n", ["x", "y"]),
        ("NIGHTS", {"tgt_text": ["", "y"]}, "<|media|>\nSay:\n", ["<|media|>  It.", "<|media|>  It."]),
        ("RefCOCO", {}, "<|media|>\nSay:\n", ["<|media|>  It. x\n", "<|media|>  It. y\n"]),
        (
            "WebQA",
            {"qry_inst": "Find:", "qry_text": "q"},
            "Find: q\n",
            ["<|media|>  It. x\n", "<|media|>  It. y\n"],
        ),
        # VisDial's queries alone end in two newlines.
        ("VisDial", {"qry_inst": "Find:", "tgt_text": [""]}, "Find: \n\n", ["<|media|>  It.\n", "<|media|>  It.\n"]),
        # A visual token in a query without picture, or typed by somebody, is text like any other.
        ("EDIS", {"qry_text": "<|image_pad|>"}, "<|image_pad|> Say:\n <|image_pad|>\n", ["<|media|>  It. x\n"]),
    ],
)
def test_strings_of_picture_tasks(
    tmp_path: Path, name: str, columns: dict[str, object], query: str, candidates: list[str]
) -> None:
    data = read_picture_row(tmp_path, name, **columns)
    assert strings(data.queries) == [query]
    assert strings(data.candidates)[: len(candidates)] == candidates


def test_parts_of_a_picture_task_serve_styles_that_place_them_themselves(tmp_path: Path) -> None:
    data = read_picture_row(tmp_path, "RefCOCO", qry_text=' "the cat" ')
    picture = Image(tmp_path / "image-tasks" / "a.png", as_stored=True)
    assert data.queries == (Item('"the cat"', (picture,), "Say:", '<|media|>\nSay:  "the cat" \n'),)
    assert data.candidates[0] == Item("x", (picture,), "It.", "<|media|>  It. x\n")


def test_regions_are_identified_by_file_and_caption_without_quotes_and_the_first_text_wins(tmp_path: Path) -> None:
    data = read_picture_row(tmp_path, "MSCOCO", tgt_text=['""x""', "x"], tgt_img_path=["a.png", "a.png"])
    assert data.pools == (("a.png:x", "a.png:x"),)
    assert data.candidate_names == ("a.png:x",)
    assert strings(data.candidates) == ['<|media|>  It. ""x""\n']
    assert data.relevant == {"0": {"a.png:x": 1}}
    assert problems(data) == [
        ("tgt_img_path", "two candidates of one name differ; the first one is taken", 1),
        ("tgt_img_path", "a candidate is listed twice; as a label it counts once", 1),
    ]


@pytest.mark.parametrize(
    ("name", "columns", "message"),
    [
        ("ImageNet-1K", {"qry_img_path": ""}, "column 'qry_img_path' is empty: it must name a picture"),
        ("ImageNet-1K", {"qry_inst": None}, "column 'qry_inst' holds None: it must be a text"),
        ("ImageNet-1K", {"tgt_text": []}, "column 'tgt_text' is empty: it must list candidates, the right one first"),
        ("ImageNet-1K", {"tgt_text": "x"}, "column 'tgt_text' holds 'x': it must be a list"),
        (
            "ImageNet-1K",
            {"qry_text": "a <|media|>"},
            "column 'qry_text' holds the text <|media|>, which would be taken for a medium's place",
        ),
        (
            "CIRR",
            {"tgt_text": [""]},
            "column 'tgt_text' has 1 entries but 'tgt_img_path' has 2: give one for each",
        ),
        (
            "EDIS",
            {"tgt_text": []},
            "column 'tgt_text' is empty: it must hold a caption for each picture, or an empty text",
        ),
    ],
)
def test_a_malformed_row_is_named(tmp_path: Path, name: str, columns: dict[str, object], message: str) -> None:
    with pytest.raises(DataError) as error:
        read_picture_row(tmp_path, name, **columns)
    rows = tmp_path / "annotations" / "ziyjiang__MMEB_Test_Instruct" / name / "test.jsonl"
    assert str(error.value) == f"{name}: {rows}:1: {message}"


@pytest.mark.parametrize(
    ("columns", "what"),
    [
        ({"qry_img_path": "gone.png"}, "gone.png is not there; put the task's media in place"),
        ({"qry_img_path": "folder"}, "folder is a folder, not a picture"),
        ({"tgt_img_path": ["a.png", "gone.png"]}, "gone.png is not there; put the task's media in place"),
    ],
)
def test_a_missing_picture_is_an_error_that_names_file_and_row(
    tmp_path: Path, columns: dict[str, object], what: str
) -> None:
    (tmp_path / "image-tasks" / "folder").mkdir(parents=True)
    with pytest.raises(MediaError, match=r"^CIRR: .*test\.jsonl:1: column '(qry|tgt)_img_path': ") as error:
        read_picture_row(tmp_path, "CIRR", **columns)
    assert str(error.value).endswith(what)


# Documents


def _documents(
    root: Path, name: str, pages: list[tuple[object, bytes | None]], judged: list[tuple[str, object, object]]
) -> TaskData:
    spec = task_named(name)
    write_corpus(spec, root, pages)
    queries = list(dict.fromkeys(query for query, _, _ in judged)) or ["q"]
    write_rows(spec, root, [{"query-id": query, "query": f"{query}?"} for query in queries], "queries")
    write_rows(spec, root, [{"query-id": q, "corpus-id": p, "score": s} for q, p, s in judged], "qrels")
    return parse_task(spec, root)


def test_grades_stay_with_their_pages_and_right_pages_come_first(tmp_path: Path) -> None:
    pages: list[tuple[object, bytes | None]] = [(number, picture_bytes("red")) for number in range(4)]
    judged = [("b", 3, 1), ("a", 2, 1), ("b", 0, 2), ("b", 3, 3), ("b", 1, 0), ("c", 2, 1)]
    data = _documents(tmp_path, "ViDoSeek-doc", pages, judged)  # type: ignore[arg-type]
    assert data.query_ids == ("b", "a", "c")
    assert data.relevant == {"b": {"3": 3, "0": 2}, "a": {"2": 1}, "c": {"2": 1}}
    assert list(data.relevant["b"]) == ["3", "0"]
    assert data.candidate_names == ("3", "0", "2", "1")


def test_a_limit_takes_the_first_queries_and_the_whole_corpus(tmp_path: Path) -> None:
    pages: list[tuple[object, bytes | None]] = [(number, picture_bytes("red")) for number in range(3)]
    _documents(tmp_path, "ViDoRe_tatdqa", pages, [("a", 2, 1), ("b", 1, 1)])
    data = parse_task(task_named("ViDoRe_tatdqa"), tmp_path, limit=1)
    assert (data.query_ids, data.candidate_names) == (("a",), ("2", "0", "1"))


@pytest.mark.parametrize(
    ("pages", "judged", "message"),
    [
        (
            ["p.png"],
            [("q", "p.png", 0)],
            r"queries/train\.jsonl:1: column 'query-id' is 'q', for which 'qrels' has no page",
        ),
        (
            ["p.png"],
            [("q", "o.png", 1)],
            r"qrels/train\.jsonl:1: column 'corpus-id' is 'o\.png', which is not in the corpus",
        ),
        (
            ["p.png"],
            [("q", "p.png", 0.5)],
            r"qrels/train\.jsonl:1: column 'score' holds 0\.5: it must be a whole number",
        ),
        (
            ["p"],
            [("q", "p", 1)],
            r"row 0: column 'corpus-id' is 'p': it must be a file name with the ending of a picture",
        ),
        (
            ["a/p.png"],
            [("q", "a/p.png", 1)],
            r"row 0: column 'corpus-id' is 'a/p\.png': it must be a file name with the",
        ),
    ],
)
def test_documents_that_do_not_fit_together_are_refused(
    tmp_path: Path, pages: list[str], judged: list[tuple[str, object, object]], message: str
) -> None:
    with pytest.raises(DataError, match=rf"^VisRAG_PlotQA: .*{message}"):
        _documents(tmp_path, "VisRAG_PlotQA", [(page, picture_bytes("red")) for page in pages], judged)


def test_pages_keep_their_bytes_unless_their_id_asks_for_a_lossy_format(tmp_path: Path) -> None:
    png = picture_bytes("teal")
    data = _documents(tmp_path, "VisRAG_PlotQA", [("a.png", png), ("b.JPG", png)], [("q", "a.png", 1)])
    first, second = (item.media[0].source for item in data.candidates)
    assert first == png
    expected = io.BytesIO()
    PIL.Image.open(io.BytesIO(png)).save(expected, "JPEG")
    assert second == expected.getvalue()


def test_a_page_with_an_exif_orientation_is_turned_as_the_library_datasets_turns_it(tmp_path: Path) -> None:
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    PIL.Image.new("RGB", (10, 20), "red").save(buffer, "JPEG", exif=exif)
    data = _documents(tmp_path, "ViDoRe_tatdqa", [(1, buffer.getvalue())], [("q", 1, 1)])
    source = data.candidates[0].media[0].source
    assert isinstance(source, bytes)
    with PIL.Image.open(io.BytesIO(source)) as picture:
        assert (picture.format, picture.size) == ("PNG", (20, 10))


def test_a_turned_page_keeps_its_alpha_channel_as_the_library_datasets_does(tmp_path: Path) -> None:
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    drawing = PIL.Image.new("RGBA", (2, 1))
    drawing.putdata([(1, 2, 3, 0), (4, 5, 6, 255)])
    buffer = io.BytesIO()
    drawing.save(buffer, "PNG", exif=exif)
    data = _documents(tmp_path, "ViDoRe_tatdqa", [(1, buffer.getvalue())], [("q", 1, 1)])
    (page,) = data.candidates[0].media
    assert isinstance(page, Image)
    shown = open_image(page)
    assert (shown.mode, shown.size, shown.tobytes()) == ("RGBA", (1, 2), bytes([1, 2, 3, 0, 4, 5, 6, 255]))


@pytest.mark.parametrize(
    ("page", "picture", "message"),
    [
        ("a.jpg", picture_bytes("red", "RGBA"), "the page cannot be written as JPEG, as its id's ending asks: cannot"),
        ("a.png", None, "column 'image' holds {'bytes': None, 'path': None}: it must be a picture, as bytes or path"),
        ("a.png", b"junk", "<4 bytes> cannot be read as an image"),
    ],
)
def test_a_page_that_cannot_be_shown_is_an_error_that_names_its_row(
    tmp_path: Path, page: str, picture: bytes | None, message: str
) -> None:
    data = _documents(tmp_path, "VisRAG_PlotQA", [(page, picture)], [("q", page, 1)])
    with pytest.raises(DataError if picture is None else MediaError) as error:
        data.candidates[0]
    where = tmp_path / "annotations" / "openbmb__VisRAG-Ret-Test-PlotQA" / "corpus" / "train.parquet"
    assert str(error.value).startswith(f"{where} row 0: {message}")


# How many rows, and none


def test_only_the_first_rows_of_a_task_count(tmp_path: Path) -> None:
    write_clip(tmp_path, "SmthSmthV2", "v")
    row = {"video_id": "v", "pos_text": "a", "neg_text": ["a", "b"]}
    spec = replace(task_named("SmthSmthV2"), max_rows=2)
    write_rows(spec, tmp_path, [row] * 3)
    assert len(parse_task(spec, tmp_path).queries) == 2
    assert len(parse_task(spec, tmp_path, limit=1).queries) == 1
    assert len(parse_task(spec, tmp_path, limit=9).queries) == 2
    with pytest.raises(ConfigError, match=r"^limit is 0: it must be at least 1 query$"):
        parse_task(spec, tmp_path, limit=0)


def test_a_limit_reached_early_opens_no_further_configuration(tmp_path: Path) -> None:
    write_clip(tmp_path, "MVBench", "episodic_reasoning/v")
    row = {"video": "v", "question": "Q", "candidates": ["a", "b \n"], "answer": "b \n"}
    write_rows(task_named("MVBench"), tmp_path, [row], "episodic_reasoning")
    data = parse_task(task_named("MVBench"), tmp_path, limit=1)
    # The query loses the white space at its end, candidate and label keep it.
    assert strings(data.queries) == [f"<|media|> {TASK}Q\nOptions:\n(A) a\n(B) b"]
    assert data.relevant == {"0": {"(B) b \n": 1}}
    with pytest.raises(DataError, match=r"MVBench \(config action_sequence, split train\) is not here"):
        parse_task(task_named("MVBench"), tmp_path)


def test_annotations_without_rows_or_columns_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"^GQA: its annotations hold no row$"):
        read_rows(tmp_path, "GQA")
    with pytest.raises(DataError, match=r"^GQA: .*test\.jsonl:1: column 'qry_inst' is missing: the row has text$"):
        read_rows(tmp_path, "GQA", {"text": "x"})


# The command


def test_the_command_lists_tasks_as_a_table_and_as_json() -> None:
    from typer.testing import CliRunner

    from vlm2vec.cli.app import app

    shown = CliRunner().invoke(app, ["tasks", "--group", "VD-OOD", "--json"])
    assert json.loads(shown.stdout) == {
        "tasks": [
            {"name": name, "modality": "visdoc", "group": "VD-OOD", "metric": "ndcg_linear@5", "pool": "global"}
            for name in ("ViDoSeek-page", "ViDoSeek-doc", "MMLongBench-page", "MMLongBench-doc")
        ]
    }
    assert len(json.loads(CliRunner().invoke(app, ["tasks", "--json"]).stdout)["tasks"]) == 78
    table = CliRunner().invoke(app, ["tasks", "--modality", "visdoc"]).stdout
    assert "ViDoRe_syntheticDocQA_artificial_intelligence" in table
    wrong = CliRunner().invoke(app, ["tasks", "--modality", "audio"])
    assert (wrong.exit_code, wrong.stdout) == (2, "")
    assert wrong.stderr == "error: no modality named 'audio'; there are: image, video, visdoc\n"
