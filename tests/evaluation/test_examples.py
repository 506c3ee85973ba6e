"""The best and worst queries of a task: which they are, and how small they are made."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from support.media_files import picture
from vlm2vec.errors import MediaError
from vlm2vec.evaluation.examples import Example, Shown, pick_examples
from vlm2vec.evaluation.scoring import Ranking
from vlm2vec.items import Image, Item, Video
from vlm2vec.media.thumbnails import thumbnail_uri
from vlm2vec.tasks.data import TaskData
from vlm2vec.vectors.ranking import rank


def _show(text: str, picture: str | None = None) -> Shown:
    return Shown(text=text, picture=picture)


class Read(Sequence[Item]):
    """Candidates that remember which were asked for."""

    def __init__(self, items: Sequence[Item]) -> None:
        self.items, self.asked = items, list[int]()

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, place: Any) -> Any:
        self.asked.append(place)
        return self.items[place]


def _task(
    queries: Sequence[str | Item], candidates: Sequence[Item] | Sequence[str], relevant: Sequence[dict[str, int]]
) -> TaskData:
    """Candidates are called c0, c1 and so on, queries q0, q1."""
    items = [Item(one) if isinstance(one, str) else one for one in candidates]
    return TaskData(
        query_ids=tuple(f"q{number}" for number in range(len(queries))),
        queries=tuple(Item(one) if isinstance(one, str) else one for one in queries),
        candidate_names=tuple(f"c{number}" for number in range(len(items))),
        candidates=Read(items),
        empty=frozenset(),
        relevant={f"q{number}": labels for number, labels in enumerate(relevant)},
        pools=None,
        warnings=(),
    )


def _pick(data: TaskData, ranking: list[list[int]], scores: list[list[float]], metric: list[float], count: int = 2):  # type: ignore[no-untyped-def]
    return pick_examples(
        "task", data, np.array(ranking), np.array(scores, np.float32), {"m": np.array(metric)}, "m", count
    )


# Which


def test_the_best_and_the_worst_are_taken_by_metric_then_margin_then_id() -> None:
    data = _task(["a", "b", "c", "d", "e", "f", "g"], ["zero", "one", "two"], [{"c0": 1}] * 7)
    first, second = [0, 1, 2], [1, 0, 2]
    found = _pick(
        data,
        [second, first, first, second, first, second, second],
        [[3, 1, 0], [3, 1, 0], [3, 2, 0], [3, 2, 0], [3, 1, 0], [3, 1, 0], [3, 2, 1]],
        [0, 1, 1, 0, 1, 0, 0],
    )
    assert [(one.query_id, one.rank, one.margin) for one in found] == [
        ("q1", 1, 2.0),
        ("q4", 1, 2.0),
        ("q0", 2, -2.0),
        ("q5", 2, -2.0),
    ]
    assert found[0] == Example(
        dataset="task", query_id="q1", query=_show("b"), right=_show("zero"), rank=1, top=_show("zero"), margin=2.0
    )
    assert found[3] == Example(
        dataset="task", query_id="q5", query=_show("f"), right=_show("zero"), rank=2, top=_show("one"), margin=-2.0
    )


def test_few_queries_are_all_taken_once() -> None:
    data = _task(["a", "b", "c"], ["zero", "one"], [{"c0": 1}] * 3)
    found = _pick(data, [[1, 0], [0, 1], [1, 0]], [[2, 1]] * 3, [0, 1, 0])
    assert [one.query_id for one in found] == ["q1", "q0", "q2"]


def test_only_the_candidates_that_are_shown_are_read_each_once() -> None:
    data = _task(["a"] * 9, [f"text {number}" for number in range(50)], [{"c49": 1}] * 9)
    _pick(data, [[3, 4]] * 4 + [[49, 5]] * 5, [[2, 1]] * 9, [0] * 4 + [1] * 5)
    assert isinstance(data.candidates, Read)
    assert data.candidates.asked == [3, 49]


@pytest.mark.parametrize(
    ("ranking", "scores", "relevant", "expected"),
    [
        ([0, 1, 2], [5, 4, 1], {"c1": 1, "c2": 1}, -1.0),
        ([0, 1, 2], [5, 4, 1], {"c0": 1, "c1": 1}, 4.0),
        # What is not among those ranked counts as the last of them: the right one, then the wrong one.
        ([0, 1, 2], [5, 4, 1], {"c3": 1}, -4.0),
        ([0, 1, 2], [5, 4, 1], {"c0": 1, "c1": 1, "c2": 1}, 4.0),
        # A pool of two, and one in which the right candidate is empty.
        ([0, 1, -1], [5, 4, -np.inf], {"c0": 1}, 1.0),
        ([0, 1, 2], [5, 4, -np.inf], {"c2": 1}, -1.0),
        ([0, -1, -1], [5, -np.inf, -np.inf], {"c0": 1}, 0.0),
        ([0, 1, -1], [-np.inf] * 3, {"c0": 1}, 0.0),
    ],
)
def test_the_margin_is_the_best_right_score_less_the_best_wrong_one(
    ranking: list[int], scores: list[float], relevant: dict[str, int], expected: float
) -> None:
    data = _task(["a"], ["zero", "one", "two", "three"], [relevant])
    assert [one.margin for one in _pick(data, [ranking], [scores], [0])] == [expected]


def test_a_right_candidate_is_shown_wherever_it_ranks() -> None:
    labels = [{"c2": 1}, {"c3": 1, "c1": 2, "gone": 3}, {"gone": 1}, {}]
    data = _task(["a", "b", "c", "d"], ["zero", "one", "two", "three"], labels)
    found = _pick(data, [[0, 2], [0, 2], [0, 2], [0, 2]], [[2, 1]] * 4, [4, 3, 2, 1])
    shown = [(one.rank, one.right and one.right.text, one.top.text) for one in found]
    assert shown == [(2, "two", "zero"), (None, "one", "zero"), (None, None, "zero"), (None, None, "zero")]


def test_a_query_without_candidates_is_no_example() -> None:
    data = _task(["a", "b"], ["zero"], [{"c0": 1}] * 2)
    assert [one.query_id for one in _pick(data, [[-1], [0]], [[-np.inf], [1]], [1, 0])] == ["q1"]
    assert _pick(_task(["a"], [], [{}]), np.empty((1, 0), np.int64), np.empty((1, 0)), [0]) == []


def test_what_a_ranking_gives_can_be_picked_from() -> None:
    data = _task(["a", "b"], ["zero", "one"], [{"c0": 1}, {"c0": 1}])
    ranking = Ranking.of(data, partial(rank, np.array([[1, 0], [0, 1]], np.float32), np.eye(2, dtype=np.float32)))
    found = pick_examples("task", data, ranking.indices, ranking.scores, ranking.per_query, "hit@1")
    assert [(one.query_id, one.rank, one.margin) for one in found] == [("q0", 1, 1.0), ("q1", 2, -1.0)]


# How they look


def test_a_text_is_one_line_of_200_letters_without_the_instruction() -> None:
    queries = [
        Item("  two\n\nlines <|media|> ", instruction="Find:", verbatim="Find: two lines"),
        Item("x" * 200),
        Item("y" * 201),
    ]
    found = _pick(_task(queries, ["zero"], [{}] * 3), [[0]] * 3, [[1]] * 3, [3, 2, 1])
    assert [one.query.text for one in found] == ["two lines", "x" * 200, "y" * 199 + "…"]


def _opened(uri: str | None) -> PIL.Image.Image:
    kind, _, data = (uri or "").partition(",")
    assert kind == "data:image/jpeg;base64"
    return PIL.Image.open(io.BytesIO(base64.b64decode(data)))


@pytest.mark.parametrize(("size", "expected"), [((300, 1), (128, 1)), ((1, 300), (1, 128)), ((128, 1), (128, 1))])
def test_of_a_long_thin_picture_something_is_left(size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert _opened(thumbnail_uri(Image(PIL.Image.new("RGB", size, "red")), 128)).size == expected


def test_a_thumbnail_is_the_first_medium_at_most_128_pixels_wide(tmp_path: Path) -> None:
    red, green, blue = (PIL.Image.new("RGB", (256, 64), colour) for colour in ("red", "lime", "blue"))
    small = picture(40, 30)
    queries = [Item("a", (Image(red), Image(blue))), Item("b", (Video((red, green, blue)),)), Item("", (Image(small),))]
    found = _pick(_task(queries, ["zero"], [{}] * 3), [[0]] * 3, [[1]] * 3, [3, 2, 1])
    pictures = [_opened(one.query.picture) for one in found]
    assert [one.size for one in pictures] == [(128, 32), (128, 32), (40, 30)]
    middle = [one.getpixel((64, 16)) for one in pictures[:2]]
    np.testing.assert_allclose(middle, [(255, 0, 0), (0, 255, 0)], atol=3)


def test_a_medium_that_cannot_be_read_any_more_leaves_the_text(tmp_path: Path) -> None:
    gone = Item("words", (Image(tmp_path / "gone.png"),))
    (one,) = _pick(_task([gone], [gone], [{"c0": 1}]), [[0]], [[1]], [1])
    assert (one.query, one.right, one.top) == (_show("words", None),) * 3


def test_a_page_that_cannot_be_read_from_its_table_leaves_nothing() -> None:
    class Damaged(Read):
        def __getitem__(self, place: Any) -> Any:
            raise MediaError("row 0 holds no picture")

    task = _task(["a"], ["zero"], [{"c0": 1}])
    data = TaskData(**{name: getattr(task, name) for name in task.__slots__} | {"candidates": Damaged([])})
    (one,) = _pick(data, [[0]], [[1]], [1])
    assert (one.right, one.top) == (_show("", None),) * 2
