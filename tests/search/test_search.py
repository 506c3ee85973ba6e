"""What is found in an index, in which order, and by which question."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support.index_folders import index_of_rows, make_pdf, make_picture
from vlm2vec.errors import IndexFolderError
from vlm2vec.items import Image, Item, Target
from vlm2vec.model.embedder import Embedder
from vlm2vec.search.index import Hit, Index
from vlm2vec.search.searching import search
from vlm2vec.search.table import Row, UnitTable

# What is found


def test_scores_are_cosines_and_ties_go_by_path_page_and_span(tmp_path: Path) -> None:
    index = index_of_rows(
        tmp_path,
        Row("b.pdf", "page", 2, None, 2, "h", 1, 1, np.array([0.6, 0.8], np.float32)),
        Row("b.pdf", "page", 1, None, 2, "h", 1, 1, np.array([0.6, 0.8], np.float32)),
        Row("c.mp4", "video", None, (30.0, 60.0), 2, "h", 1, 1, np.array([0.6, 0.8], np.float32)),
        Row("c.mp4", "video", None, (0.0, 30.0), 2, "h", 1, 1, np.array([0.6, 0.8], np.float32)),
        Row("a.png", "image", None, None, 1, "h", 1, 1, np.array([0, 1], np.float32)),
        Row("d.png", "image", None, None, 1, "h", 1, 1, np.array([1, 0], np.float32)),
    )
    hits = index.search(np.array([2, 0], np.float32), 6)
    assert [(hit.path, hit.page, hit.span_s, round(hit.score, 6)) for hit in hits] == [
        ("d.png", None, None, 1.0),
        ("b.pdf", 1, None, 0.6),
        ("b.pdf", 2, None, 0.6),
        ("c.mp4", None, (0.0, 30.0), 0.6),
        ("c.mp4", None, (30.0, 60.0), 0.6),
        ("a.png", None, None, 0.0),
    ]
    assert index.search(np.array([2, 0], np.float32), 2) == hits[:2]
    assert index.search(np.array([2, 0], np.float32), 1, kind="video") == hits[3:4]
    assert [hit.place for hit in hits] == ["", "page 1", "page 2", "0:00-0:30", "0:30-1:00", ""]


def test_ties_are_broken_by_path_among_any_number_of_equal_files(tmp_path: Path) -> None:
    vector = np.array([1, 0], np.float32)
    numbers = np.random.default_rng(1).permutation(200)
    index = index_of_rows(
        tmp_path, *(Row(f"{number:03}.png", "image", None, None, 1, "h", 1, 1, vector) for number in numbers)
    )
    assert [hit.path for hit in index.search(vector, 3)] == ["000.png", "001.png", "002.png"]


def test_a_late_moment_of_a_film_shows_its_hours() -> None:
    assert Hit("a.mp4", "video", 1.0, None, (3690.0, 3719.6)).place == "1:01:30-1:02:00"


def test_a_question_without_a_kind_carries_no_instruction_and_one_with_a_kind_carries_its(
    tmp_path: Path, own: Embedder
) -> None:
    make_picture(tmp_path / "0.png", 0)
    make_pdf(tmp_path / "a.pdf", 100, 200)
    index = Index.create(tmp_path, embedder=own)
    index.add(embedder=own)
    query = Item(text="a red square")
    assert search(index, own, query) == index.search(own.encode(query))
    assert search(index, own, query, 1) == search(index, own, query)[:1]
    of_pages = index.search(own.encode_query(query, target="page"), kind="page")
    assert search(index, own, query, kind="page") == of_pages
    instructed = Item(text="a red square", instruction="Find a drawing:")
    assert search(index, own, instructed) == index.search(own.encode(instructed))


def test_a_picture_finds_itself(three: Index, own: Embedder) -> None:
    vector = own.encode_document(Image(three.folder / "2.png"))
    assert three.search(vector, 1)[0].path == "2.png"


@pytest.mark.parametrize("kind", [None, "image", "page", "video"])
@pytest.mark.parametrize("k", [4, 5, 6, 2**31, 2**32 - 1, 2**32, 2**63, 10**30])
def test_more_hits_than_there_are_may_be_asked_for(tmp_path: Path, k: int, kind: Target | None) -> None:
    vector = np.array([1, 0], np.float32)
    index = index_of_rows(
        tmp_path,
        *(Row(f"{number}.png", "image", None, None, 1, "h", 1, 1, vector) for number in range(3)),
        *(Row("a.pdf", "page", page, None, 2, "h", 1, 1, vector) for page in (1, 2)),
    )
    images, pages = ["0.png", "1.png", "2.png"], ["a.pdf", "a.pdf"]
    found = {None: [*images, *pages], "image": images, "page": pages, "video": []}[kind]
    assert [hit.path for hit in index.search(vector, k, kind=kind)] == found[:k]


def test_a_reader_whose_version_is_cleared_away_reads_the_newest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vector = np.array([1, 0], np.float32)
    index = index_of_rows(tmp_path, Row("a.png", "image", None, None, 1, "h", 1, 1, vector))
    nearest, turns = UnitTable.nearest, iter([True, False])

    def cleared_away(self: UnitTable, *arguments: Any, **options: Any) -> list[Hit]:
        if next(turns):
            writer = UnitTable.open(tmp_path, dim=2, fingerprint="f")
            writer.replace(["a.png"], [Row("b.png", "image", None, None, 1, "h", 1, 1, vector)])
            raise IndexFolderError("a file of this version is gone")
        return nearest(self, *arguments, **options)

    monkeypatch.setattr(UnitTable, "nearest", cleared_away)
    assert [hit.path for hit in index.search(vector, 1)] == ["b.png"]
