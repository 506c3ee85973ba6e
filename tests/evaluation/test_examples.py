"""The best and worst queries of a task: which they are, how small they are made, and how they are kept."""

from __future__ import annotations

import base64
import io
import json
import math
import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from numpy.typing import ArrayLike

from support.media_files import encoded, picture
from vlm2vec.errors import DataError, MediaError, StorageError
from vlm2vec.evaluation.run_folder import (
    Example,
    _pick_examples,
    _Shown,
    _task_file,
    _write_examples,
    read_examples,
)
from vlm2vec.evaluation.scoring import Ranking
from vlm2vec.items import Image, Item, Video
from vlm2vec.media.thumbnails import thumbnail_uri
from vlm2vec.tasks.data import TaskData
from vlm2vec.vectors.ranking import rank


def _show(text: str, picture: str | None = None) -> _Shown:
    return _Shown(text=text, picture=picture)


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


def _pick(data: TaskData, ranking: ArrayLike, scores: ArrayLike, metric: ArrayLike) -> list[Example]:
    return _pick_examples(
        data, Ranking(np.array(ranking), np.array(scores, np.float32), {"m": np.array(metric, np.float64)}), "m"
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
        query_id="q1", query=_show("b"), right=_show("zero"), rank=1, top=_show("zero"), margin=2.0
    )
    assert found[3] == Example(
        query_id="q5", query=_show("f"), right=_show("zero"), rank=2, top=_show("one"), margin=-2.0
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
    assert [one.query_id for one in _pick(data, [[-1], [0]], [[-math.inf], [1.0]], [1, 0])] == ["q1"]
    assert _pick(_task(["a"], [], [{}]), np.empty((1, 0), np.int64), np.empty((1, 0)), [0]) == []


def test_what_a_ranking_gives_can_be_picked_from() -> None:
    data = _task(["a", "b"], ["zero", "one"], [{"c0": 1}, {"c0": 1}])
    ranking = Ranking.of(data, partial(rank, np.array([[1, 0], [0, 1]], np.float32), np.eye(2, dtype=np.float32)))
    found = _pick_examples(data, ranking, "hit@1")
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
    middle = [np.asarray(one)[16, 64] for one in pictures[:2]]
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


# How they are kept

ONE = Example(query_id="q", query=_show("what"), right=_show("a cat"), rank=2, top=_show("a dog"), margin=-0.25)


def test_examples_are_read_as_they_were_written(tmp_path: Path) -> None:
    jpeg = "data:image/jpeg;base64," + base64.b64encode(encoded(picture(8, 6), "JPEG")).decode()
    examples = [
        ONE.model_copy(update={"query_id": "\udcff/1", "query": _show("ü \udcff", jpeg), "margin": 1 / 3}),
        ONE.model_copy(update={"rank": None, "right": None}),
    ]
    folder = tmp_path / "deep"
    _write_examples(folder, "a/b: ü", [ONE])
    _write_examples(folder, "a/b: ü", examples)
    _write_examples(folder, "GQA", [])
    assert read_examples(folder) == {"a/b: ü": examples, "GQA": []}
    assert sorted(path.name for path in (folder / "examples").iterdir()) == ["GQA.json", "a_b___~1417317f35dc06b2.json"]


def test_a_folder_that_is_not_there_has_no_examples(tmp_path: Path) -> None:
    assert read_examples(tmp_path / "no") == {}


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("ViDoRe_docvqa", "ViDoRe_docvqa.x"),
        ("Visual7W-Pointing.2", "Visual7W-Pointing.2.x"),
        ("../../etc/passwd", "______etc_passwd~"),
        (".hidden", "_hidden~"),
        ("a\0b", "a_b~"),
        ("", "~"),
        ("x" * 101, "x" * 80 + "~"),
    ],
)
def test_every_name_of_a_task_gives_a_file_in_the_folder(tmp_path: Path, name: str, file: str) -> None:
    path = _task_file(tmp_path, name, ".x")
    assert path.parent == tmp_path
    assert re.sub(r"(?<=~)[0-9a-f]{16}\.x$", "", path.name) == file
    path.touch()


def test_names_that_would_look_alike_have_files_of_their_own(tmp_path: Path) -> None:
    names = ["a/b", "a:b", "a_b", "a\\b", "x" * 101, "x" * 102]
    assert len({_task_file(tmp_path, name, ".json") for name in names}) == len(names)


def _damaged(**changed: object) -> str:
    shown = {"text": "a", "picture": None}
    one = {"query_id": "q", "query": shown, "right": shown, "rank": 1, "top": shown, "margin": 0.5}
    return json.dumps({"dataset": "GQA", "examples": [one | changed]})


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "Expecting value: line 1 column 1 (char 0)"),
        ("[]", "it is not an object"),
        ('{"dataset": "GQA"}', "examples is missing"),
        ('{"dataset": "MSVD", "examples": []}', "those of 'MSVD' lie in another file"),
        ('{"dataset": "GQA", "examples": [3]}', "examples.0 is not an object"),
        (_damaged(rank=0), "examples.0.rank is 0: input should be greater than 0"),
        (_damaged(rank=True), "examples.0.rank is true: input should be a valid integer"),
        (_damaged(margin="0"), "examples.0.margin is '0': input should be a valid number"),
        (_damaged(margin=float("inf")), "examples.0.margin is Infinity: input should be a finite number"),
        (_damaged(top=None), "examples.0.top is not an object"),
        (_damaged(query={"text": "a"}), "examples.0.query.picture is missing"),
        (
            _damaged(query={"text": "a", "picture": "https://example.org/a.png"}),
            "examples.0.query.picture is 'https://example.org/a.png': string should match pattern '^data:image/jpeg;"
            "base64,[A-Za-z0-9+/]+={0,2}$'",
        ),
    ],
)
def test_damaged_examples_are_an_error_that_names_the_file(tmp_path: Path, text: str, problem: str) -> None:
    file = tmp_path / "examples" / "GQA.json"
    file.parent.mkdir()
    file.write_text(text, "utf-8")
    with pytest.raises(DataError, match=re.escape(f"{file} does not hold examples: {problem}; delete it, and the")):
        read_examples(tmp_path)


def test_what_other_systems_leave_beside_a_file_is_no_examples(tmp_path: Path) -> None:
    _write_examples(tmp_path, "GQA", [ONE])
    (tmp_path / "examples" / "._GQA.json").write_bytes(b"\0\5\x16\7")
    assert read_examples(tmp_path) == {"GQA": [ONE]}


def test_examples_that_cannot_be_written_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match=re.escape(f"cannot write {tmp_path / 'file' / 'examples' / 'GQA.json'}: ")):
        _write_examples(tmp_path / "file", "GQA", [ONE])
