"""A download from a hub on this machine brings what is needed and nothing else, and continues after a kill."""

from __future__ import annotations

import os
import re
import shutil
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple
from unittest.mock import Mock

import pytest

from support.hub_server import MMEB, VIDEO_QA, Done, Hub, publish, run_vlm2vec, serving, start_vlm2vec, write_tar
from support.task_fixtures import write_fixture
from vlm2vec.cli.data import data
from vlm2vec.errors import HubError
from vlm2vec.fetching.download import _media_source, _MediaSource, _Watcher, plan_download
from vlm2vec.fetching.hub import HubFile, RefusedError
from vlm2vec.fetching.needs import TaskNeeds
from vlm2vec.items import Image, Item, Video
from vlm2vec.tasks.data import TaskData, TaskSpec
from vlm2vec.tasks.document import Pages
from vlm2vec.tasks.registry import get_tasks, parse_task

KINDS = ["RefCOCO", "HMDB51", "MSR-VTT", "Charades-STA", "MomentSeeker", "EgoSchema", "VisRAG_ChartQA"]
"""Pictures, videos of every archive, and pages."""

UNWANTED = {"Other/x/0001.png": b"nobody asked for it"}


class Run(NamedTuple):
    """A download of one task of every kind."""

    specs: list[TaskSpec]
    full: Path
    root: Path
    first: Done
    fetched: list[str]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("download")
    specs, hub_folder, root = get_tasks(names=KINDS), folder / "hub", folder / "root"
    for spec in specs:
        write_fixture(spec, folder / "full")
    publish(specs, folder / "full", hub_folder, others=UNWANTED)
    (hub_folder / MMEB / "README.md").write_text("media")
    arguments = ("download", "mmeb-v2", "--tasks", ",".join(KINDS), "--data", root)
    with serving(hub_folder) as hub:
        first = run_vlm2vec(hub.address, folder / "home", *arguments)
        return Run(specs, folder / "full", root, first, hub.fetched())


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    (tmp_path / "hub").mkdir()
    with serving(tmp_path / "hub") as hub:
        yield hub


def _published(
    names: list[str], tmp_path: Path, benchmark: str = "mmeb-v2", others: Mapping[str, bytes] | None = None
) -> list[TaskSpec]:
    specs = get_tasks(benchmark, names=names)
    for spec in specs:
        write_fixture(spec, tmp_path / "full")
    publish(specs, tmp_path / "full", tmp_path / "hub", others=others)
    return specs


def _files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def _comparable(data: TaskData, root: Path) -> tuple[object, ...]:
    def item(one: Item) -> tuple[object, ...]:
        return one.verbatim, one.text, one.instruction, tuple(medium(part) for part in one.media)

    def medium(one: Image | Video) -> object:
        sources = one.source if isinstance(one.source, tuple) else (one.source,)
        return [part.relative_to(root).as_posix() if isinstance(part, Path) else part for part in sources]

    candidates = [item(one) for one in data.candidates]
    return data.query_ids, list(map(item, data.queries)), data.candidate_names, candidates, data.relevant, data.pools


# All of it


@pytest.mark.slow
def test_what_was_downloaded_is_read_as_what_was_published(run: Run) -> None:
    assert run.first.code == 0, run.first.err
    for spec in run.specs:
        ours, theirs = parse_task(spec, run.root), parse_task(spec, run.full)
        assert _comparable(ours, run.root) == _comparable(theirs, run.full), spec.name
    assert isinstance(ours.candidates, Pages)
    assert run.first.out.endswith(f"7 tasks: all data are in {run.root}\n")


@pytest.mark.slow
def test_only_needed_splits_and_archives_are_asked_for(run: Run) -> None:
    frames = f"{MMEB}/video-tasks/frames"
    assert run.fetched == sorted(
        [
            f"{MMEB}/image-tasks/mmeb_v1.tar.gz",
            *(f"{frames}/video_{kind}.tar.gz" for kind in ("cls", "ret", "mret")),
            *(f"{frames}/video_qa.tar.gz-0{number}" for number in range(5)),
            "ziyjiang/MMEB_Test_Instruct/data/RefCOCO/test.jsonl",
            "VLM2Vec/HMDB51/data/default/test.jsonl",
            "VLM2Vec/MSR-VTT/data/test_1k/test.jsonl",
            "VLM2Vec/Charades-STA/data/default/test.jsonl",
            "VLM2Vec/MomentSeeker/data/default/test.jsonl",
            "VLM2Vec/EgoSchema/data/Subset/test.jsonl",
            *(
                f"openbmb/VisRAG-Ret-Test-ChartQA/data/{config}/train.parquet"
                for config in ("corpus", "qrels", "queries")
            ),
        ]
    )


def test_only_needed_members_are_unpacked_and_nothing_else_stays(run: Run) -> None:
    media = [name for name in _files(run.full) if not name.startswith("annotations/")]
    tables = [re.sub(r"jsonl$", "parquet", name) for name in _files(run.full) if name.startswith("annotations/")]
    assert _files(run.root) == sorted([".download/lock", *media, *tables])
    for name in media:
        assert (run.root / name).read_bytes() == (run.full / name).read_bytes(), name


def test_files_sizes_and_free_space_are_said_before_anything_is_fetched(run: Run) -> None:
    lines = run.first.err.splitlines()
    announced = next(line for line in lines if line.startswith(f"media {MMEB}/{VIDEO_QA}"))
    assert re.fullmatch(
        rf"media {MMEB}/{VIDEO_QA}: 5 files, [0-9.]+ (bytes|kB), for 2 missing paths, first "
        r"video-tasks/frames/video_qa/EgoSchema/clip_0",
        announced,
    )
    total = next(line for line in lines[lines.index(announced) :] if line.startswith("to fetch: 9 files, "))
    assert re.fullmatch(rf"to fetch: 9 files, [0-9.]+ kB; free in {run.root}: [0-9.]+ [GT]B", total)
    assert lines.index(total) < lines.index(next(line for line in lines if line.startswith("fetching image-tasks")))


def test_a_second_download_asks_the_hub_for_nothing(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    # All tests run offline, where a question to the hub is an error: see conftest.py.
    data("download", "mmeb-v2", ",".join(KINDS), run.root)
    assert "there is nothing to fetch\n" in capsys.readouterr().err


def test_neither_command_loads_torch(run: Run) -> None:
    assert "torch False\n" in run.first.err


# Part of it


@pytest.mark.slow
def test_a_dry_run_says_what_it_would_fetch_and_writes_nothing(hub: Hub, tmp_path: Path) -> None:
    _published(["RefCOCO", "HMDB51"], tmp_path)
    root = tmp_path / "root"
    write_fixture(get_tasks(names=["RefCOCO"])[0], root)
    (root / "image-tasks" / "RefCOCO" / "blue.png").unlink()
    before = _files(root)
    archives = tmp_path / "hub" / MMEB
    sizes = [(archives / name).stat().st_size for name in _files(archives)]
    table = (tmp_path / "hub" / "VLM2Vec" / "HMDB51" / "data" / "default" / "test.jsonl").stat().st_size
    done = run_vlm2vec(
        hub.address, tmp_path / "home", "download", "mmeb-v2", "--tasks", "RefCOCO,HMDB51", "--data", root, "--dry-run"
    )
    assert done.code == 0, done.err
    assert re.sub(r": [0-9.]+ [GT]B$", ": FREE", done.out, flags=re.MULTILINE).splitlines() == [
        f"annotations VLM2Vec/HMDB51: 1 table in 1 file, {table} bytes",
        f"media {MMEB}/image-tasks/mmeb_v1.tar.gz: 1 file, {sizes[0]} bytes, for 1 missing path, first "
        "image-tasks/RefCOCO/blue.png",
        f"media {MMEB}/video-tasks/frames/video_cls.tar.gz: 1 file, {sizes[1]} bytes, for 1 missing path, first "
        "video-tasks/frames/video_cls/HMDB51",
        f"to fetch: 3 files, {(table + sum(sizes)) / 1000:.1f} kB; free in {root}: FREE",
        "Annotations of 1 task are not here yet: archives are those they may need.",
    ]
    assert (_files(root), hub.fetched()) == (before, [])


def test_a_killed_download_continues_where_it_was(hub: Hub, tmp_path: Path) -> None:
    # A task whose annotations are files: the library `datasets`, which takes a second to import, is not needed.
    (spec,) = get_tasks("m-beir", names=["nights_task4"])
    write_fixture(spec, tmp_path / "full")
    repo, archive, half = tmp_path / "hub" / "TIGER-Lab" / "M-BEIR", "mbeir_images.tar.gz", 300_000
    shutil.copytree(tmp_path / "full" / "annotations" / "TIGER-Lab__M-BEIR", repo)
    media = tmp_path / "full" / "image-tasks"
    write_tar(repo / archive, {"noise": os.urandom(600_000)} | {n: (media / n).read_bytes() for n in _files(media)})
    arguments = ("download", "m-beir", "--tasks", spec.name, "--data", tmp_path / "root")
    hub.stalling[archive] = half
    process = start_vlm2vec(hub.address, tmp_path / "home", *arguments)
    assert hub.stalled.wait(60)
    folder = tmp_path / "root" / ".download" / "TIGER-Lab__M-BEIR"
    deadline = time.monotonic() + 30
    while sum(path.stat().st_size for path in folder.glob("*.part")) < half and time.monotonic() < deadline:
        threading.Event().wait(0.01)
    process.kill()
    process.communicate()
    assert [path.stat().st_size for path in folder.iterdir()] == [half]
    hub.stalling.clear()
    done = run_vlm2vec(hub.address, tmp_path / "home", *arguments)
    assert done.code == 0, done.err
    assert hub.ranges(archive) == [None, f"bytes={half}-"]
    assert "(300.0 kB of it is here already)" in done.err
    # Annotations were complete, and are not asked for again.
    assert len([one for one in hub.requests if one.method == "GET" and one.path.endswith(".jsonl")]) == 2
    assert _files(tmp_path / "root" / "image-tasks") == _files(media)


@pytest.mark.slow
def test_archives_can_be_kept_and_the_data_root_be_a_relative_path(hub: Hub, tmp_path: Path) -> None:
    _published(["MSVD"], tmp_path)
    root, archive = Path(os.path.relpath(tmp_path / "root")), "video-tasks/frames/video_ret.tar.gz"
    done = run_vlm2vec(
        hub.address, tmp_path / "home", "download", "mmeb-v2", "--tasks", "MSVD", "--data", root, "--keep-archives"
    )
    assert done.code == 0, done.err
    kept = root / ".download" / "TIGER-Lab__MMEB-V2" / archive
    assert kept.read_bytes() == (tmp_path / "hub" / MMEB / archive).read_bytes()


# What goes wrong


@pytest.mark.slow
def test_what_the_hub_does_not_give_is_named_and_the_rest_comes(hub: Hub, tmp_path: Path) -> None:
    _published(["RefCOCO", "HMDB51", "UCF101", "K700", "MSVD"], tmp_path)
    folder, root = tmp_path / "hub", tmp_path / "root"
    hub.gated.add("VLM2Vec/HMDB51")
    (folder / "VLM2Vec" / "UCF101").rename(folder / "VLM2Vec" / "UCF101-moved")
    readme = folder / "VLM2Vec" / "Kinetics-700" / "README.md"
    readme.write_text(readme.read_text().replace("split: test", "split: validation"))
    frames = folder / MMEB / "video-tasks" / "frames"
    (frames / "video_ret.tar.gz").rename(frames / "video_retrieval.tar.gz")
    names = "RefCOCO,HMDB51,UCF101,K700,MSVD"
    done = run_vlm2vec(hub.address, tmp_path / "home", "download", "mmeb-v2", "--tasks", names, "--data", root)
    assert done.code == 1
    errors = [line.removeprefix("error: ") for line in done.err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 4
    assert errors[0] == (
        "VLM2Vec/Kinetics-700 (config default, split test) is not on the hub: there are the splits validation, unwanted"
    )
    sets = f"{hub.address}/datasets/VLM2Vec"
    errors[1:3] = sorted(errors[1:3])
    assert errors[1] == (f"{sets}/HMDB51 is gated: accept its terms there, and set HF_TOKEN to a token of your account")
    assert errors[2] == f"{sets}/UCF101 is not there, or private: for a private one set HF_TOKEN"
    assert errors[3] == (
        f"{MMEB} on the hub has no archive video-tasks/frames/video_ret.tar.gz; it has image-tasks/mmeb_v1.tar.gz, "
        "video-tasks/frames/video_cls.tar.gz, video-tasks/frames/video_retrieval.tar.gz. Unpack what holds them into "
        "video-tasks/frames/video_ret by hand"
    )
    assert done.out.endswith(f"4 of 5 tasks: data are missing in {root}\n")
    assert _files(root / "image-tasks") == ["RefCOCO/blue.png", "RefCOCO/green.png", "RefCOCO/red.png"]


def test_offline_the_error_says_so(tmp_path: Path) -> None:
    (spec,) = get_tasks(names=["MSVD"])
    # All tests run so: see conftest.py.
    with pytest.raises(HubError, match=r"/datasets/VLM2Vec/MSVD may not be asked: unset HF_HUB_OFFLINE"):
        plan_download(
            [TaskNeeds(spec, annotations=tuple(spec.parser.tables(spec.source)))], tmp_path, Mock(spec=_Watcher)
        )


@pytest.mark.slow
def test_an_archive_that_is_refused_is_named(hub: Hub, tmp_path: Path) -> None:
    _published(["MSVD"], tmp_path)
    hub.gated.add(MMEB)
    done = run_vlm2vec(
        hub.address, tmp_path / "home", "download", "mmeb-v2", "--tasks", "MSVD", "--data", tmp_path / "root"
    )
    assert done.code == 1
    assert f"error: {hub.address}/datasets/{MMEB} is gated: accept its terms there, and set HF_TOKEN" in done.err
    assert "MSVD: 3 videos missing: " in done.out


@pytest.mark.slow
def test_an_archive_that_lacks_something_is_named_with_what_it_has(hub: Hub, tmp_path: Path) -> None:
    (spec,) = get_tasks(names=["Breakfast"])
    full, root = tmp_path / "full", tmp_path / "root"
    write_fixture(spec, full)
    (full / spec.media_dir / "vid_1").rename(full / spec.media_dir / "vid_one")
    publish([spec], full, tmp_path / "hub")
    done = run_vlm2vec(hub.address, tmp_path / "home", "download", "mmeb-v2", "--tasks", "Breakfast", "--data", root)
    assert done.code == 1
    assert (
        "  it lacks 1 of 3 paths: video-tasks/frames/video_cls/Breakfast/vid_1; it has the folders Breakfast/vid_0, "
        "Breakfast/vid_2, Breakfast/vid_one; "
        f"it stays in {root}/.download\n"
    ) in done.err
    assert "Breakfast: 1 video missing: video-tasks/frames/video_cls/Breakfast/vid_1\n" in done.out


@pytest.mark.slow
@pytest.mark.parametrize(
    ("benchmark", "task", "dataset"),
    [("m-beir", "cirr_task7", "TIGER-Lab/M-BEIR"), ("mmeb-v2", "MSVD", "VLM2Vec/MSVD")],
)
def test_without_a_hub_the_error_says_so(benchmark: str, task: str, dataset: str, tmp_path: Path) -> None:
    with serving(tmp_path) as gone:
        address = gone.address
    done = run_vlm2vec(address, tmp_path / "home", "download", benchmark, "--tasks", task, "--data", tmp_path / "root")
    assert done.code == 2
    assert re.search(
        rf"^error: {address}/datasets/{dataset} cannot be reached: .*; check the network, or put the data in "
        "place by hand$",
        done.err,
        re.MULTILINE,
    )


# Where media come from


def test_all_media_of_the_benchmarks_have_a_source() -> None:
    found = {
        (benchmark, _media_source(benchmark, spec.media_dir).archive)  # type: ignore[union-attr]
        for benchmark in ("mmeb-v2", "mmeb-v1", "m-beir", "retrieval")
        for spec in get_tasks(benchmark)
        if spec.media_dir
    }
    assert found == {
        ("mmeb-v2", "image-tasks/mmeb_v1.tar.gz"),
        *(("mmeb-v2", f"video-tasks/frames/video_{kind}.tar.gz") for kind in ("cls", "ret", "mret", "qa")),
        ("mmeb-v1", "images.zip"),
        ("m-beir", "mbeir_images.tar.gz"),
        ("retrieval", "images_flickr_1k_test.zip"),
        # MS COCO and Conceptual Captions: by hand.
        ("retrieval", ""),
    }


@pytest.mark.parametrize(
    ("path", "inner", "place"),
    [
        ("image-tasks", "MMEB/CIRR/1.png", "image-tasks/CIRR/1.png"),
        ("image-tasks", "CIRR/1.png", "image-tasks/CIRR/1.png"),
        ("video-tasks/frames/video_ret/MSVD", "data/ziyan/video_retrieval/MSVD/frames/v/1.png", "MSVD/v/1.png"),
        ("video-tasks/frames/video_ret/MSVD", "MSVD/v/1.png", "MSVD/v/1.png"),
        ("video-tasks/frames/video_ret/MSVD", "video_ret/MSVD/v/1.png", "MSVD/v/1.png"),
        ("video-tasks/frames/video_mret/x", "video_mret/Charades-STA/v/1.png", "Charades_STA/v/1.png"),
        ("video-tasks/frames/video_mret/x", "video_mret/Charades_STA/v/1.png", "Charades_STA/v/1.png"),
        ("video-tasks/frames/video_qa/x", "video_qa/egoschema/v/1.png", "EgoSchema/v/1.png"),
        ("video-tasks/frames/video_cls/x", "UCF101/v/1.png", "UCF101/v/1.png"),
    ],
)
def test_members_go_where_the_tasks_look_for_them(path: str, inner: str, place: str) -> None:
    source = _media_source("mmeb-v2", path)
    assert source is not None
    assert source.place(inner) == (place if place.startswith(source.prefix) else f"{source.prefix}/{place}")


def test_the_parts_of_an_archive_must_be_complete() -> None:
    source = _MediaSource(prefix="video-tasks/frames/video_qa", repo=MMEB, archive="video_qa.tar.gz")

    def files(*names: str) -> list[HubFile]:
        return [HubFile(MMEB, "main", name, 1, "e") for name in names]

    parts = files("video_qa.tar.gz-00", "video_qa.tar.gz-01", "video_qa.tar.gz-02", "video_qa.tar.gz.md5")
    assert source.parts(parts[::-1]) == tuple(parts[:3])
    assert source.parts(files("video_qa.tar.gz", "video_qa.tar.gz-00")) == tuple(files("video_qa.tar.gz"))
    assert len(source.parts(files("video_qa.tar.gz.part-00", "video_qa.tar.gz.part-01"))) == 2
    with pytest.raises(RefusedError, match=r"lacks a part of video_qa.tar.gz: it has the numbers \[0, 2\]"):
        source.parts([parts[0], parts[2]])
