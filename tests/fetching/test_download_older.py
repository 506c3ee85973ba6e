"""The data of benchmarks before MMEB-V2 come from a hub on this machine as the real one lays them out."""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from support.hub_server import Done, Hub, environment, publish, run_vlm2vec, serving, write_tar
from support.task_fixtures import write_fixture
from vlm2vec.data.tables import TableName
from vlm2vec.fetching.annotations import _file_of
from vlm2vec.tasks.data import TaskSpec
from vlm2vec.tasks.registry import get_tasks, parse_task

pytestmark = pytest.mark.slow

FLICKR = "nlphuji/flickr_1k_test_image_text_retrieval"
CC = "google-research-datasets/conceptual_captions"


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    (tmp_path / "hub").mkdir()
    with serving(tmp_path / "hub") as hub:
        yield hub


def _written(benchmark: str, name: str, full: Path) -> TaskSpec:
    (spec,) = get_tasks(benchmark, names=[name])
    write_fixture(spec, full)
    return spec


def _rows(full: Path) -> list[dict[str, object]]:
    (path,) = (full / "annotations").rglob("*.jsonl")
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def _publish_flickr(full: Path, repo: Path) -> Path:
    """As it is there: a table in CSV, a zip that a Mac made, and a script that nobody may run."""
    repo.mkdir(parents=True)
    rows, table = _rows(full), repo / "test_1k_flickr.csv"
    with table.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    with zipfile.ZipFile(repo / "images_flickr_1k_test.zip", "w") as archive:
        for name in _files(full / "image-tasks/flickr30k"):
            archive.write(full / "image-tasks/flickr30k" / name, f"images_flickr_1k_test/{name}")
            archive.writestr(f"__MACOSX/images_flickr_1k_test/._{name}", b"preview")
    (repo / "flickr_1k_test_image_text_retrieval.py").write_text("raise SystemExit('it ran')")
    return table


def _files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def _download(hub: Hub, tmp_path: Path, benchmark: str, task: str) -> Done:
    arguments = ("download", benchmark, "--tasks", task, "--data", tmp_path / "root")
    return run_vlm2vec(hub.address, tmp_path / "home", *arguments)


def _parse(hub: Hub, tmp_path: Path, benchmark: str, task: str) -> subprocess.CompletedProcess[str]:
    """What `evaluate --download` reads, in a process of its own."""
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from vlm2vec.fetching.annotations import fetch_table\n"
        "from vlm2vec.tasks.registry import get_tasks, parse_task\n"
        "root = Path(sys.argv[3])\n"
        "fetch = lambda name: fetch_table(name, root)\n"
        "data = parse_task(get_tasks(sys.argv[1], names=[sys.argv[2]])[0], root, fetch=fetch)\n"
        "print(*data.query_ids, *data.candidate_names)\n"
    )
    return subprocess.run(
        [sys.executable, "-c", code, benchmark, task, str(tmp_path / "root")],
        capture_output=True,
        text=True,
        timeout=120,
        env=environment(hub.address, tmp_path / "home"),
    )


# M-BEIR, and MMEB as first published


def test_m_beir_comes_as_the_files_that_it_consists_of(hub: Hub, tmp_path: Path) -> None:
    full, repo, root = tmp_path / "full", tmp_path / "hub" / "TIGER-Lab" / "M-BEIR", tmp_path / "root"
    _written("m-beir", "nights_task4", full)
    for path in sorted((full / "annotations" / "TIGER-Lab__M-BEIR").rglob("*.jsonl")):
        target = repo / path.relative_to(full / "annotations" / "TIGER-Lab__M-BEIR")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    _split_tar(full / "image-tasks", repo, "mbeir_images.tar.gz.part-")
    done = run_vlm2vec(hub.address, tmp_path / "home", "download", "m-beir", "--tasks", "nights_task4", "--data", root)
    assert done.code == 0, done.err
    assert _files(root) == [".download/lock", *_files(full)]


def test_the_first_mmeb_comes_from_a_zip(hub: Hub, tmp_path: Path) -> None:
    spec = _written("mmeb-v1", "GQA", tmp_path / "full")
    publish([spec], tmp_path / "full", tmp_path / "hub")
    repo, root = tmp_path / "hub" / "TIGER-Lab" / "MMEB-eval", tmp_path / "root"
    with zipfile.ZipFile(repo / "images.zip", "w") as archive:
        for name in _files(tmp_path / "full" / "image-tasks"):
            archive.write(tmp_path / "full" / "image-tasks" / name, name)
    done = run_vlm2vec(hub.address, tmp_path / "home", "download", "mmeb-v1", "--tasks", "GQA", "--data", root)
    assert done.code == 0, done.err
    assert parse_task(spec, root).query_ids == ("0", "1", "2")


def test_annotations_that_are_files_are_those_of_two_data_sets() -> None:
    pool = TableName("TIGER-Lab/M-BEIR", "query/test", "mbeir_x_test")
    assert _file_of(pool) == "query/test/mbeir_x_test.jsonl"
    assert _file_of(TableName(FLICKR, None, "test")) == "test_1k_flickr.csv"
    assert _file_of(TableName("VLM2Vec/MSVD", None, "test")) is None


def test_an_evaluation_that_may_ask_the_hub_gets_queries_and_pool_of_m_beir(hub: Hub, tmp_path: Path) -> None:
    _written("m-beir", "webqa_task1", tmp_path / "full")
    annotations, root = Path("annotations/TIGER-Lab__M-BEIR"), tmp_path / "root"
    shutil.copytree(tmp_path / "full" / annotations, tmp_path / "hub/TIGER-Lab/M-BEIR")
    for _ in range(2):
        done = _parse(hub, tmp_path, "m-beir", "webqa_task1")
        assert (done.returncode, done.stdout) == (0, "9:0 9:1 9:2 9:10 9:11 9:12\n"), done.stderr
    names = ["cand_pool/local/mbeir_webqa_task1_cand_pool.jsonl", "query/test/mbeir_webqa_task1_test.jsonl"]
    assert _files(root / annotations) == names
    # The second time they are there.
    assert [len(hub.ranges(name)) for name in names] == [1, 1]


# Pictures and captions


def test_flickr30k_comes_from_a_csv_and_a_zip(hub: Hub, tmp_path: Path) -> None:
    spec = _written("retrieval", "Flickr30K_i2t", tmp_path / "full")
    _publish_flickr(tmp_path / "full", tmp_path / "hub" / FLICKR)
    done = _download(hub, tmp_path, "retrieval", "Flickr30K_i2t")
    assert done.code == 0, done.err
    assert _files(tmp_path / "root") == [".download/lock", *_files(tmp_path / "full")]
    assert _rows(tmp_path / "root") == _rows(tmp_path / "full")
    ours, theirs = (parse_task(spec, tmp_path / name) for name in ("root", "full"))
    assert ours.relevant == theirs.relevant
    assert hub.fetched() == [f"{FLICKR}/images_flickr_1k_test.zip", f"{FLICKR}/test_1k_flickr.csv"]


def test_an_evaluation_that_may_ask_the_hub_gets_the_captions_of_flickr30k(hub: Hub, tmp_path: Path) -> None:
    _written("retrieval", "Flickr30K_i2t", tmp_path / "full")
    _publish_flickr(tmp_path / "full", tmp_path / "hub" / FLICKR)
    shutil.copytree(tmp_path / "full/image-tasks", tmp_path / "root/image-tasks")
    done = _parse(hub, tmp_path, "retrieval", "Flickr30K_i2t")
    assert (done.returncode, done.stdout[:18]) == (0, "0.jpg 1.jpg 2.jpg "), done.stderr


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"only,two\n", "has other columns in the row that ends in line 5 than in its first line"),
        (b"1,2,3,4,5,six\n", "has other columns in the row that ends in line 5 than in its first line"),
        (b'"never ends\n', "is no CSV: unexpected end of data"),
        (b"\xff,2,3,4,5\n", "is no CSV: 'utf-8' codec can't decode byte 0xff"),
    ],
)
def test_a_csv_that_cannot_be_read_is_named_and_nothing_is_written(
    line: bytes, message: str, hub: Hub, tmp_path: Path
) -> None:
    _written("retrieval", "Flickr30K_i2t", tmp_path / "full")
    table = _publish_flickr(tmp_path / "full", tmp_path / "hub" / FLICKR)
    table.write_bytes(table.read_bytes() + line)
    done = _download(hub, tmp_path, "retrieval", "Flickr30K_i2t")
    assert done.code == 1
    assert f"error: {FLICKR} (config default, split test) cannot be read: test_1k_flickr.csv {message}" in done.err
    assert list((tmp_path / "root/annotations").rglob("test.jsonl")) == []


def test_coco_comes_with_its_annotations_and_pictures_are_asked_for(hub: Hub, tmp_path: Path) -> None:
    spec = _written("retrieval", "COCO-5K_t2i", tmp_path / "full")
    # Its page lists no configurations: files are splits by their names.
    repo = tmp_path / "hub/yerevann/coco-karpathy"
    (repo / "data").mkdir(parents=True)
    (repo / "README.md").write_text("---\npretty_name: COCO Karpathy split\n---\n")
    for split in ("train", "validation", "restval", "test"):
        table = pyarrow.Table.from_pylist(_rows(tmp_path / "full"))
        pyarrow.parquet.write_table(table, repo / f"data/{split}-00000-of-00001.parquet")
    done = _download(hub, tmp_path, "retrieval", "COCO-5K_t2i")
    assert done.code == 1
    assert (
        f"put into {tmp_path}/root/image-tasks/coco: the pictures of MS COCO 2014 (val2014/*.jpg), from "
        "cocodataset.org; 3 missing, first image-tasks/coco/val2014/0.jpg\n"
    ) in done.err
    assert hub.fetched() == ["yerevann/coco-karpathy/data/test-00000-of-00001.parquet"]
    shutil.copytree(tmp_path / "full/image-tasks", tmp_path / "root/image-tasks")
    assert _download(hub, tmp_path, "retrieval", "COCO-5K_t2i").code == 0
    assert parse_task(spec, tmp_path / "root").relevant == parse_task(spec, tmp_path / "full").relevant


def test_conceptual_captions_come_with_their_annotations_and_one_picture_will_do(hub: Hub, tmp_path: Path) -> None:
    spec = _written("retrieval", "CC_i2t", tmp_path / "full")
    repo, pictures = tmp_path / "hub" / CC, tmp_path / "root/image-tasks/cc"
    (repo / "unlabeled").mkdir(parents=True)
    (repo / "README.md").write_text(
        "---\nconfigs:\n- config_name: labeled\n  data_files:\n  - split: train\n    path: labeled/train-*\n"
        "- config_name: unlabeled\n  data_files:\n  - split: train\n    path: unlabeled/train-*\n"
        "  - split: validation\n    path: unlabeled/validation-*\n  default: true\n---\n"
    )
    names = ("labeled/train", "unlabeled/train", "unlabeled/validation")
    (repo / "labeled").mkdir()
    for name in names:
        table = pyarrow.Table.from_pylist(_rows(tmp_path / "full"))
        pyarrow.parquet.write_table(table, repo / f"{name}-00000-of-00001.parquet")
    done = _download(hub, tmp_path, "retrieval", "CC_i2t")
    assert done.code == 1
    assert (
        f"put into {pictures}: the pictures of Conceptual Captions' validation set that its addresses still give, the "
        "one of the first row as 00000000.jpg (docs/benchmark_data.md says how); 3 missing, first "
        "image-tasks/cc/00000000.jpg\n"
    ) in done.err
    assert hub.fetched() == [f"{CC}/unlabeled/validation-00000-of-00001.parquet"]
    pictures.mkdir(parents=True)
    shutil.copy(tmp_path / "full/image-tasks/cc/00000001.jpg", pictures)
    done = _download(hub, tmp_path, "retrieval", "CC_i2t")
    assert (done.code, done.out.splitlines()[-1]) == (0, f"1 task: all data are in {tmp_path}/root"), done.err
    data = parse_task(spec, tmp_path / "root")
    assert data.relevant == {"00000001.jpg": {"a green square": 1}}
    assert [(warning.column, warning.count) for warning in data.warnings] == [("image_url", 2)]


# What goes wrong


@pytest.mark.parametrize("name", ["test_1k_flickr.csv", "images_flickr_1k_test.zip"])
def test_a_file_that_came_with_other_bytes_is_deleted_and_named(name: str, hub: Hub, tmp_path: Path) -> None:
    """A small file, of which the hub has git's hash, and a large one, of which it has another."""
    _written("retrieval", "Flickr30K_t2i", tmp_path / "full")
    _publish_flickr(tmp_path / "full", tmp_path / "hub" / FLICKR)
    data = (tmp_path / "hub" / FLICKR / name).read_bytes()
    came = data[:-1] + bytes([data[-1] ^ 1])

    def told(content: bytes) -> str:
        if name.endswith(".zip"):
            return hashlib.sha256(content).hexdigest()
        return hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()

    hub.altered.add(name)
    done = _download(hub, tmp_path, "retrieval", "Flickr30K_t2i")
    assert done.code == 2
    assert (
        f"error: {FLICKR}: {name} came with other bytes than the hub says (hash {told(came)}, not {told(data)}), so it "
        "was deleted; fetch it again\n"
    ) in done.err
    assert [path for path in (tmp_path / "root").rglob(f"*{name}*") if path.is_file()] == []
    hub.altered.clear()
    assert _download(hub, tmp_path, "retrieval", "Flickr30K_t2i").code == 0


def _split_tar(media: Path, repo: Path, name: str) -> None:
    write_tar(repo / "whole", {path: (media / path).read_bytes() for path in _files(media)})
    data = (repo / "whole").read_bytes()
    (repo / "whole").unlink()
    for number in range(4):
        step = -(-len(data) // 4)
        (repo / f"{name}{number:02d}").write_bytes(data[number * step : (number + 1) * step])
