"""Whose vectors teach a run, how they are made and found, and that the run learns what they say."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from typer.testing import CliRunner

from support.train_files import COLOURS, ON_A_CIRCLE, logged, write_config
from vlm2vec import Embedder
from vlm2vec.cli.app import app
from vlm2vec.errors import ConfigError, DataError, InputError
from vlm2vec.items import Image, Item
from vlm2vec.training.config import read_config
from vlm2vec.training.loop import train
from vlm2vec.training.teachers import TeacherVectors, teach, write_teacher
from vlm2vec.vectors.keys import uninstructed_key
from vlm2vec.vectors.store import VectorStore


def _said(folder: Path, items: list[Item]) -> torch.Tensor:
    teacher = TeacherVectors(folder)
    return teacher.of([uninstructed_key(item) for item in items])


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
        match=r"teachers: .*said should hold vectors, and holds none; vlm2vec.write_teacher makes them",
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
def test_a_run_learns_which_colours_its_teacher_finds_alike(folder: Path) -> None:
    teachers = {"circle": {"vectors": "circle", "similarity": 5.0, "temperature": 0.5}}
    changes: dict[str, object] = {"steps": 60, "teachers": teachers, "data": {"image": {"path": "image.jsonl"}}}
    train(read_config(write_config(folder, **changes)))
    vectors = Embedder.load(folder / "out").encode_query(COLOURS, target="image")
    ours = vectors @ vectors.T
    # Neighbours on the circle are nearer to each other than opposite colours, though no row says so.
    near = np.mean([ours[i, (i + 1) % 8] for i in range(8)])
    far = np.mean([ours[i, (i + 4) % 8] for i in range(8)])
    assert near > far + 0.3
    rows = [json.loads(line) for line in (folder / "out" / "log.jsonl").read_text().splitlines()]
    assert rows[-1]["teacher_losses"]["circle"] < rows[0]["teacher_losses"]["circle"] / 2


@pytest.mark.slow
def test_a_larger_model_teaches_a_run_and_is_asked_once(folder: Path) -> None:
    train(read_config(write_config(folder, out="teacher", steps=1)))
    config = write_config(folder, teachers={"large": {"vectors": "said"}}, steps=2)
    command = ["teach", str(config), "--model", str(folder / "teacher"), "--out", str(folder / "said")]
    first = CliRunner().invoke(app, command)
    # Eight words, eight pictures and eight videos; the words are asked in two sources.
    assert first.stderr.splitlines()[-1] == "24 different items, of which 24 had no vector yet and 24 have now"
    assert first.stdout == f"{folder / 'said'}\n"
    again = CliRunner().invoke(app, command)
    assert again.stderr.splitlines()[-1] == "24 different items, of which 0 had no vector yet and 0 have now"
    teacher = Embedder.load(folder / "teacher")
    pictures = [Item("", (Image(folder / f"{colour}.png"),)) for colour in COLOURS]
    said = _said(folder / "said", [*map(Item, COLOURS), *pictures]).numpy()
    asked = np.concatenate([teacher.encode_query(COLOURS, target="image"), teacher.encode_document(pictures)])
    assert np.allclose(said, asked, atol=1e-5)
    train(read_config(config))
    assert logged(folder / "out", "teacher_losses")[0].keys() == {"large"}


def test_rows_that_cannot_be_read_are_told_and_the_others_taught(folder: Path, own: Embedder) -> None:
    (folder / "red.png").unlink()
    config = read_config(write_config(folder, data={"image": {"path": "image.jsonl"}}))
    report = teach(config, own, folder / "said")
    # Of a row that cannot be trained on, the query is not asked either.
    assert (report.items, report.missing, report.embedded) == (14, 14, 14)
    assert len(report.bad) == 1
    assert report.bad[0].startswith(f"{folder / 'image.jsonl'}:1: ")
    assert "red.png" in report.bad[0]


def test_a_source_without_one_readable_row_ends_it_whatever_the_others_hold(folder: Path, own: Embedder) -> None:
    (folder / "lost.jsonl").write_text((folder / "image.jsonl").read_text().replace(".png", "_gone.png"))
    sources = {"image": {"path": "image.jsonl"}, "lost": {"path": "lost.jsonl"}}
    config = read_config(write_config(folder, data=sources))
    with pytest.raises(DataError, match=r"source 'lost': none of its \d+ rows can be read; the last: .*_gone.png"):
        teach(config, own, folder / "said")
    # What was embedded before is kept, and a source that says nothing new is none that cannot be read.
    (folder / "blue.png").unlink()
    twice = {"image": {"path": "image.jsonl"}, "again": {"path": "image.jsonl"}}
    report = teach(read_config(write_config(folder, data=twice)), own, folder / "said")
    assert (report.items, report.missing, len(report.bad)) == (14, 0, 2)


def test_hard_negatives_are_asked_as_documents(folder: Path, own: Embedder) -> None:
    row = {"query": {"text": "red"}, "positive": {"text": "crimson"}, "negatives": [{"text": "navy"}]}
    (folder / "texts.jsonl").write_text(json.dumps(row) + "\n")
    teach(read_config(write_config(folder, data={"t": {"path": "texts.jsonl"}})), own, folder / "said")
    assert np.allclose(_said(folder / "said", [Item("navy")]), own.encode_document(["navy"]), atol=1e-5)


def test_a_folder_of_one_teacher_is_not_another_teachers(folder: Path, own: Embedder, published: Embedder) -> None:
    config = read_config(write_config(folder, data={"words": {"path": "words.jsonl"}}))
    teach(config, own, folder / "said")
    with pytest.raises(ConfigError, match=r"said holds vectors of .* as it was then .*give another folder"):
        teach(config, published, folder / "said")
    for dim in (own.dim, 3):
        write_teacher(folder / f"own{dim}", [Item("dog")], np.ones((1, dim), np.float32))
        with pytest.raises(
            DataError, match=r"own\d+ holds vectors, and nothing says whose they are; give another folder"
        ):
            teach(config, own, folder / f"own{dim}")


def test_a_folder_that_no_more_says_whose_it_is_is_refused(folder: Path, own: Embedder) -> None:
    config = read_config(write_config(folder, data={"words": {"path": "words.jsonl"}}))
    teach(config, own, folder / "said")
    for text in ("", "{}", "[]"):
        (folder / "said" / "teacher.json").write_text(text)
        with pytest.raises(DataError, match=r"teacher.json does not say whose vectors lie in .*give another folder"):
            teach(config, own, folder / "said")


def test_a_teacher_that_knows_nothing_of_the_data_ends_the_run(folder: Path) -> None:
    write_teacher(folder / "said", [Item("something else")], np.ones((1, 3), np.float32))
    config = read_config(write_config(folder, teachers={"far": {"vectors": "said"}}, steps=2))
    with pytest.raises(DataError, match=r"teachers that know none of the items of 2 steps: far \(.*said\)"):
        train(config)


def test_the_circle_of_these_tests_is_one() -> None:
    assert ON_A_CIRCLE.shape == (8, 2)
    assert np.allclose((ON_A_CIRCLE * np.roll(ON_A_CIRCLE, 1, axis=0)).sum(1), math.cos(math.pi / 4))
