"""Tables that the mirror lacks come from the hub, and what a killed download left is cleared away."""

from __future__ import annotations

import re
from pathlib import Path

import datasets
import pytest

from vlm2vec.data.tables import TableName
from vlm2vec.errors import BusyError, HubError, StorageError
from vlm2vec.fetching.annotations import FOLDER, download_folder, fetch_table

TABLE = TableName("a/b", None, "train")


def test_a_table_is_asked_for_by_its_names(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[object, ...]] = []

    def load_dataset(*arguments: object, split: str) -> datasets.Dataset:
        asked.append((*arguments, split))
        return datasets.Dataset.from_dict({"x": ["hub"]})

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    table = fetch_table(TABLE, None)
    assert (asked, table[0], table.name(0)) == (
        [("a/b", None, "train")],
        {"x": "hub"},
        "a/b (config default, split train) row 0",
    )


def test_a_hub_that_does_not_answer_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def load_dataset(*_: object, split: str) -> datasets.Dataset:
        raise ConnectionError("no network")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with pytest.raises(HubError, match=re.escape("split train) cannot be read: ConnectionError: no network")):
        fetch_table(TABLE, None)


def test_a_download_that_was_killed_keeps_what_it_can_continue_from(tmp_path: Path) -> None:
    folder = tmp_path / FOLDER
    (folder / "tmp-table-a1b2c3d4" / "rows").mkdir(parents=True)
    (folder / "tmp-table-a1b2c3d4" / "rows" / "x.arrow").write_bytes(b"")
    (folder / "tmp__x").mkdir()
    (folder / "tmp__x" / "a.tar.0123456789abcdef.part").write_bytes(b"")
    with download_folder(tmp_path):
        pass
    assert sorted(path.name for path in folder.rglob("*") if path.is_file()) == [
        "a.tar.0123456789abcdef.part",
        "lock",
    ]


def test_two_downloads_do_not_work_in_one_folder(tmp_path: Path) -> None:
    with (
        download_folder(tmp_path),
        pytest.raises(BusyError, match=f"^another download works in {tmp_path}"),
        download_folder(tmp_path),
    ):
        pass


def test_a_data_root_that_may_not_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "root").write_text("a file")
    with (
        pytest.raises(StorageError, match=f"^cannot write {tmp_path}/root/.download: not a directory"),
        download_folder(tmp_path / "root"),
    ):
        pass
