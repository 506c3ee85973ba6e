"""A damaged frame is left out of a benchmark's video as published, and counted wherever the score is read."""

from __future__ import annotations

import io
import json
import random
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import typer
from typer.testing import CliRunner

from support.evaluation_runs import Counting, Together, in_threads, predictions_in, scores_in, stored_keys, written
from support.golden_cases import MODEL
from support.task_fixtures import write_corpus, write_rows
from vlm2vec.cli.data import data as data_command
from vlm2vec.cli.evaluate import evaluate as evaluate_command
from vlm2vec.errors import LimitError, MediaError
from vlm2vec.evaluation.rendering import as_text
from vlm2vec.evaluation.report import Entry, build_report
from vlm2vec.evaluation.runner import Evaluation, TaskScore, evaluate
from vlm2vec.evaluation.scores import read_scores
from vlm2vec.evaluation.scoring import _FrameDropper
from vlm2vec.fetching.needs import TaskNeeds
from vlm2vec.items import Image, Item, Video
from vlm2vec.media.video import damaged_frames
from vlm2vec.model.embedder import Embedder
from vlm2vec.tasks.data import TaskSpec
from vlm2vec.tasks.registry import get_tasks, parse_task
from vlm2vec.vectors.store import VectorStore


def _picture(form: str, seed: int = 0) -> bytes:
    """Noise, so that every byte of the file says something."""
    buffer = io.BytesIO()
    PIL.Image.frombytes("RGB", (24, 24), random.Random(seed).randbytes(24 * 24 * 3)).save(buffer, form)
    return buffer.getvalue()


def _claiming(width: int) -> bytes:
    """A PNG whose header says that it is that wide and high."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, width, 8, 2, 0, 0, 0)
    begin = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    return begin + struct.pack(">I", 64) + b"IDAT" + bytes(64)


DAMAGE: dict[str, bytes] = {
    "a JPEG cut in half": _picture("JPEG")[:900],
    "a JPEG without its last 300 bytes": _picture("JPEG")[:-300],
    "a PNG cut in half": _picture("PNG")[:900],
    "a PNG with other bytes in its middle": _picture("PNG")[:700] + bytes(50) + _picture("PNG")[750:],
    "a header alone": _picture("JPEG")[:20],
    "nothing": b"",
    "a text": b"no picture",
}


@pytest.fixture
def task() -> TaskSpec:
    (task,) = get_tasks(names=["ActivityNetQA"])
    return task


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two videos of one question each; the first has 16 frames of noise, of which eight are picked."""
    root = written(["ActivityNetQA"], tmp_path / "data")
    for video in sorted((root / "video-tasks/frames/video_qa/ActivityNetQA").iterdir())[:1]:
        for frame in video.iterdir():
            frame.unlink()
        for number in range(16):
            (video / f"{number}.jpg").write_bytes(_picture("JPEG", number))
    return root


def _first(root: Path) -> Path:
    return min((root / "video-tasks/frames/video_qa/ActivityNetQA").iterdir())


PICKED = [0, 2, 4, 6, 8, 10, 12, 15]
"""Of 16 frames."""


def _vectors(out: Path, dim: int) -> dict[bytes, list[float]]:
    keys = sorted(stored_keys(out))
    return dict(zip(keys, VectorStore.open(out / "vectors", dim).get(keys)[1].tolist(), strict=True))


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_frame_is_left_out_after_picking_and_counted(
    published: Embedder, task: TaskSpec, root: Path, tmp_path: Path, damage: str
) -> None:
    frame = _first(root) / "4.jpg"
    frame.write_bytes(DAMAGE[damage])
    told: list[TaskScore] = []
    model, out = Counting(published), tmp_path / "out"
    found = evaluate(model, [task], root=root, out=out, on_score=told.append)
    assert found.failures == {}
    counted = f"ActivityNetQA: a damaged frame of a video is left out (1 times, first in {frame})"
    assert [str(warning) for warning in told[0].warnings] == [counted]
    assert scores_in(out)["metadata"]["dropped_frames"] == {"ActivityNetQA": 1}
    assert read_scores(out / "scores.json").datasets["video"]["ActivityNetQA"].dropped_frames == 1
    # Just as if the seven others had been given; a video of seven frames is not picked from anew.
    others = Video(tuple(_first(root) / f"{number}.jpg" for number in PICKED if number != 4))
    video_query = parse_task(task, root).queries[0]
    expected = published.encode([Item(video_query.text, (others,), video_query.instruction, video_query.verbatim)])
    stored = _vectors(out, published.dim)
    assert min(float(np.abs(np.array(one) - expected[0]).max()) for one in stored.values()) < 1e-6
    # A second run embeds nothing, and counts again.
    encoded = model.num_encoded
    again = evaluate(model, [task], root=root, out=out, on_score=told.append)
    # The video that cannot be decoded is tried again; it has no vector of its own.
    assert model.num_encoded - encoded <= 1
    assert _vectors(out, published.dim) == stored
    assert again.scores.datasets == found.scores.datasets
    assert told[1].warnings == told[0].warnings


def test_a_damaged_frame_that_is_not_picked_changes_nothing(
    published: Embedder, task: TaskSpec, root: Path, tmp_path: Path
) -> None:
    whole = evaluate(Counting(published), [task], root=root, out=tmp_path / "whole", strict=True)
    (_first(root) / "5.jpg").write_bytes(b"")
    damaged = evaluate(Counting(published), [task], root=root, out=tmp_path / "damaged", strict=True)
    assert damaged.failures == {}
    assert damaged.scores.datasets == whole.scores.datasets
    assert _vectors(tmp_path / "damaged", published.dim) == _vectors(tmp_path / "whole", published.dim)
    assert "dropped_frames" not in scores_in(tmp_path / "damaged")["metadata"]


def test_a_strict_run_fails_the_task_and_names_every_frame_even_if_an_earlier_run_did_not(
    root: Path, tmp_path: Path
) -> None:
    frames = [_first(root) / "0.jpg", _first(root) / "15.jpg"]
    for frame in frames:
        frame.write_bytes(frame.read_bytes()[:900])
    code, out, err = _evaluate(root, tmp_path / "out")
    assert code == 0
    first = f"  as published: ActivityNetQA: a damaged frame of a video is left out (2 times, first in {frames[0]})"
    assert first in err.splitlines()
    assert ": damaged frames were left out of videos, as published: 2 of ActivityNetQA" in out
    code, _, err = _evaluate(root, tmp_path / "out", "--strict")
    assert code == 1
    (named, count) = [line for line in err.splitlines() if line.startswith("error: ")]
    assert named.startswith("error: ActivityNetQA: 2 frames of its videos are damaged: ")
    assert all(str(frame) in named for frame in frames)
    assert count == "error: 1 of 1 tasks failed and have no score"
    assert not (tmp_path / "out" / "scores.json").exists()


def test_a_video_of_damaged_frames_alone_is_an_error(
    published: Embedder, task: TaskSpec, root: Path, tmp_path: Path
) -> None:
    for frame in _first(root).iterdir():
        frame.write_bytes(b"no picture")
    found = evaluate(Counting(published), [task], root=root, out=tmp_path / "out")
    assert list(found.failures) == ["ActivityNetQA"]
    assert str(_first(root) / "0.jpg") in str(found.failures["ActivityNetQA"])


@pytest.mark.parametrize(
    ("spoil", "error"),
    [
        (lambda frame: frame.unlink(), "No such file"),
        (lambda frame: frame.write_bytes(_claiming(9000)), "more than the 64,000,000 pixels allowed"),
    ],
    ids=["gone", "too large"],
)
def test_a_frame_that_is_gone_or_too_large_is_no_damaged_one(
    tmp_path: Path, spoil: Callable[[Path], object], error: str
) -> None:
    """A disk that fails, or a file that was moved away, must not make a score of fewer frames."""
    frames = [tmp_path / f"{number}.jpg" for number in range(3)]
    for frame in frames:
        frame.write_bytes(_picture("JPEG"))
    frames[0].write_bytes(b"no picture")
    spoil(frames[2])
    with pytest.raises(MediaError) as told:
        damaged_frames(frames)
    assert error in str(told.value)
    assert isinstance(told.value, LimitError) == ("allowed" in error)
    dropper = _FrameDropper()
    assert dropper(Item(media=(Video(tuple(frames)),))) is None
    assert dropper.reasons == {}


def test_frames_of_several_processes_are_left_out_alike(
    published: Embedder, task: TaskSpec, root: Path, tmp_path: Path
) -> None:
    (_first(root) / "0.jpg").write_bytes(b"")
    (_first(root) / "2.jpg").write_bytes(_picture("JPEG")[:900])
    alone = evaluate(Counting(published), [task], root=root, out=tmp_path / "alone")

    def work(processes: Together) -> Evaluation:
        return evaluate(Counting(published), [task], root=root, out=tmp_path / "both", processes=processes)

    def strictly(processes: Together) -> Evaluation:
        out = tmp_path / "strict"
        return evaluate(Counting(published), [task], root=root, out=out, processes=processes, strict=True)

    for found in in_threads(work):
        assert found.failures == {}
        assert found.scores.datasets == alone.scores.datasets
    assert predictions_in(tmp_path / "both").keys() == predictions_in(tmp_path / "alone").keys()
    first, second = in_threads(strictly)
    for found in (first, second):
        assert str(found.failures["ActivityNetQA"]).startswith("2 frames of its videos are damaged: ")


def test_pictures_of_one_item_and_other_media_stay_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "v").mkdir()
    (tmp_path / "v" / "0.jpg").write_bytes(b"no picture")
    (tmp_path / "0.jpg").write_bytes(b"no picture")
    dropper = _FrameDropper()
    for medium in (Image(tmp_path / "0.jpg"), Video(tmp_path / "v"), Video(b"no video")):
        assert dropper(Item(media=(medium,))) is None
    frame, other = _picture("JPEG"), _picture("PNG")
    mended = dropper(Item("text", (Video((frame, b"no picture", other)),), "do", "verbatim"))
    assert mended == Item("text", (Video((frame, other)),), "do", "verbatim")
    assert list(dropper.reasons) == [b"no picture"]


def test_a_report_says_how_many_frames_were_left_out(
    published: Embedder, task: TaskSpec, root: Path, tmp_path: Path
) -> None:
    (_first(root) / "0.jpg").write_bytes(b"")
    found = evaluate(Counting(published), [task], root=root, out=tmp_path / "out")
    told = as_text(build_report([Entry(found.scores, "out")])).splitlines()
    assert "tiny: damaged frames were left out of videos, as published: 1 of ActivityNetQA" in told


# vlm2vec data check --deep


def _check(*arguments: object) -> tuple[int, str, str]:
    return _run(data_command, "check", "mmeb-v2", *arguments)


def _evaluate(root: Path, out: Path, *options: str) -> tuple[int, str, str]:
    places = ("--benchmark", "mmeb-v2", "--tasks", "ActivityNetQA", "--data", root, "--out", out)
    return _run(evaluate_command, "--model", MODEL, "--prompt-style", "vlm2vec", *places, *options)


def _run(command: Callable[..., None], *arguments: object) -> tuple[int, str, str]:
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(command)
    result = CliRunner().invoke(app, list(map(str, arguments)))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


def test_a_deep_check_opens_every_frame_picture_and_page_and_names_the_damaged(tmp_path: Path) -> None:
    names = ["HMDB51", "RefCOCO", "ViDoRe_arxivqa", "VisRAG_ArxivQA"]
    root = written(names, tmp_path)
    video = min((root / "video-tasks/frames/video_cls/HMDB51").iterdir())
    (video / "frame_0009.jpg").write_bytes(_picture("JPEG")[:900])
    (video / "frame_0010.jpg").write_bytes(_picture("JPEG"))
    picture = min((root / "image-tasks/RefCOCO").iterdir())
    picture.write_bytes(b"")
    (pages,) = get_tasks(names=["ViDoRe_arxivqa"])
    sound = parse_task(pages, root)
    place = write_corpus(pages, root, [(name, _picture("PNG")[:700]) for name in sound.candidate_names])
    assert _check("--data", root, "--tasks", ",".join(names))[0] == 0
    code, out, err = _check("--data", root, "--tasks", ",".join(names), "--deep")
    assert code == 1
    assert err == f"opening the data of 4 tasks in {root}\n"
    damaged = [line.split(" cannot be read")[0] for line in out.splitlines() if ": damaged: " in line]
    assert damaged == [
        f"RefCOCO: damaged: image-tasks/RefCOCO/{picture.name}: {picture}",
        f"HMDB51: damaged: video-tasks/frames/video_cls/HMDB51/{video.name}/frame_0009.jpg: {video / 'frame_0009.jpg'}",
        *(f"ViDoRe_arxivqa: damaged: {place} row {row}: <700 bytes>" for row in range(len(sound.candidate_names))),
    ]
    assert out.splitlines()[-1] == f"3 of 4 tasks: data are missing or damaged in {root}"
    _, out, _ = _check("--data", root, "--tasks", "RefCOCO,VisRAG_ArxivQA", "--deep", "--json")
    first, second = json.loads(out)["tasks"]
    assert list(first["damaged"]) == [f"image-tasks/RefCOCO/{picture.name}"]
    assert (first["complete"], second["damaged"], second["complete"]) == (False, {}, True)


def test_a_deep_check_of_sound_data_says_so_and_counts_what_it_opens(tmp_path: Path) -> None:
    root = written(["HMDB51"], tmp_path)
    code, out, _ = _check("--data", root, "--tasks", "HMDB51", "--deep")
    assert (code, out.splitlines()[-1]) == (0, f"1 task: all data are in {root} and can be opened")
    seen: list[tuple[int, int]] = []
    (task,) = get_tasks(names=["HMDB51"])
    count = sum(path.suffix == ".png" for path in root.rglob("*"))
    assert TaskNeeds.of(task, root, deep=True, on_progress=lambda *where: seen.append(where)).complete
    assert seen == [(count, count)]


def test_what_is_missing_is_not_opened_and_not_damaged(tmp_path: Path) -> None:
    (task,) = get_tasks(names=["HMDB51"])
    root = written(["HMDB51"], tmp_path)
    write_rows(task, root, [{"video_id": "nowhere", "pos_text": "run"}])
    needs = TaskNeeds.of(task, root, deep=True)
    assert (needs.videos, needs.damaged) == (("video-tasks/frames/video_cls/HMDB51/nowhere",), {})


def test_the_packaged_benchmark_is_sound() -> None:
    code, out, _ = _run(data_command, "check", "mmeb-mini", "--tasks", "motion", "--deep")
    assert code == 0, out
