"""What a teacher adds to the loss, by hand; and that a run learns what its teacher says."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from typer.testing import CliRunner

from support.train_files import COLOURS, ON_A_CIRCLE, logged, write_circle, write_config, write_data
from vlm2vec import Embedder
from vlm2vec.cli.app import app
from vlm2vec.errors import ConfigError, DataError, InputError
from vlm2vec.items import Image, Item
from vlm2vec.training.config import Teacher, read_config
from vlm2vec.training.distillation import Distillation, TeacherVectors, write_teacher
from vlm2vec.training.loop import train
from vlm2vec.training.teaching import teach
from vlm2vec.vectors.keys import uninstructed_key
from vlm2vec.vectors.store import VectorStore


def _distillation(teacher: Teacher, weight: torch.Tensor) -> Distillation:
    module = Distillation(teacher, weight.shape[1], weight.shape[0])
    with torch.no_grad():
        module.map.weight.copy_(weight)
    return module


def _said(folder: Path, items: list[Item]) -> torch.Tensor:
    teacher = TeacherVectors(folder)
    return teacher.of([uninstructed_key(item) for item in items])


def _different(items: torch.Tensor) -> torch.Tensor:
    """A content of its own for each."""
    return torch.arange(len(items))


def test_regression_is_one_minus_the_cosine_of_what_the_map_makes_of_our_vectors() -> None:
    module = _distillation(Teacher(vectors=Path(), similarity=0.0), torch.tensor([[0.0, 2.0], [1.0, 0.0], [0.0, 0.0]]))
    # Mapped to (0, 3, 0) and (8, 0, 0): the first is what the teacher says, the second has a cosine of 0.6 with it.
    ours, taught = torch.tensor([[3.0, 0.0], [0.0, 4.0]]), torch.tensor([[0.0, 1.0, 0.0], [0.6, 0.0, 0.8]])
    assert module(ours, taught, _different(ours), [2]).item() == pytest.approx((0 + 0.4) / 2, abs=1e-6)


def test_similarity_is_the_divergence_of_our_softmax_over_the_others_from_the_teachers() -> None:
    module = _distillation(Teacher(vectors=Path(), regression=0.0, temperature=0.5), torch.eye(2))
    ours = torch.tensor([[1.0, 0.0], [0.0, 2.0], [0.0, 1.0]])
    taught = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])

    def divergence(p: tuple[float, float], q: tuple[float, float]) -> float:
        return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))

    high, low, even = math.exp(2) / (1 + math.exp(2)), 1 / (1 + math.exp(2)), (0.5, 0.5)
    rows = [
        # The teacher finds the second like the first, we find neither other like it.
        divergence((high, low), even),
        # The teacher finds the first like the second, we the third.
        divergence((high, low), (low, high)),
        # The teacher finds neither like the third, we the second.
        divergence(even, (low, high)),
    ]
    assert module(ours, taught, _different(ours), [2]).item() == pytest.approx(sum(rows) / 3, abs=1e-5)


def test_leading_dimensions_learn_the_similarities_too() -> None:
    module = _distillation(Teacher(vectors=Path(), regression=0.0, temperature=0.5), torch.eye(2))
    # In both dimensions ours are what the teacher says; in the first alone, all three point the same way.
    ours = torch.tensor([[1.0, 0.0], [3.0, 4.0], [4.0, 3.0]])
    taught = torch.nn.functional.normalize(ours, dim=1)
    assert module(ours, taught, _different(ours), [2]).item() == pytest.approx(0, abs=1e-6)

    def divergence(a: float, b: float) -> float:
        p = 1 / (1 + math.exp((b - a) / 0.5))
        return p * math.log(2 * p) + (1 - p) * math.log(2 * (1 - p))

    rows = [divergence(0.6, 0.8), divergence(0.6, 0.96), divergence(0.8, 0.96)]
    assert module(ours, taught, _different(ours), [1]).item() == pytest.approx(sum(rows) / 3, abs=1e-5)
    assert module(ours, taught, _different(ours), [2, 1]).item() == pytest.approx(sum(rows) / 6, abs=1e-5)


def test_nothing_is_to_be_learned_from_how_alike_items_of_equal_content_are() -> None:
    module = _distillation(Teacher(vectors=Path(), regression=0.0), torch.eye(2))
    ours, taught = (
        torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]),
        torch.tensor([[0.6, 0.8], [0.6, 0.8], [0.0, 1.0]]),
    )
    # Each of the first two has one other item, the third two that are equally near: no choice for us or the teacher.
    assert module(ours, taught, torch.tensor([7, 7, 8]), [2]).item() == pytest.approx(0, abs=1e-6)
    assert module(ours, taught, _different(ours), [2]).item() > 0.1
    assert module(ours, taught, torch.tensor([7, 7, 7]), [2]).item() == pytest.approx(0, abs=1e-6)


def test_of_one_known_item_the_distance_counts_alone() -> None:
    module = _distillation(Teacher(vectors=Path()), torch.eye(2))
    taught = torch.tensor([[0.0, 0.0], [0.6, 0.8]])
    assert module(torch.tensor([[1.0, 0.0], [0.0, 2.0]]), taught, torch.arange(2), [2]).item() == pytest.approx(
        0.2, abs=1e-6
    )


def test_items_of_which_the_teacher_says_nothing_do_not_count() -> None:
    torch.manual_seed(0)
    module = Distillation(Teacher(vectors=Path()), 4, 3)
    ours, taught = torch.randn(5, 4), torch.nn.functional.normalize(torch.randn(5, 3), dim=1)
    taught[[1, 3]] = 0
    known = [0, 2, 4]
    assert torch.equal(
        module(ours, taught, _different(ours), [4, 2]), module(ours[known], taught[known], torch.arange(3), [4, 2])
    )


def test_a_batch_of_which_the_teacher_says_nothing_adds_nothing_and_still_gives_gradients() -> None:
    module = Distillation(Teacher(vectors=Path()), 4, 3)
    ours = torch.randn(5, 4, requires_grad=True)
    value = module(ours, torch.zeros(5, 3), _different(ours), [4])
    value.backward()
    assert value.item() == 0
    assert ours.grad is not None
    assert module.map.weight.grad is not None
    assert not module.map.weight.grad.any()


def test_vectors_are_found_by_content_whatever_the_instruction(tmp_path: Path) -> None:
    picture, copy = tmp_path / "a.png", tmp_path / "b.png"
    PIL.Image.new("RGB", (8, 8)).save(picture)
    copy.write_bytes(picture.read_bytes())
    write_teacher(tmp_path / "said", [Item("dog"), Item("", (Image(picture),))], np.array([[3, 4], [0, 2]], np.float32))
    dog = [pytest.approx(0.6), pytest.approx(0.8)]
    asked = {
        Item("dog", instruction="Find"): dog,
        # As the published benchmarks write it: the instruction is in the string that is tokenised.
        Item("dog", instruction="Find", verbatim="Find dog"): dog,
        Item("cat"): [0, 0],
        Item("", (Image(copy),), "Look"): [0, 1],
        # Where the string is all there is, it is the content.
        Item(verbatim="dog"): [0, 0],
    }
    assert _said(tmp_path / "said", list(asked)).tolist() == list(asked.values())


def test_a_folder_without_vectors_or_with_two_kinds_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(
        DataError,
        match=r"teachers: .*said should hold vectors, and holds none; vlm2vec.training.teaching.teach makes them",
    ):
        TeacherVectors(tmp_path / "said")
    for dim in (2, 3):
        VectorStore.open(tmp_path / "said", dim).put([uninstructed_key(Item("dog"))], np.ones((1, dim), np.float32))
    with pytest.raises(DataError, match=r"one dimension, and holds \[2, 3\]"):
        TeacherVectors(tmp_path / "said")


def test_a_teacher_is_not_written_beside_another(tmp_path: Path) -> None:
    write_teacher(tmp_path / "said", [Item("dog")], np.ones((1, 2), np.float32))
    with pytest.raises(ConfigError, match="said holds vectors of 2 dimensions, and these have 3; give another folder"):
        write_teacher(tmp_path / "said", [Item("cat")], np.ones((1, 3), np.float32))
    write_teacher(tmp_path / "said", [Item("cat")], np.ones((1, 2), np.float32))
    (tmp_path / "said" / "teacher.json").write_text("{}")
    with pytest.raises(
        ConfigError, match=r"said holds the vectors of the model that teacher\.json names; give another folder"
    ):
        write_teacher(tmp_path / "said", [Item("bird")], np.ones((1, 2), np.float32))
    assert len(TeacherVectors(tmp_path / "said").store) == 2


def test_a_vector_that_is_not_finite_is_not_kept_from_a_teacher(tmp_path: Path) -> None:
    said = np.array([[1, 2], [np.nan, 1], [np.inf, 1]], np.float32)
    with pytest.raises(
        InputError, match=r"vectors of 2 items are not finite, first that of item 1; nothing is written"
    ):
        write_teacher(tmp_path / "said", [Item("dog"), Item("cat"), Item("cow")], said)
    assert not (tmp_path / "said").exists()


@pytest.mark.slow
def test_a_run_learns_which_colours_its_teacher_finds_alike(tmp_path: Path) -> None:
    write_data(tmp_path)
    write_circle(tmp_path / "circle")
    teachers = {"circle": {"vectors": "circle", "similarity": 5.0, "temperature": 0.5}}
    changes: dict[str, object] = {"steps": 60, "teachers": teachers, "data": {"image": {"path": "image.jsonl"}}}
    train(read_config(write_config(tmp_path, **changes)))
    vectors = Embedder.load(tmp_path / "out").encode_query(COLOURS, target="image")
    ours = vectors @ vectors.T
    # Neighbours on the circle are nearer to each other than opposite colours, though no row says so.
    near = np.mean([ours[i, (i + 1) % 8] for i in range(8)])
    far = np.mean([ours[i, (i + 4) % 8] for i in range(8)])
    assert near > far + 0.3
    rows = [json.loads(line) for line in (tmp_path / "out" / "log.jsonl").read_text().splitlines()]
    assert rows[-1]["teacher_losses"]["circle"] < rows[0]["teacher_losses"]["circle"] / 2


@pytest.mark.slow
def test_a_larger_model_teaches_a_run_and_is_asked_once(tmp_path: Path) -> None:
    write_data(tmp_path)
    train(read_config(write_config(tmp_path, out="teacher", steps=1)))
    config = write_config(tmp_path, teachers={"large": {"vectors": "said"}}, steps=2)
    command = ["teach", str(config), "--model", str(tmp_path / "teacher"), "--out", str(tmp_path / "said")]
    first = CliRunner().invoke(app, command)
    # Eight words, eight pictures and eight videos; the words are asked in two sources.
    assert first.stderr.splitlines()[-1] == "24 different items, of which 24 had no vector yet and 24 have now"
    assert first.stdout == f"{tmp_path / 'said'}\n"
    again = CliRunner().invoke(app, command)
    assert again.stderr.splitlines()[-1] == "24 different items, of which 0 had no vector yet and 0 have now"
    teacher = Embedder.load(tmp_path / "teacher")
    pictures = [Item("", (Image(tmp_path / f"{colour}.png"),)) for colour in COLOURS]
    said = _said(tmp_path / "said", [*map(Item, COLOURS), *pictures]).numpy()
    asked = np.concatenate([teacher.encode_query(COLOURS, target="image"), teacher.encode_document(pictures)])
    assert np.allclose(said, asked, atol=1e-5)
    train(read_config(config))
    assert logged(tmp_path / "out", "teacher_losses")[0].keys() == {"large"}


def test_rows_that_cannot_be_read_are_told_and_the_others_taught(tmp_path: Path) -> None:
    write_data(tmp_path)
    train(read_config(write_config(tmp_path, out="teacher", steps=1)))
    (tmp_path / "red.png").unlink()
    config = read_config(write_config(tmp_path, data={"image": {"path": "image.jsonl"}}))
    report = teach(config, Embedder.load(tmp_path / "teacher"), tmp_path / "said")
    # Of a row that cannot be trained on, the query is not asked either.
    assert (report.items, report.missing, report.embedded) == (14, 14, 14)
    assert len(report.bad) == 1
    assert report.bad[0].startswith(f"{tmp_path / 'image.jsonl'}:1: ")
    assert "red.png" in report.bad[0]


def test_a_source_without_one_readable_row_ends_it_whatever_the_others_hold(tmp_path: Path) -> None:
    write_data(tmp_path)
    train(read_config(write_config(tmp_path, out="teacher", steps=1)))
    (tmp_path / "lost.jsonl").write_text((tmp_path / "image.jsonl").read_text().replace(".png", "_gone.png"))
    sources = {"image": {"path": "image.jsonl"}, "lost": {"path": "lost.jsonl"}}
    config = read_config(write_config(tmp_path, data=sources))
    teacher = Embedder.load(tmp_path / "teacher")
    with pytest.raises(DataError, match=r"source 'lost': none of its \d+ rows can be read; the last: .*_gone.png"):
        teach(config, teacher, tmp_path / "said")
    # What was embedded before is kept, and a source that says nothing new is none that cannot be read.
    (tmp_path / "blue.png").unlink()
    twice = {"image": {"path": "image.jsonl"}, "again": {"path": "image.jsonl"}}
    report = teach(read_config(write_config(tmp_path, data=twice)), teacher, tmp_path / "said")
    assert (report.items, report.missing, len(report.bad)) == (14, 0, 2)


def test_hard_negatives_are_asked_as_documents(tmp_path: Path) -> None:
    write_data(tmp_path)
    train(read_config(write_config(tmp_path, out="teacher", steps=1)))
    row = {"query": {"text": "red"}, "positive": {"text": "crimson"}, "negatives": [{"text": "navy"}]}
    (tmp_path / "texts.jsonl").write_text(json.dumps(row) + "\n")
    teacher = Embedder.load(tmp_path / "teacher")
    teach(read_config(write_config(tmp_path, data={"t": {"path": "texts.jsonl"}})), teacher, tmp_path / "said")
    assert np.allclose(_said(tmp_path / "said", [Item("navy")]), teacher.encode_document(["navy"]), atol=1e-5)


@pytest.mark.slow
def test_a_folder_of_one_teacher_is_not_another_teachers(tmp_path: Path) -> None:
    write_data(tmp_path)
    for name, seed in (("teacher", 1), ("other", 2)):
        train(read_config(write_config(tmp_path, out=name, steps=1, seed=seed)))
    config = read_config(write_config(tmp_path))
    teach(config, Embedder.load(tmp_path / "teacher"), tmp_path / "said")
    with pytest.raises(ConfigError, match=r"said holds vectors of .*teacher as it was then .*give another folder"):
        teach(config, Embedder.load(tmp_path / "other"), tmp_path / "said")
    for dim in (Embedder.load(tmp_path / "other").dim, 3):
        write_teacher(tmp_path / f"own{dim}", [Item("dog")], np.ones((1, dim), np.float32))
        with pytest.raises(
            DataError, match=r"own\d+ holds vectors, and nothing says whose they are; give another folder"
        ):
            teach(config, Embedder.load(tmp_path / "other"), tmp_path / f"own{dim}")


def test_a_folder_that_no_more_says_whose_it_is_is_refused(tmp_path: Path) -> None:
    write_data(tmp_path)
    train(read_config(write_config(tmp_path, out="teacher", steps=1)))
    config, teacher = read_config(write_config(tmp_path)), Embedder.load(tmp_path / "teacher")
    teach(config, teacher, tmp_path / "said")
    for text in ("", "{}", "[]"):
        (tmp_path / "said" / "teacher.json").write_text(text)
        with pytest.raises(DataError, match=r"teacher.json does not say whose vectors lie in .*give another folder"):
            teach(config, teacher, tmp_path / "said")


def test_a_teacher_that_knows_nothing_of_the_data_ends_the_run(tmp_path: Path) -> None:
    write_data(tmp_path)
    write_teacher(tmp_path / "said", [Item("something else")], np.ones((1, 3), np.float32))
    config = read_config(write_config(tmp_path, teachers={"far": {"vectors": "said"}}, steps=2))
    with pytest.raises(DataError, match=r"teachers that know none of the items of 2 steps: far \(.*said\)"):
        train(config)


def test_the_circle_of_these_tests_is_one() -> None:
    assert ON_A_CIRCLE.shape == (8, 2)
    assert np.allclose((ON_A_CIRCLE * np.roll(ON_A_CIRCLE, 1, axis=0)).sum(1), math.cos(math.pi / 4))
