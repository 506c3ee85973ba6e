"""How do a task's annotations get from the hub into the mirror?"""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from vlm2vec.errors import ConfigError
from vlm2vec.extras import require
from vlm2vec.tasks.data import TaskSource
from vlm2vec.tasks.hub_files import (
    HubFile,
    RefusedError,
    absent,
    fetch,
    gated,
    hub_errors,
    list_files,
    local_path,
    newest_revision,
)
from vlm2vec.tasks.media_sources import annotation_file
from vlm2vec.tasks.needs import annotation_places

_PLACE = re.compile(r"hf://datasets/([^/@]+/[^/@]+)@([^/]+)/(.+)")
"""How the library `datasets` names a file of the hub: data set, commit and path."""

_SCRATCH = "tmp-table-"
"""What the name of a folder begins with in which a table is being written."""


class AnnotationPlan(NamedTuple):
    """Annotations and the files of the hub that they are made of.

    `builder` is what reads them, of the library `datasets`; None if they are one file that is no configuration.
    """

    source: TaskSource
    files: tuple[HubFile, ...]
    builder: Any


def plan_annotations(source: TaskSource) -> AnnotationPlan:
    """Ask the hub which files hold annotations, and how they are read. Nothing is fetched yet.

    Raises:
        ConfigError: the hub cannot be reached; RefusedError: it has no such data set, configuration or split.
    """
    alone = annotation_file(*source)
    if alone is not None:
        files = list_files(source.dataset, paths=[alone])
        if not files:
            raise RefusedError(
                f"{source.dataset} on the hub has no file {alone}; see what is there, and put it in place"
            )
        return AnnotationPlan(source, tuple(files), None)
    # The library itself would try for half a minute to reach a hub that is not there.
    revision = newest_revision(source.dataset)
    # It leaves lock files in its cache.
    with hub_errors(source.dataset), tempfile.TemporaryDirectory() as cache:
        builder = _builder(source, revision, cache)
    splits = builder.config.data_files or {}
    if source.split not in splits:
        raise RefusedError(
            f"{_what(source)} is not on the hub: there are the splits {', '.join(map(str, splits)) or '(none)'}"
        )
    places = [_PLACE.fullmatch(str(place)) for place in splits[source.split]]
    found = [place for place in places if place is not None]
    if len(found) < len(places) or not found:
        raise RefusedError(f"{_what(source)} does not lie on the hub but at {splits[source.split]}; fetch it there")
    # A data set that was renamed has another name there.
    repo, commit, _ = found[0].groups()
    listed = {file.path: file for file in list_files(repo, revision=commit, paths=[place[3] for place in found])}
    return AnnotationPlan(source, tuple(listed[place[3]] for place in found), builder)


def fetch_annotations(plan: AnnotationPlan, root: Path, folder: Path, on_bytes: Callable[[int], None]) -> Path:
    """Bring annotations into the mirror under a data root; pictures in them stay as they are stored.

    Args:
        plan: what to bring.
        root: the data root.
        folder: where files of the hub are kept while they are needed.
        on_bytes: told of every piece that arrives.

    Raises:
        RefusedError: the hub does not give them, or what cannot be read; ConfigError: it cannot be reached, or the disk
            is full.
    """
    fetched = [fetch(file, folder, on_bytes) for file in plan.files]
    parquet, lines, _ = annotation_places(root, plan.source)
    place = lines if plan.builder is None else parquet
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        if plan.builder is None and fetched[0].suffix == ".jsonl":
            os.replace(fetched[0], place)
            return place
        draft = place.with_name(f".{place.name}.part")
        if plan.builder is None:
            _write_lines(plan, fetched[0], draft)
        else:
            # Of the library's own cache nothing is left over.
            with tempfile.TemporaryDirectory(prefix=_SCRATCH, dir=folder) as scratch:
                _write(plan, fetched, Path(scratch) / "rows", draft)
        os.replace(draft, place)
    except OSError as error:
        raise ConfigError(f"{place} cannot be written: {error}; then the same command goes on") from error
    for file in plan.files:
        local_path(file, folder).unlink(missing_ok=True)
    return place


def remove_scratch(folder: Path) -> None:
    """Delete what a killed run left of tables that it was writing; of files that were being fetched nothing."""
    for place in sorted(folder.glob(f"{_SCRATCH}*")):
        shutil.rmtree(place, ignore_errors=True)


def _builder(source: TaskSource, revision: str, cache: str) -> Any:
    require("evaluate", "datasets")
    from datasets import load_dataset_builder
    from datasets.exceptions import DatasetNotFoundError, DatasetsError

    try:
        return load_dataset_builder(source.dataset, source.config, revision=revision, cache_dir=cache)
    except DatasetNotFoundError as error:
        # The library keeps the hub's reason in its words alone.
        raise (gated if "gated" in str(error) else absent)(source.dataset) from None
    except (ValueError, RuntimeError, FileNotFoundError, DatasetsError) as error:
        # Among them: no such configuration, and a data set that is a script, which is never run.
        raise RefusedError(f"{_what(source)} cannot be read from the hub: {_short(error)}") from None


def _write(plan: AnnotationPlan, files: Sequence[Path], scratch: Path, draft: Path) -> None:
    from datasets.data_files import DataFilesDict, DataFilesList
    from datasets.exceptions import DatasetsError

    builder, split = plan.builder, plan.source.split
    # By itself the library would fetch every split of the configuration, and begin anew after a killed run.
    # A relative path it would look for on the hub.
    places = [str(file.absolute()) for file in files]
    builder.config.data_files = DataFilesDict({split: DataFilesList(places, [])})
    builder.info.splits = None
    try:
        builder.download_and_prepare(str(scratch), verification_mode="no_checks")
        builder.as_dataset(split=split).to_parquet(str(draft))
    except (ValueError, DatasetsError) as error:
        raise RefusedError(f"{_what(plan.source)} cannot be read: {_short(error)}") from None


def _write_lines(plan: AnnotationPlan, table: Path, draft: Path) -> None:
    """Write a table in CSV as JSON lines. Every value stays a text: what else it may be, its column's reader knows."""
    path = plan.files[0].path
    try:
        with table.open(encoding="utf-8-sig", newline="") as stream, draft.open("w", encoding="utf-8") as lines:
            rows = csv.DictReader(stream, strict=True)
            for row in rows:
                # That is how it says that a row has more values, or fewer, than there are columns.
                if None in row or None in row.values():
                    raise RefusedError(
                        f"{_what(plan.source)} cannot be read: {path} has other columns in the row that ends in line "
                        f"{rows.line_num} than in its first line"
                    )
                lines.write(json.dumps(row, ensure_ascii=False) + "\n")
    except (ValueError, csv.Error) as error:
        raise RefusedError(f"{_what(plan.source)} cannot be read: {path} is no CSV: {_short(error)}") from None


def _what(source: TaskSource) -> str:
    return f"{source.dataset} (config {source.config or 'default'}, split {source.split})"


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
