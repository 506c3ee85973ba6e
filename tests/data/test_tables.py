"""Tables: any row at once, whatever holds it."""

from __future__ import annotations

import errno
import json
import multiprocessing
import pickle
import re
from collections.abc import Sequence
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vlm2vec.data.tables import JsonLines, Table, TableName, load_arrow, open_table
from vlm2vec.errors import ConfigError, DataError, Hint, StorageError

ROWS: list[dict[str, object]] = [
    {"text": f"row {number} é\u2028", "image": {"bytes": bytes([number]), "path": None}} for number in range(5)
]


def _parquet(path: Path, rows: list[dict[str, object]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def _saved(path: Path) -> Path:
    columns = {"text": [row["text"] for row in ROWS], "image": [row["image"] for row in ROWS]}
    data = datasets.Dataset.from_dict(columns).cast_column("image", datasets.Image())
    data.save_to_disk(path)
    return path


def _jsonl(path: Path) -> Path:
    rows = [{"text": row["text"], "image": {"path": str(number)}} for number, row in enumerate(ROWS)]
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n\n" for row in rows), "utf-8")
    return path


@pytest.fixture(params=["jsonl", "parquet", "shards", "saved", "dict"])
def table(request: pytest.FixtureRequest, tmp_path: Path) -> Table:
    match request.param:
        case "jsonl":
            return open_table(_jsonl(tmp_path / "rows.jsonl"))
        case "parquet":
            return open_table(_parquet(tmp_path / "rows [1]*.parquet", ROWS))
        case "shards":
            _parquet(tmp_path / "rows" / "1.parquet", ROWS[3:])
            _parquet(tmp_path / "rows" / "0.parquet", ROWS[:3])
            return open_table(tmp_path / "rows")
        case "saved":
            return open_table(_saved(tmp_path / "saved"))
        case _:
            data = datasets.load_from_disk(str(_saved(tmp_path / "saved")))
            datasets.DatasetDict(train=data, test=data).save_to_disk(tmp_path / "dict")
            return open_table(tmp_path / "dict", "test")


def test_rows_read_at_random_are_those_read_in_order(table: Table) -> None:
    assert len(table) == 5
    assert [table[row]["text"] for row in (4, 0, 2, 0)] == [ROWS[row]["text"] for row in (4, 0, 2, 0)]
    assert [row and row["text"] for row in table.scan(["text"])] == [row["text"] for row in ROWS]


def test_pictures_stay_as_they_are_stored(table: Table) -> None:
    if isinstance(table, JsonLines):
        assert table[3]["image"] == {"path": "3"}
    else:
        assert table[3]["image"] == ROWS[3]["image"]
        assert list(table.scan(["text"]))[3] == {"text": ROWS[3]["text"]}


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")  # of Python 3.12 on, about fork
def test_a_table_goes_to_other_processes_forked_and_pickled(table: Table) -> None:
    assert table[0]["text"] == ROWS[0]["text"]
    assert pickle.loads(pickle.dumps(table))[4]["text"] == ROWS[4]["text"]
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert pool.map(table.__getitem__, [1, 2, 3]) == [table[1], table[2], table[3]]


def test_rows_have_names_that_lead_to_them(tmp_path: Path) -> None:
    lines = open_table(_jsonl(tmp_path / "rows.jsonl"))
    assert (lines.name(0), lines.name(2)) == (f"{tmp_path}/rows.jsonl:1", f"{tmp_path}/rows.jsonl:5")
    assert open_table(_parquet(tmp_path / "r.parquet", ROWS)).name(2) == f"{tmp_path}/r.parquet row 2"


def test_changed_parquet_is_read_anew(tmp_path: Path) -> None:
    path = _parquet(tmp_path / "rows.parquet", [{"a": "old"}])
    assert open_table(path)[0] == {"a": "old"}
    assert open_table(_parquet(path, [{"a": "newer"}]))[0] == {"a": "newer"}


def test_a_malformed_line_is_an_error_of_its_own_row_only(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_bytes(b'{"a": 1}\n \n{"a": \n[2]\n{"a": "\xff"}\n{"a": 3}')
    table = open_table(tmp_path / "rows.jsonl")
    assert (len(table), table[0], table[4]) == (5, {"a": 1}, {"a": 3})
    for row, message in (
        (1, "rows.jsonl:3 is not JSON"),
        (2, "rows.jsonl:4 is not a JSON object"),
        (3, "jsonl:5 is not"),
    ):
        with pytest.raises(DataError, match=re.escape(message)):
            table[row]
    assert list(table.scan(["a"])) == [{"a": 1}, None, None, None, {"a": 3}]


def test_a_file_that_is_gone_is_an_error_that_names_the_row(tmp_path: Path) -> None:
    table = open_table(_jsonl(tmp_path / "rows.jsonl"))
    (tmp_path / "rows.jsonl").unlink()
    with pytest.raises(DataError, match=r"rows.jsonl:3 cannot be read"):
        table[1]


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad.parquet").write_bytes(b"no parquet at all")
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "dataset_dict.json").write_text("{}")
    data = datasets.load_from_disk(str(_saved(tmp_path / "saved")))
    datasets.DatasetDict(train=data, test=data).save_to_disk(tmp_path / "dict")
    for name, split, message in (
        ("empty", None, "empty is not data that can be read: give a .jsonl or .parquet file"),
        ("none.jsonl", None, "none.jsonl is not data that can be read"),
        ("none.parquet", None, "none.parquet cannot be read: FileNotFoundError"),
        ("bad.parquet", None, "bad.parquet cannot be read: ArrowInvalid"),
        ("odd", None, "dataset_dict.json does not list splits"),
        ("dict", None, "dict holds the splits train, test; 'split' is None: name one of them"),
        ("dict", "dev", "'split' is 'dev': name one of them"),
        ("saved", "train", "saved has no splits, so 'split' ('train') says nothing"),
    ):
        with pytest.raises(ConfigError if "'split'" in message else DataError, match=re.escape(message)):
            open_table(tmp_path / name, split)


_FULL = pa.table({"anchor": ["a"], "positive": ["b"]})
_ROW = {"anchor": "a", "positive": "b"}


@pytest.mark.parametrize(
    ("shards", "rows"),
    [
        ([_FULL, _FULL.slice(0, 0)], [_ROW]),
        ([_FULL.slice(0, 0), _FULL], [_ROW]),
        ([_FULL, _FULL.slice(0, 0), _FULL], [_ROW, _ROW]),
        ([pa.table({}), _FULL], [_ROW]),
        ([_FULL, pa.table({"other": [1]}).slice(0, 0)], [_ROW]),
        # A first group of no rows.
        ([[_FULL.slice(0, 0), _FULL]], [_ROW]),
        ([_FULL, [_FULL.slice(0, 0), _FULL]], [_ROW, _ROW]),
    ],
    ids=["last", "first", "between", "no columns", "other columns", "group", "group of a later one"],
)
def test_shards_of_no_rows_are_passed_over(
    tmp_path: Path, shards: list[pa.Table | list[pa.Table]], rows: list[dict[str, object]]
) -> None:
    table = open_table(_shards(tmp_path, shards))
    assert [table[row] for row in range(len(table))] == rows
    assert list(table.scan(["anchor"])) == [{"anchor": "a"}] * len(rows)


@pytest.mark.parametrize(
    ("shards", "message"),
    [
        ([_FULL.slice(0, 0)] * 2, "shards holds no row: each of its 2 parquet files is a table of no rows"),
        ([pa.table({})], "shards holds no row: each of its 1 parquet files is a table of no rows"),
        (
            [_FULL, _FULL.slice(0, 0), pa.table({"text": ["a"]})],
            "shards cannot be read: 2.parquet has the columns text (string), 0.parquet has anchor (string), positive "
            "(string); all files of a folder must have the same",
        ),
        (
            [_FULL, pa.table({"anchor": [[1]], "positive": ["b"]})],
            "shards cannot be read: 1.parquet has the columns anchor (list<element: int64>), positive (string), "
            "0.parquet has anchor (string), positive (string); all files of a folder must have the same",
        ),
        ([_FULL, b""], "1.parquet cannot be read: ArrowInvalid: Parquet file size is 0 bytes"),
        ([_FULL, -20], "1.parquet cannot be read: ArrowInvalid: Parquet magic bytes not found in footer"),
        ([_FULL, 8], "shards cannot be read: 1.parquet is damaged (OSError: "),
    ],
    ids=["all", "no columns", "other columns", "other types", "no bytes", "truncated", "damaged inside"],
)
def test_a_shard_that_cannot_be_read_is_named_with_the_reason(
    tmp_path: Path, shards: list[pa.Table | bytes | int], message: str
) -> None:
    """A number stands for a shard that is cut off there, or zeroed from there on for 22 bytes."""
    with pytest.raises(DataError, match=re.escape(message)):
        open_table(_shards(tmp_path, shards))


def test_a_disk_without_room_for_the_copy_is_no_fault_of_the_data() -> None:
    def load() -> datasets.Dataset:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(StorageError, match=r"^rows cannot be read: OSError: \[Errno 28\] No space left on device$"):
        load_arrow("rows", load)


def test_a_file_of_no_rows_says_so(tmp_path: Path) -> None:
    pq.write_table(_FULL.slice(0, 0), tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"a\.parquet holds no row: it is a table of no rows$"):
        open_table(tmp_path / "a.parquet")


def _shards(tmp_path: Path, shards: Sequence[object]) -> Path:
    folder = tmp_path / "shards"
    folder.mkdir()
    for number, shard in enumerate(shards):
        path = folder / f"{number}.parquet"
        groups = shard if isinstance(shard, list) else [shard if isinstance(shard, pa.Table) else _FULL]
        with pq.ParquetWriter(path, groups[0].schema) as writer:
            for group in groups:
                writer.write_table(group)
        if isinstance(shard, bytes):
            path.write_bytes(shard)
        elif isinstance(shard, int):
            whole = path.read_bytes()
            path.write_bytes(whole[:shard] if shard < 0 else whole[:shard] + bytes(22) + whole[shard + 22 :])
    return folder


def test_the_only_split_need_not_be_named(tmp_path: Path) -> None:
    data = datasets.load_from_disk(str(_saved(tmp_path / "saved")))
    datasets.DatasetDict(train=data).save_to_disk(tmp_path / "dict")
    assert len(open_table(tmp_path / "dict")) == 5


def test_the_mirror_holds_data_sets_by_name_configuration_and_split(tmp_path: Path) -> None:
    base = tmp_path / "annotations" / "a__b"
    _parquet(base / "default" / "train.parquet", [{"x": "parquet"}])
    (base / "c").mkdir()
    (base / "c" / "test.jsonl").write_text('{"x": "lines"}\n')
    _parquet(base / "c" / "train" / "0.parquet", [{"x": "folder"}])
    assert TableName("a/b", None, "train").open(tmp_path)[0] == {"x": "parquet"}
    assert TableName("a/b", "c", "test").open(tmp_path)[0] == {"x": "lines"}
    assert TableName("a/b", "c", "train").open(tmp_path)[0] == {"x": "folder"}


def test_a_table_that_the_mirror_lacks_is_an_error_with_what_to_do_unless_it_may_be_fetched(tmp_path: Path) -> None:
    asked: list[TableName] = []

    def fetch(name: TableName) -> Table:
        asked.append(name)
        return open_table(_jsonl(tmp_path / "rows.jsonl"))

    with pytest.raises(DataError) as failure:
        TableName("a/b", "c", "train").open(tmp_path, "download", remedy="put it there")
    folder = tmp_path / "annotations" / "a__b" / "c"
    assert failure.value.message == (
        f"a/b (config c, split train) is not here: there is none of {folder}/train.parquet, {folder}/train.jsonl, "
        f"{folder}/train; put it there"
    )
    assert failure.value.hints == (Hint("download"),)
    with pytest.raises(DataError, match=r"split train\) is not here: data_root, its mirror, is not set$"):
        TableName("a/b", None, "train").open(None)
    assert len(TableName("a/b", None, "train").open(None, fetch=fetch)) == 5
    assert asked == [("a/b", None, "train")]
