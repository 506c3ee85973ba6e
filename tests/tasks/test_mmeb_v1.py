"""Rows of MMEB's first form: what they become, and which are odd or refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.task_fixtures import write_picture, write_rows
from vlm2vec.errors import DataError, MediaError
from vlm2vec.items import Image, Item
from vlm2vec.tasks.data import TaskData
from vlm2vec.tasks.registry import get_tasks, parse_task


def _problems(data: TaskData) -> list[tuple[str, str, int]]:
    return [(warning.column, warning.problem, warning.count) for warning in data.warnings]


def _strings(items: object) -> list[str | None]:
    assert isinstance(items, (tuple, list))
    return [item.verbatim for item in items if isinstance(item, Item)]


V1_ROW = {
    "qry_text": "<|image_1|>\nFind it: a cat\n",
    "qry_img_path": "a.png",
    "tgt_text": ["<|image_1|>\nIt.\n", "<|image_1|> A dog"],
    "tgt_img_path": ["a.png", "b.png"],
}


def _v1(root: Path, **columns: object) -> TaskData:
    for name in ("a.png", "b.png"):
        write_picture(root / "image-tasks" / name, "red")
    (spec,) = get_tasks("mmeb-v1", names=["CIRR"])
    write_rows(spec, root, [V1_ROW | columns])
    return parse_task(spec, root)


def test_a_row_of_mmeb_v1_is_taken_as_it_is_with_the_visual_token_in_its_place(tmp_path: Path) -> None:
    data = _v1(tmp_path)
    first, second = (Image(tmp_path / "image-tasks" / name, as_stored=True) for name in ("a.png", "b.png"))
    assert data.queries == (Item("Find it: a cat", (first,), "", "<|media|>\nFind it: a cat\n"),)
    assert data.candidates == (
        Item("It.", (first,), "", "<|media|>\nIt.\n"),
        Item("A dog", (second,), "", "<|media|> A dog"),
    )
    assert data.candidate_names == ("a.png:It.", "b.png:A dog")
    assert data.pools == (("a.png:It.", "b.png:A dog"),)
    assert data.relevant == {"0": {"a.png:It.": 1}}
    assert data.warnings == ()


def test_texts_of_mmeb_v1_are_candidates_as_they_are(tmp_path: Path) -> None:
    data = _v1(tmp_path, tgt_text=["cat ", "dog", "cat ", ""], tgt_img_path=["", "", "", ""])
    assert data.candidate_names == ("cat ", "dog", "")
    assert _strings(data.candidates) == ["cat ", "dog", ""]
    assert data.empty == {""}
    assert _problems(data) == [
        ("tgt_text", "a candidate is empty; it ranks last", 1),
        ("tgt_text", "a candidate is listed twice; as a label it counts once", 1),
    ]


def test_a_candidate_of_mmeb_v1_is_one_by_text_and_picture_together(tmp_path: Path) -> None:
    data = _v1(tmp_path, tgt_text=["<|image_1|> x", "<|image_1|> y", "<|image_1|> x"], tgt_img_path=["a.png"] * 3)
    assert data.candidate_names == ("a.png:x", "a.png:y")
    assert data.pools == (("a.png:x", "a.png:y", "a.png:x"),)


def test_a_token_without_picture_stays_text(tmp_path: Path) -> None:
    """As in WebQA, whose queries show nothing."""
    data = _v1(tmp_path, qry_text="<|image_1|>\nFind an answer: why?\n", qry_img_path="")
    assert data.queries == (Item("Find an answer: why?", (), "", "<|image_pad|>\nFind an answer: why?\n"),)
    assert _problems(data) == [
        ("qry_text", "<|image_1|> stands in a query without picture; it stays text", 1),
    ]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"qry_text": None}, "column 'qry_text' holds None: it must be a text"),
        ({"qry_img_path": None}, "column 'qry_img_path' holds None: it must be a text"),
        (
            {"qry_text": "", "qry_img_path": ""},
            "column 'qry_text' is empty, and no picture goes with it: a query must hold something",
        ),
        (
            {"qry_text": "Find it"},
            "column 'qry_text' holds <|image_1|> 0 times beside a picture: it must hold it once, in its place",
        ),
        (
            {"tgt_text": ["<|image_1|> <|image_1|>", "x"]},
            "column 'tgt_text' holds <|image_1|> 2 times beside a picture: it must hold it once, in its place",
        ),
        (
            {"tgt_text": [], "tgt_img_path": []},
            "column 'tgt_text' is empty: it must list candidates, the right one first",
        ),
        (
            {"tgt_text": ["x"]},
            "column 'tgt_text' has 1 entries but 'tgt_img_path' has 2: give one for each",
        ),
    ],
)
def test_a_malformed_row_of_mmeb_v1_is_named(tmp_path: Path, columns: dict[str, object], message: str) -> None:
    with pytest.raises(DataError) as error:
        _v1(tmp_path, **columns)
    rows = tmp_path / "annotations" / "TIGER-Lab__MMEB-eval" / "CIRR" / "test.jsonl"
    assert str(error.value) == f"CIRR: {rows}:1: {message}"


def test_a_missing_picture_of_mmeb_v1_is_named(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=r"^CIRR: .*test\.jsonl:1: column 'tgt_img_path': .*gone\.png is not there"):
        _v1(tmp_path, tgt_img_path=["a.png", "gone.png"])
