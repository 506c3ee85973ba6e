"""Everything that a task lacks is named in one pass, and nothing that it has."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from support.task_fixtures import write_fixture, write_rows
from vlm2vec.cli.data import data
from vlm2vec.data.tables import Table, TableName
from vlm2vec.errors import ConfigError, DataError
from vlm2vec.fetching.needs import TaskNeeds
from vlm2vec.tasks.data import TaskSpec
from vlm2vec.tasks.reading import open_media
from vlm2vec.tasks.registry import get_tasks, packaged_root, parse_task

SPECS = {spec.parser: spec for name in ("mmeb-v2", "mmeb-v1", "m-beir", "retrieval") for spec in get_tasks(name)}
"""A task of each parser with other options."""


def _spec(name: str) -> TaskSpec:
    (spec,) = get_tasks(names=[name])
    return spec


def _check(*arguments: object) -> tuple[int, str, str]:
    return _run("check", *arguments)


def _run(*arguments: object) -> tuple[int, str, str]:
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(data)
    result = CliRunner().invoke(app, list(map(str, arguments)))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


# What a task needs


@pytest.mark.parametrize("spec", SPECS.values(), ids=lambda spec: f"{spec.benchmark}-{spec.name}")
def test_the_annotations_that_a_task_needs_are_those_that_its_parser_opens(spec: TaskSpec, tmp_path: Path) -> None:
    write_fixture(spec, tmp_path / "full")
    assert TaskNeeds.of(spec, tmp_path / "full").complete
    opened: list[TableName] = []

    def fetch(name: TableName) -> Table:
        opened.append(name)
        return name.open(tmp_path / "full")

    # A mirror without annotations: each of them is asked for.
    parse_task(spec, tmp_path, media=open_media(tmp_path / "full"), fetch=fetch)
    assert sorted(opened) == sorted(spec.parser.tables(spec.source))


def test_the_places_of_annotations_are_those_that_are_looked_at(tmp_path: Path) -> None:
    spec = _spec("MSR-VTT")
    (table,) = spec.parser.tables(spec.source)
    folder = tmp_path / "annotations" / "VLM2Vec__MSR-VTT" / "test_1k"
    assert table.places(tmp_path) == [folder / "test.parquet", folder / "test.jsonl", folder / "test"]
    with pytest.raises(DataError) as caught:
        table.open(tmp_path)
    assert all(str(place) in str(caught.value) for place in table.places(tmp_path))


def test_missing_annotations_are_all_named(tmp_path: Path) -> None:
    spec = _spec("ViDoRe_arxivqa")
    write_fixture(spec, tmp_path)
    folder = tmp_path / "annotations" / "vidore__arxivqa_test_subsampled_beir"
    shutil.rmtree(folder / "qrels")
    shutil.rmtree(folder / "queries")
    dataset = "vidore/arxivqa_test_subsampled_beir"
    lacking = (TableName(dataset, "qrels", "test"), TableName(dataset, "queries", "test"))
    assert TaskNeeds.of(spec, tmp_path) == TaskNeeds(spec, annotations=lacking)


@pytest.mark.parametrize(
    ("name", "pictures", "videos"),
    [
        ("RefCOCO", ["RefCOCO/red.png", "RefCOCO/green.png", "RefCOCO/blue.png"], []),
        ("HMDB51", [], ["vid_0", "vid_1", "vid_2"]),
        ("EgoSchema", [], ["clip_0", "clip_1"]),
        ("MSR-VTT", [], ["video_0", "video_1", "video_2"]),
        ("Charades-STA", [], ["v0_0.0_9.0", "v1_0.0_9.0"]),
        (
            "MomentSeeker",
            ["query_still.jpg"],
            ["video_frames/movie_red", "video_frames/movie_green", "video_frames/movie_blue"],
        ),
    ],
)
def test_missing_media_are_all_named_in_one_pass(
    name: str, pictures: list[str], videos: list[str], tmp_path: Path
) -> None:
    spec = _spec(name)
    write_fixture(spec, tmp_path)
    shutil.rmtree(tmp_path / spec.media_dir)
    needs = TaskNeeds.of(spec, tmp_path)
    assert list(needs.pictures) == [f"{spec.media_dir}/{path}" for path in pictures]
    assert list(needs.videos) == [f"{spec.media_dir}/{path}" for path in videos]
    assert needs.queries == (2 if name in ("EgoSchema", "Charades-STA") else 3)
    assert (needs.problem, needs.complete) == (None, False)


def test_a_video_with_too_few_frames_is_missing_where_the_publication_asks_for_eight(tmp_path: Path) -> None:
    for name, lacking in (
        ("MSR-VTT", ("video-tasks/frames/video_ret/MSR-VTT/video_1",)),
        ("HMDB51", ()),
    ):
        spec = _spec(name)
        write_fixture(spec, tmp_path)
        folder = tmp_path / spec.media_dir / ("video_1" if lacking else "vid_1")
        (folder / "frame_0003.png").unlink()
        assert TaskNeeds.of(spec, tmp_path).videos == lacking


def test_a_folder_of_clips_without_the_right_one_is_missing_as_a_whole(tmp_path: Path) -> None:
    spec = _spec("QVHighlight")
    write_fixture(spec, tmp_path)
    folder = tmp_path / spec.media_dir
    shutil.rmtree(folder / "v0_0.0_9.0" / "positive")
    shutil.rmtree(folder / "v1_0.0_9.0" / "query")
    assert TaskNeeds.of(spec, tmp_path).videos == (
        f"{spec.media_dir}/v0_0.0_9.0",
        f"{spec.media_dir}/v1_0.0_9.0/query",
    )


def test_a_malformed_row_is_a_problem_and_not_an_error(tmp_path: Path) -> None:
    spec = _spec("HMDB51")
    write_fixture(spec, tmp_path)
    write_rows(spec, tmp_path, [{"video_id": "vid_0"}])
    needs = TaskNeeds.of(spec, tmp_path)
    assert (needs.queries, needs.complete) == (None, False)
    assert "column 'pos_text' is missing" in str(needs.problem)


# The command


def test_the_command_words_advice_by_flags(tmp_path: Path) -> None:
    spec = _spec("GQA")
    write_fixture(spec, tmp_path / "data")
    (table,) = spec.parser.tables(spec.source)
    place = table.places(tmp_path / "data")[1]
    rows = [json.loads(line) for line in place.read_text("utf-8").splitlines()]
    write_rows(spec, tmp_path / "data", [row | {"qry_img_path": "../../x.png"} for row in rows])
    for options in ((), ("--json",)):
        code, out, _ = _check("mmeb-v2", "--tasks", "GQA", "--data", tmp_path / "data", *options)
        assert code == 1
        assert "put the file there; allow other places with --allow-outside" in out


def test_the_command_prints_a_table_and_exits_with_1_where_data_are_missing(tmp_path: Path) -> None:
    for name in ("RefCOCO", "HMDB51"):
        write_fixture(_spec(name), tmp_path)
    shutil.rmtree(tmp_path / "image-tasks" / "RefCOCO")
    code, out, err = _check("mmeb-v2", "--tasks", "RefCOCO, HMDB51,ViDoRe_docvqa", "--data", tmp_path)
    assert code == 1
    rows = [line.split() for line in out.splitlines()]
    assert ["RefCOCO", "3", "3", "-", "3", "-", "-"] in rows
    assert ["HMDB51", "3", "51", "-", "-", "-", "-"] in rows
    assert ["ViDoRe_docvqa", "?", "?", "3", "-", "-", "-"] in rows
    assert (
        "RefCOCO: 3 pictures missing: image-tasks/RefCOCO/red.png, image-tasks/RefCOCO/green.png, "
        "image-tasks/RefCOCO/blue.png\n"
    ) in out
    assert (
        "ViDoRe_docvqa: annotations missing: annotations/vidore__docvqa_test_subsampled_beir/corpus/test.parquet, "
        "or .jsonl or a folder in its place\n"
    ) in out
    assert out.endswith(f"2 of 3 tasks: data are missing in {tmp_path}\n")
    assert err == f"looking for the data of 3 tasks in {tmp_path}\n"


def test_the_command_exits_with_0_where_nothing_is_missing(tmp_path: Path) -> None:
    write_fixture(_spec("Breakfast"), tmp_path)
    code, out, _ = _check("mmeb-v2", "--tasks", "Breakfast", "--data", tmp_path)
    assert code == 0
    assert out.endswith(f"1 task: all data are in {tmp_path}\n")


def test_machines_get_every_missing_path(tmp_path: Path) -> None:
    spec = _spec("UCF101")
    write_fixture(spec, tmp_path)
    shutil.rmtree(tmp_path / spec.media_dir / "vid_1")
    code, out, _ = _check("mmeb-v2", "--tasks", "UCF101", "--data", tmp_path, "--json")
    assert code == 1
    assert json.loads(out) == {
        "data": str(tmp_path),
        "complete": False,
        "tasks": [
            {
                "task": "UCF101",
                "complete": False,
                "queries": 3,
                "candidates": 101,
                "missing_annotations": [],
                "missing_pictures": [],
                "missing_videos": ["video-tasks/frames/video_cls/UCF101/vid_1"],
                "problem": None,
                "warnings": [],
            }
        ],
    }


def test_options_that_do_not_go_together_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="leave them out"):
        _check("mmeb-v2", "--data", tmp_path, "--dry-run")
    with pytest.raises(ConfigError, match="leave one of them out"):
        _run("download", "mmeb-v2", "--data", tmp_path, "--dry-run", "--json")


@pytest.mark.slow
def test_a_benchmark_in_the_package_is_checked_there_and_never_fetched() -> None:
    code, out, _ = _check("mmeb-mini")
    assert (code, out.rstrip().endswith(f": all data are in {packaged_root('mmeb-mini')}")) == (0, True)
    with pytest.raises(ConfigError, match="mmeb-mini is part of this package: there is nothing to fetch"):
        _run("download", "mmeb-mini")
