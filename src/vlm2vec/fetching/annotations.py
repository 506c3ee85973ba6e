"""How do a task's annotations get from the hub into the mirror?"""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from vlm2vec.data.tables import Table, TableName, load_arrow
from vlm2vec.errors import DataError, HubError
from vlm2vec.extras import require
from vlm2vec.fetching.hub import HubFile, RefusedError, dataset_builder, list_files
from vlm2vec.files import atomic_writer, locked, remove_drafts, writing

FOLDER = ".download"
"""Under the data root: what is fetched and not yet in its place."""

_FILES = {
    # Its one configuration, TEST, is a script.
    "nlphuji/flickr_1k_test_image_text_retrieval": "test_1k_flickr.csv",
    "TIGER-Lab/M-BEIR": "{config}/{split}.jsonl",
}
"""By data set, annotations that are files in it, and no configuration of it; .csv becomes .jsonl with texts alone."""

_PLACE = re.compile(r"hf://datasets/([^/@]+/[^/@]+)@([^/]+)/(.+)")
"""How the library `datasets` names a file of the hub: data set, commit and path."""

_SCRATCH = "tmp-table-"
"""Beginning of the name of a folder in which a table is being written."""


class AnnotationPlan(NamedTuple):
    """A table of annotations and the files of the hub that it is made of.

    `builder` is what reads them, of the library `datasets`; None if they are one file that is no configuration.
    """

    table: TableName
    files: tuple[HubFile, ...]
    builder: Any

    @classmethod
    def of(cls, table: TableName) -> AnnotationPlan:
        """Ask the hub which files hold annotations, and how they are read.

        Raises:
            HubError: the hub cannot be reached; RefusedError: it has no such data set, configuration or split.
        """
        if (alone := _file_of(table)) is not None:
            if not (files := list_files(table.dataset, paths=[alone])):
                lacking = f"{table.dataset} on the hub has no file {alone}"
                raise RefusedError(f"{lacking}; see what is there, and put it in place")
            return cls(table, tuple(files), None)
        builder = dataset_builder(table)
        splits = builder.config.data_files or {}
        if table.split not in splits:
            known = ", ".join(map(str, splits)) or "(none)"
            raise RefusedError(f"{table} is not on the hub: there are the splits {known}")
        found = [place for name in splits[table.split] if (place := _PLACE.fullmatch(str(name)))]
        if len(found) < len(splits[table.split]) or not found:
            raise RefusedError(f"{table} does not lie on the hub but at {splits[table.split]}; fetch it there")
        # A data set that was renamed has another name there.
        repo, commit, _ = found[0].groups()
        listed = {file.path: file for file in list_files(repo, revision=commit, paths=[place[3] for place in found])}
        return cls(table, tuple(listed[place[3]] for place in found), builder)

    def fetch(self, root: Path, folder: Path, on_bytes: Callable[[int], None]) -> None:
        """Bring them into the mirror under a data root; pictures in them stay as they are stored.

        `folder` and `on_bytes` are those of `HubFile.fetch`.

        Raises:
            RefusedError: the hub does not give them, or they cannot be read; HubError: it cannot be reached.
            StorageError: the disk is full, or the mirror may not be written.
        """
        fetched = [file.fetch(folder, on_bytes) for file in self.files]
        parquet, lines, _ = self.table.places(root)
        place = lines if self.builder is None else parquet
        with writing(place):
            place.parent.mkdir(parents=True, exist_ok=True)
            remove_drafts(place.parent)
            if self.builder is None and fetched[0].suffix == ".jsonl":
                os.replace(fetched[0], place)
                return
            with atomic_writer(place) as draft:
                if self.builder is None:
                    self._write_lines(fetched[0], draft)
                else:
                    # Of the library's own cache nothing is left over.
                    with tempfile.TemporaryDirectory(prefix=_SCRATCH, dir=folder) as scratch:
                        self._write(fetched, Path(scratch) / "rows", draft)
        for file in self.files:
            file.place(folder).unlink(missing_ok=True)

    def _write(self, files: Sequence[Path], scratch: Path, draft: BinaryIO) -> None:
        from datasets.data_files import DataFilesDict, DataFilesList
        from datasets.exceptions import DatasetsError

        builder, split = self.builder, self.table.split
        # By itself the library would fetch every split of the configuration, and start over after a killed run.
        # A relative path it would look for on the hub.
        places = [str(file.absolute()) for file in files]
        builder.config.data_files = DataFilesDict({split: DataFilesList(places, [])})
        builder.info.splits = None
        try:
            builder.download_and_prepare(str(scratch), verification_mode="no_checks")
            builder.as_dataset(split=split).to_parquet(draft)
        except (ValueError, DatasetsError) as error:
            raise RefusedError(f"{self.table} cannot be read: {_short(error)}") from None

    def _write_lines(self, table: Path, draft: BinaryIO) -> None:
        """Write a table in CSV as JSON lines. Every value stays a text: its column's reader knows what it means."""
        path = self.files[0].path
        try:
            with table.open(encoding="utf-8-sig", newline="") as stream:
                rows = csv.DictReader(stream, strict=True)
                for row in rows:
                    # The reader's way to say that a row has more values, or fewer, than there are columns.
                    if None in row or None in row.values():
                        raise RefusedError(
                            f"{self.table} cannot be read: {path} has other columns in the row that ends in line "
                            f"{rows.line_num} than in its first line"
                        )
                    draft.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")
        except (ValueError, csv.Error) as error:
            raise RefusedError(f"{self.table} cannot be read: {path} is no CSV: {_short(error)}") from None


def fetch_table(name: TableName, root: Path | None) -> Table:
    """Open a table of the hub; one that is a file of its data set, and no configuration of it, comes into the mirror.

    Processes that want the same file wait for each other. With `root` None there is no mirror.

    Raises:
        HubError: the hub cannot be reached, or does not give the table.
        StorageError: the disk is full, or the mirror may not be written.
    """
    if root is None or _file_of(name) is None:
        require("evaluate", "datasets", "pyarrow")
        from datasets import load_dataset

        try:
            return load_arrow(str(name), lambda: load_dataset(name.dataset, name.config, split=name.split))
        except DataError as error:
            raise HubError(error.message) from None
    with download_folder(root, patience_s=-1) as folder:
        # Another process may have brought it meanwhile.
        if name.found(root) is None:
            AnnotationPlan.of(name).fetch(root, folder, lambda count: None)
    return name.open(root)


@contextmanager
def download_folder(root: Path, *, patience_s: float = 0.0) -> Iterator[Path]:
    """The folder under a data root for what is not yet in its place, for this process alone; killed runs' rests go.

    It waits `patience_s` seconds for another process that works there; if that is negative, for ever.

    Raises:
        BusyError: another one works there for longer than that; StorageError: the folder cannot be written.
    """
    folder = root / FOLDER
    with writing(folder, "other_data"):
        folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / "lock", f"another download works in {root}", "other_data", patience_s=patience_s):
        for place in sorted(folder.glob(f"{_SCRATCH}*")):
            shutil.rmtree(place, ignore_errors=True)
        yield folder
        # Of the library `datasets`.
        for lock in sorted(folder.glob("tmp*.lock")):
            lock.unlink()
        for place in sorted((path for path in folder.rglob("*") if path.is_dir()), reverse=True):
            if not any(place.iterdir()):
                place.rmdir()


def _file_of(table: TableName) -> str | None:
    """The file of its data set that a table is, where it is no configuration of it."""
    pattern = _FILES.get(table.dataset)
    return None if pattern is None else pattern.format(config=table.config, split=table.split)


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
