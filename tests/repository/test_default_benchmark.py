"""The benchmarks of the default model measure what they say: right answers, films, texts, photographs, tables."""

from __future__ import annotations

import io
import random
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import PIL.Image
import pytest

from support.media_files import picture
from support.places import ROOT
from support.scripts import forget_scripts, script


@pytest.fixture
def part(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[ModuleType]:
    monkeypatch.setenv("VLM2VEC_BENCHMARK_TOY", "1")
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks" / "speed"))
    forget_scripts(ROOT / "benchmarks")
    yield script(monkeypatch, f"benchmarks/{request.param}.py")
    forget_scripts(ROOT / "benchmarks")


@pytest.mark.parametrize("part", ["default/ranked"], indirect=True)
def test_the_place_of_an_answer_counts_ties_against_it(part: ModuleType) -> None:
    found = np.array([[1, 0], [0, 2], [3, 0], [-1, 0]], np.float32)
    asked = np.array([[1, 0], [0, 1], [1, 0]], np.float32)
    assert part.ranks(asked, found, np.array([0, 1, 3])).tolist() == [2, 1, 4]
    assert part.hits(asked, found, np.array([0, 1, 3])) == {"hit@1": 33.3, "hit@5": 100.0}


@pytest.mark.parametrize("part", ["default/films"], indirect=True)
def test_each_picture_is_in_one_shot_of_one_film(part: ModuleType) -> None:
    films = part.made_films(10, 3, random.Random(0))
    assert len(films) == 3
    shots = [list(dict.fromkeys(shown for shown, _ in film.frames)) for film in films]
    assert sorted(shown for film in shots for shown in film) == sorted({shown for film in shots for shown in film})
    for film, shown in zip(films, shots, strict=True):
        assert (len(shown), len(film.frames)) == (3, part.FILM_S * part.FRAMES_A_S)
        # The camera begins each shot with the whole picture.
        assert film.frames[0] == (shown[0], 0)
        assert max(share for _, share in film.frames) < 1


@pytest.mark.parametrize("part", ["default/texts"], indirect=True)
def test_a_long_text_has_a_sentence_in_each_half_and_not_when_they_are_left_out(part: ModuleType) -> None:
    texts = part.long_texts()
    assert len(texts) == part.MOST_TEXTS
    for one in texts:
        assert len(one.text.split()) == part.WORDS
        assert one.text.index(one.first) < one.text.index(one.second)
        assert one.first not in one.without()
        assert one.second not in one.without()


@pytest.mark.parametrize("part", ["default/photographs"], indirect=True)
def test_a_photograph_is_written_as_cameras_do(part: ModuleType, tmp_path: Path) -> None:
    picture(60, 20).save(tmp_path / "wide.png")
    with PIL.Image.open(io.BytesIO(part.as_camera(tmp_path / "wide.png", (40, 40)))) as seen:
        assert (seen.format, seen.size, seen.info.get("progressive")) == ("JPEG", (40, 40), None)
        middle = picture(60, 20).crop((20, 0, 40, 20)).resize((40, 40), PIL.Image.Resampling.BICUBIC)
        assert np.abs(np.asarray(seen).astype(int) - np.asarray(middle)).mean() < 8


@pytest.mark.parametrize("part", ["speed/default_tables"], indirect=True)
def test_the_table_of_scores_has_chance_and_no_pixels_for_texts(part: ModuleType) -> None:
    hit = {"hit@1": 10.0, "hit@5": 20.0}
    kinds = dict.fromkeys(part.KINDS, hit)
    results = {name: dict.fromkeys(part.BOTH_WAYS, kinds) for name in ("bundled", "tiny", "pixels", "untrained")}
    del results["pixels"]["word to gloss"]
    questions = {"held": 200, "noto": 100, "clip": 50, "photographs": 80, "word to gloss": 25}
    lines = part.scores({"questions": questions, "results": results}).splitlines()
    assert lines[0] == "| test | questions | chance | pixels | tiny | ConSE | 384 | 256 | 128 | int8 |"
    assert lines[2] == "| held | 200 | 0.5/2.5 | 10.0/20.0 | 10.0/20.0 | 10.0/20.0 |" + " 10.0/20.0 |" * 4
    assert lines[-1] == "| word to gloss | 25 | 4.0/20.0 | - | 10.0/20.0 | 10.0/20.0 |" + " 10.0/20.0 |" * 4
