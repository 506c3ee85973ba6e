"""A row names no file outside of the folder of its data, unless it is allowed."""

from __future__ import annotations

import json
import os
import pickle
import re
from collections.abc import Callable
from pathlib import Path

import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.evaluation_runs import Counting, written
from support.source_files import video_row
from support.task_fixtures import picture_bytes, write_corpus, write_rows
from support.train_files import write_rows as write_lines
from vlm2vec.data.records import check_inside
from vlm2vec.errors import DataError, Hint, MediaError
from vlm2vec.evaluation.runner import evaluate
from vlm2vec.fetching.needs import TaskNeeds
from vlm2vec.items import Image
from vlm2vec.model.embedder import Embedder
from vlm2vec.sources.config import read_sources
from vlm2vec.sources.forms import OwnSource
from vlm2vec.tasks.registry import get_tasks, parse_task


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder `root` in which every file holds `in`, beside files that hold `out`, with links of all kinds."""
    base = tmp_path_factory.mktemp("tree")
    root, away = base / "root", base / "rootaway"
    for folder, word in ((root, "in"), (root / "a", "in"), (root / "a" / "b", "in"), (base, "out"), (away, "out")):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "x").write_text(word)
    (root / "a" / "to_x").symlink_to("../x")
    (root / "a" / "to_out").symlink_to("../../x")
    (root / "a" / "to_away").symlink_to(away)
    (root / "to_b").symlink_to("a/b")
    (root / "a" / "b" / "to_root").symlink_to(root)
    (away / "back").symlink_to(root)
    (root / "loop").symlink_to("loop")
    (base / "link").symlink_to("root")
    return base


_PARTS = (
    "a",
    "b",
    "x",
    "..",
    ".",
    "to_x",
    "to_out",
    "to_away",
    "to_b",
    "to_root",
    "back",
    "root",
    "rootaway",
    "loop",
    "no",
)


@given(parts=st.lists(st.sampled_from(_PARTS), min_size=1, max_size=7), by_link=st.booleans(), absolute=st.booleans())
@settings(max_examples=300, deadline=None)
def test_a_path_is_taken_if_and_only_if_what_it_opens_lies_inside(
    tree: Path, parts: list[str], by_link: bool, absolute: bool
) -> None:
    root = tree / ("link" if by_link else "root")
    path = Path(os.path.join(root, *([str(tree)] if absolute else []), *parts))
    try:
        check_inside(path, [root], remedy="allow it")
        taken = True
    except DataError:
        taken = False
    if path.is_file():
        assert (path.read_text() == "in") is taken
    else:
        # The system's own way to find where it leads.
        assert str(os.path.realpath(path) + "/").startswith(f"{os.path.realpath(root)}/") is taken


def test_the_error_names_path_place_and_remedy(tree: Path) -> None:
    path = tree / "root" / ".." / "x"
    message = f"{path} leads to {tree.resolve() / 'x'}, outside of {tree / 'root'}: put the file there, or allow it"
    with pytest.raises(DataError, match=f"^{re.escape(message)}$"):
        check_inside(path, [tree / "root"], remedy="allow it")
    with pytest.raises(DataError, match="is no path: it holds a null character"):
        check_inside(tree / "root" / "a\0b", [tree / "root"], remedy="allow it")


def test_relative_folders_are_those_of_the_present_one(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tree / "root")
    check_inside(Path("a/x"), [Path()], remedy="allow it")
    with pytest.raises(DataError):
        check_inside(Path("../x"), [Path()], remedy="allow it")
    monkeypatch.chdir(tree)
    check_inside(Path("x"), [Path()], remedy="allow it")


def test_a_snapshot_of_the_hubs_cache_has_its_blobs(tmp_path: Path) -> None:
    repo = tmp_path / "datasets--a--b"
    for folder in ("blobs", "snapshots/1f/pics", "refs"):
        (repo / folder).mkdir(parents=True)
    (repo / "blobs" / "77").write_bytes(b"")
    (repo / "snapshots" / "1f" / "pics" / "a.png").symlink_to("../../../blobs/77")
    (repo / "snapshots" / "1f" / "pics" / "b.png").symlink_to(tmp_path / "secret")
    (tmp_path / "ROOT").symlink_to(repo / "snapshots" / "1f")
    for root in (
        repo / "snapshots" / "1f",
        repo / "snapshots" / "1f" / "pics",
        tmp_path / "ROOT",
        tmp_path / "ROOT" / "pics",
    ):
        place = root if root.name == "pics" else root / "pics"
        check_inside(place / "a.png", [root], remedy="allow it")
        for name in ("b.png", "../../../refs/main", "../../../../x"):
            with pytest.raises(DataError):
                check_inside(place / name, [root], remedy="allow it")


# Training


def _outside(tmp_path: Path) -> Path:
    data = tmp_path / "data"
    (data / "inner" / "v").mkdir(parents=True)
    (tmp_path / "away").mkdir()
    for place in (tmp_path / "away" / "0.png", data / "inner" / "0.png", data / "inner" / "v" / "0.png"):
        PIL.Image.new("RGB", (8, 8)).save(place)
    (data / "inner" / "link.png").symlink_to("../../away/0.png")
    (data / "inner" / "vlink").symlink_to("../../away")
    (data / "inner" / "vmixed").mkdir()
    (data / "inner" / "vmixed" / "0.png").symlink_to("../../../away/0.png")
    return data


_LEAVING = ("../away/0.png", "inner/../../away/0.png", "inner/link.png", "{tmp}/away/0.png")
_STAYING = ("inner/0.png", "./inner/0.png", "inner/../inner/0.png", "{tmp}/data/inner/0.png")
_VIDEOS_LEAVING = ("../away", "inner/vlink", "inner/vmixed", "{tmp}/away")


def _rows(parser: str, path: str) -> tuple[list[object], dict[str, object]]:
    """Rows of a parser that name a path, and the fields of their source."""
    picture = {"image": path}
    match parser:
        case "pairs":
            return [{"query": "q", "positive": picture}], {}
        case "pairs of frames":
            return [{"query": "q", "positive": {"video": [path]}}], {}
        case "pairs of videos":
            return [{"query": "q", "positive": {"video": path}}], {}
        case "negatives":
            return [{"query": "q", "positive": "p", "negatives": [picture]}], {}
        case "columns":
            return [{"anchor": "q", "positive": {"path": path}}], {}
        case "columns of items":
            return [{"anchor": "q", "positive": {"text": "t", "image": path}}], {}
        case "mmeb":
            row = {"qry": "q", "qry_image_path": "", "pos_text": "", "pos_image_path": path}
            return [row], {"parser": "mmeb", "image_dir": "."}
        case "vidore":
            return [{"query": "q", "image": {"path": path, "bytes": None}, "answer": "a"}], {"parser": "vidore"}
        case "visrag":
            return [{"query": "q", "image": {"path": path, "bytes": None}, "source": "s"}], {"parser": "visrag"}
        case _:
            return [video_row(path, "<video>", "a")], {"parser": "llavahound_qa", "frame_dir": "."}


_PICTURES = ("pairs", "pairs of frames", "negatives", "columns", "columns of items", "mmeb", "vidore", "visrag")


def _open(tmp_path: Path, parser: str, path: str, **more: object) -> object:
    data = _outside(tmp_path)
    rows, fields = _rows(parser, path.format(tmp=tmp_path))
    write_lines(data / "rows.jsonl", rows)
    folders = {name: data for name in ("image_dir", "frame_dir") if name in fields}
    mine = fields | folders | more | {"path": data / "rows.jsonl"}
    source = read_sources({"mine": mine}, None, data)["mine"]
    return pickle.loads(pickle.dumps(source.open("mine", None)))[0]


@pytest.mark.parametrize("path", _LEAVING)
@pytest.mark.parametrize("parser", _PICTURES)
def test_a_training_row_that_leaves_its_folder_is_named_with_the_path_and_what_to_set(
    tmp_path: Path, parser: str, path: str
) -> None:
    with pytest.raises(DataError) as told:
        _open(tmp_path, parser, path)
    message = str(told.value)
    assert message.startswith(f"{tmp_path}/data/rows.jsonl:1: ")
    assert f"leads to {os.path.realpath(tmp_path)}/away/0.png, outside of {tmp_path}/data" in message
    assert message.endswith("put the file there, or set allow_outside: true for the source")


@pytest.mark.parametrize("path", _VIDEOS_LEAVING)
@pytest.mark.parametrize("parser", ["pairs of videos", "llavahound_qa"])
def test_a_video_that_leaves_its_folder_is_refused_by_any_of_its_frames(tmp_path: Path, parser: str, path: str) -> None:
    with pytest.raises(DataError, match=r"rows\.jsonl:1: .* outside of .* set allow_outside: true for the source"):
        _open(tmp_path, parser, path)


@pytest.mark.parametrize("path", [*_LEAVING, *_STAYING])
@pytest.mark.parametrize("parser", _PICTURES)
def test_rows_name_what_they_may(tmp_path: Path, parser: str, path: str) -> None:
    pair = _open(tmp_path, parser, path, allow_outside=path in _LEAVING)
    assert path.format(tmp=tmp_path).removeprefix("./") in repr(pair)


def test_a_picture_may_lie_in_the_folder_of_the_data_too(tmp_path: Path) -> None:
    data = _outside(tmp_path)
    write_lines(data / "rows.jsonl", [{"anchor": "q", "positive": {"path": "../inner/0.png"}}])
    source = OwnSource(path=data / "rows.jsonl", image_dir=data / "inner")
    assert source.open("mine", None)[0].positive.media == (Image(data / "inner" / "../inner/0.png"),)


# Benchmarks


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = written(["GQA", "HMDB51", "ViDoRe_arxivqa"], tmp_path / "data")
    (tmp_path / "away").mkdir()
    PIL.Image.new("RGB", (8, 8)).save(tmp_path / "away" / "0.png")
    return root


def _spoiled_picture(root: Path, path: str) -> str:
    (task,) = get_tasks(names=["GQA"])
    file = next(iter(root.glob("annotations/*/GQA/*.jsonl")))
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    rows[1]["qry_img_path"] = path
    write_rows(task, root, rows)
    return f"GQA: {file}:2: column 'qry_img_path' names {path!r}: "


@pytest.mark.parametrize(
    "path", ["../../away/0.png", "GQA/../../../away/0.png", "link.png", "folder/0.png", "{tmp}/away/0.png"]
)
def test_a_benchmark_row_that_leaves_the_data_root_is_named_with_its_column(
    published: Embedder, root: Path, tmp_path: Path, path: str
) -> None:
    (task,) = get_tasks(names=["GQA"])
    (root / "image-tasks" / "link.png").symlink_to(tmp_path / "away" / "0.png")
    (root / "image-tasks" / "folder").symlink_to(tmp_path / "away")
    path = path.format(tmp=tmp_path)
    message = _spoiled_picture(root, path)
    with pytest.raises(DataError, match=re.escape(message)) as told:
        parse_task(task, root)
    assert f"leads to {os.path.realpath(tmp_path)}/away/0.png, outside of {root}" in str(told.value)
    assert told.value.hints == (Hint("allow_outside"),)
    needs = TaskNeeds.of(task, root)
    assert (str(needs.problem), needs.pictures) == (str(told.value), ())
    found = evaluate(Counting(published), [task], root=root, out=tmp_path / "out")
    assert [(name, str(error)) for name, error in found.failures.items()] == [("GQA", str(told.value))]
    allowed = evaluate(Counting(published), [task], root=root, out=tmp_path / "out", allow_outside=True)
    assert allowed.failures == {}
    assert TaskNeeds.of(task, root, allow_outside=True).complete


@pytest.mark.parametrize("video", ["../../../../../away", "vid_link", "vid_mixed", "{tmp}/away"])
def test_a_benchmark_video_that_leaves_the_data_root_is_named(root: Path, tmp_path: Path, video: str) -> None:
    (task,) = get_tasks(names=["HMDB51"])
    media = root / task.media_dir
    (media / "vid_link").symlink_to(tmp_path / "away")
    (media / "vid_mixed").mkdir()
    (media / "vid_mixed" / "0.png").symlink_to(tmp_path / "away" / "0.png")
    place = write_rows(task, root, [{"video_id": video.format(tmp=tmp_path), "pos_text": "run"}])
    with pytest.raises(DataError, match=re.escape(f"HMDB51: {place}:1: ")) as told:
        parse_task(task, root)
    assert "outside of" in str(told.value)
    assert parse_task(task, root, allow_outside=True).queries[0].media


def test_a_page_that_leaves_the_data_root_is_named(root: Path, tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    (task,) = get_tasks(names=["ViDoRe_arxivqa"])
    names = parse_task(task, root).candidate_names
    place = write_corpus(task, root, [(name, picture_bytes("red")) for name in names])
    table = pyarrow.parquet.read_table(place)
    images = [{"bytes": None, "path": "../away/0.png"}] * len(names)
    kind = table.schema.field("image").type
    pyarrow.parquet.write_table(table.set_column(1, "image", pyarrow.array(images, kind)), place)
    data = parse_task(task, root)
    with pytest.raises(DataError, match=r"row 0: column 'image': .*away/0\.png, outside of"):
        data.candidates[0]
    assert parse_task(task, root, allow_outside=True).candidates[0].media == (
        Image(root / "../away/0.png", as_stored=True),
    )


def _moved(folder: Path, place: Path) -> None:
    folder.rename(place)
    folder.symlink_to(place)


@pytest.mark.parametrize(
    "move",
    [
        lambda root, place: _moved(root, place),
        lambda root, place: _moved(root / "image-tasks", place),
        lambda root, place: _moved(root / "video-tasks", place),
    ],
    ids=["root", "image-tasks", "video-tasks"],
)
def test_the_data_root_and_media_folders_may_be_links(
    root: Path, tmp_path: Path, move: Callable[[Path, Path], None]
) -> None:
    tasks = get_tasks(names=["GQA", "HMDB51"])
    before = [parse_task(task, root) for task in tasks]
    move(root, tmp_path / "elsewhere")
    assert [parse_task(task, root) for task in tasks] == before


def test_a_picture_that_is_missing_inside_is_missing_as_before(root: Path) -> None:
    (task,) = get_tasks(names=["GQA"])
    _spoiled_picture(root, "GQA/none.png")
    with pytest.raises(MediaError, match=r"image-tasks/GQA/none\.png is not there; put the task's media in place"):
        parse_task(task, root)
