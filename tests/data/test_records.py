"""Rows of training pairs from JSON lines."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from vlm2vec.data.records import Pair, read_pairs
from vlm2vec.errors import DataError
from vlm2vec.items import Item, Video


def _write(path: Path, rows: list[dict[str, object]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_paths_of_a_row_are_relative_to_its_file(tmp_path: Path) -> None:
    row = {"query": {"text": "t", "instruction": "i"}, "positive": {"video": ["a.png", "b.png"]}, "label": "l"}
    _write(tmp_path / "pairs.jsonl", [row])
    video = Video((tmp_path / "a.png", tmp_path / "b.png"))
    origin = f"{tmp_path / 'pairs.jsonl'}:1"
    assert list(read_pairs(tmp_path / "pairs.jsonl")) == [Pair(Item("t", (), "i"), Item(media=(video,)), "l", origin)]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "pairs.jsonl:2 is not JSON"),
        ('{"query": "a"}', "pairs.jsonl:2: a row is an object with 'query', 'positive'"),
        ('{"query": "a", "positive": "b", "labels": "c"}', "pairs.jsonl:2: a row is an object"),
        ('{"query": "a", "positive": "b", "label": 3}', "pairs.jsonl:2: the label is 3"),
        ('{"query": "a", "positive": {"img": "b"}}', "pairs.jsonl:2: unknown key 'img'"),
        ('{"query": "a", "positive": ""}', "pairs.jsonl:2: an item has neither text nor medium"),
    ],
)
def test_a_malformed_row_is_named(tmp_path: Path, line: str, message: str) -> None:
    (tmp_path / "pairs.jsonl").write_text('{"query": "a", "positive": "b"}\n' + line + "\n")
    with pytest.raises(DataError, match=re.escape(message)):
        list(read_pairs(tmp_path / "pairs.jsonl"))


def test_line_separators_inside_a_text_do_not_end_a_row(tmp_path: Path) -> None:
    (tmp_path / "pairs.jsonl").write_text('{"query": "a\u2028b", "positive": "c"}\n', "utf-8")
    assert [pair.query.text for pair in read_pairs(tmp_path / "pairs.jsonl")] == ["a\u2028b"]


def test_pairs_are_a_sequence_of_which_only_what_is_asked_for_is_read(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text('{"query": "a", "positive": "A"}\n{\n\n{"query": "c", "positive": "C"}\n')
    pairs = read_pairs(path)
    assert (len(pairs), pairs[0].positive, pairs[-1].query) == (3, Item("A"), Item("c"))
    assert [pair.query.text for pair in pairs[::2]] == ["a", "c"]
    assert pairs[2].origin == f"{path}:4"
    with pytest.raises(DataError, match=r"pairs.jsonl:2 is not JSON"):
        list(pairs)
    with pytest.raises(IndexError):
        pairs[3]


def test_pairs_that_are_missing_or_none_at_all_are_an_error_at_once(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none.jsonl cannot be read"):
        read_pairs(tmp_path / "none.jsonl")
    (tmp_path / "empty.jsonl").write_text("\n  \n")
    with pytest.raises(DataError, match=r"empty.jsonl holds no pair"):
        read_pairs(tmp_path / "empty.jsonl")
