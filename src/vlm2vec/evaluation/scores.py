"""What is in a score file, and is it whole? In the form of the files that the MMEB-V2 publication's scripts write."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from vlm2vec.documents import load_json
from vlm2vec.errors import ConfigError
from vlm2vec.files import atomic_writer
from vlm2vec.vectors.metrics import METRICS

MODALITIES = ("image", "video", "visdoc")
SCORES = "scores.json"
"""What an evaluation calls its score file."""

_COUNTS = ("num_pred", "num_data")
_NO_SCORES = ("FILE_N/A", "DIR_N/A", "JSON_ERROR", "READ_ERROR")
"""Published scripts write one of these for a dataset of which they find no scores."""

_FIXED = "-page-fixed"
_RENAMED: Mapping[str, str] = MappingProxyType(
    {f"{name}{_FIXED}": f"{name}-page" for name in ("ViDoSeek", "MMLongBench")}
)
"""What the newest published script calls two datasets since their labels were mended, and their names in the list."""

_BEFORE = " (labels before the fix)"
# The benchmark whose files do not name it.
_OWN = "mmeb-v2"
# How far a mean of ones may lie above 1 by rounding.
_ROUNDING = 1e-9
_PROBLEMS_SHOWN = 5


@dataclass(frozen=True, slots=True)
class DatasetScores:
    """One model on one dataset.

    Args:
        metrics: a share of 1 for each key of `METRICS`.
        num_queries: how many were asked.
        dropped_frames: how many damaged frames were left out of the dataset's videos.
    """

    metrics: Mapping[str, float]
    num_queries: int
    dropped_frames: int = 0


@dataclass(frozen=True, slots=True)
class ModelScores:
    """One model's score file.

    Args:
        model: its name.
        generated: when the scores were put together, as ISO 8601.
        datasets: scores by modality and dataset.
        benchmark: name of the table of tasks that the datasets are from.
        limit: only so many queries of each dataset were asked; None: all.
        note: what a reader of the scores must know, in one line; None: nothing.
    """

    model: str
    generated: str
    datasets: Mapping[str, Mapping[str, DatasetScores]]
    benchmark: str = "mmeb-v2"
    limit: int | None = None
    note: str | None = None


def read_scores(path: Path) -> ModelScores:
    """Read and check a score file of one model.

    Raises:
        ConfigError: there is no such file, it is no JSON, or something is missing or out of range; the message names
            file, dataset and metric.
    """
    return as_scores(_read_document(path), str(path))


def read_score_list(path: Path) -> list[ModelScores]:
    """Read and check a score file of one model, or of several as `as_json` writes it.

    Raises:
        ConfigError: as `read_scores`.
    """
    document = _read_document(path)
    if not isinstance(document, list):
        return [as_scores(document, str(path))]
    return [as_scores(one, f"{path}, entry {number} of {len(document)}") for number, one in enumerate(document, 1)]


def _read_document(path: Path) -> object:
    try:
        return load_json(path)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}; give a score file or a folder of them") from error
    except ValueError as error:
        raise ConfigError(f"{path} is no score file: not JSON in UTF-8 ({error})") from error


def write_scores(path: Path, scores: ModelScores) -> None:
    """Write one model's scores for submission; the folder is made if need be.

    Raises:
        ConfigError: the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_writer(path) as stream:
            stream.write(as_json([scores]).encode("ascii"))
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror}; give another path") from error


def as_scores(document: object, origin: str) -> ModelScores:
    """The scores that a JSON document of the published form holds; `origin` names it in errors.

    A dataset without scores ("FILE_N/A") is left out. `ViDoSeek-page-fixed` and `MMLongBench-page-fixed` are what the
    benchmark calls `ViDoSeek-page` and `MMLongBench-page`; scores that a file has beside these under the name of the
    list are of the older labels, and get a name that no list has.

    Raises:
        ConfigError: something is missing or out of range.
    """
    found = problems(document)
    if found:
        more = f"; and {len(found) - _PROBLEMS_SHOWN} more problems" if len(found) > _PROBLEMS_SHOWN else ""
        raise ConfigError(f"{origin} is no score file: {'; '.join(found[:_PROBLEMS_SHOWN])}{more}")
    assert isinstance(document, dict)
    metadata = document["metadata"]
    benchmark, dropped = metadata.get("benchmark", _OWN), metadata.get("dropped_frames", {})
    return ModelScores(
        model=metadata["model_name"],
        generated=metadata["report_generated_date"],
        datasets={
            modality: {
                name: DatasetScores(
                    {key: float(values[key]) for key in METRICS}, values["num_data"], dropped.get(name, 0)
                )
                for name, values in (_listed(datasets) if benchmark == _OWN else datasets).items()
                if values not in _NO_SCORES
            }
            for modality, datasets in document["metrics"].items()
        },
        benchmark=benchmark,
        limit=metadata.get("limit"),
        note=metadata.get("note"),
    )


def as_json(models: Sequence[ModelScores]) -> str:
    """The text of a score file; of several models, a list of what would stand in their files."""
    documents = [as_document(scores) for scores in models]
    return json.dumps(documents[0] if len(documents) == 1 else documents, indent=4) + "\n"


def as_document(scores: ModelScores) -> dict[str, object]:
    """The JSON document of the published form.

    The benchmark is named in it unless it is MMEB-V2, and a limit, a note and dropped frames if there are such.
    """
    metadata: dict[str, object] = {"model_name": scores.model, "report_generated_date": scores.generated}
    if scores.benchmark != _OWN:
        metadata["benchmark"] = scores.benchmark
    if scores.limit is not None:
        metadata["limit"] = scores.limit
    if scores.note is not None:
        metadata["note"] = scores.note
    if dropped := dropped_frames(scores):
        # Not among a dataset's numbers: which keys others take there is not known.
        metadata["dropped_frames"] = dropped
    return {
        "metadata": metadata,
        "metrics": {
            modality: {
                name: dict(one.metrics) | {"num_pred": one.num_queries, "num_data": one.num_queries}
                for name, one in datasets.items()
            }
            for modality, datasets in scores.datasets.items()
        },
    }


def dropped_frames(scores: ModelScores) -> dict[str, int]:
    """How many damaged frames were left out, by dataset; only of those in which there were some."""
    return {
        name: one.dropped_frames
        for datasets in scores.datasets.values()
        for name, one in datasets.items()
        if one.dropped_frames
    }


def problems(document: object) -> list[str]:
    """Everything that keeps a JSON document from being a score file, each with the place in it; none if it is one."""
    if not isinstance(document, dict):
        return ["it is not an object with 'metadata' and 'metrics'"]
    found = []
    metadata = document.get("metadata")
    if not isinstance(metadata, dict):
        found.append("metadata is missing or not an object")
    else:
        found += [
            f"metadata.{key} is missing or empty"
            for key in ("model_name", "report_generated_date")
            if not isinstance(metadata.get(key), str) or not metadata[key]
        ]
        if not isinstance(metadata.get("benchmark", _OWN), str):
            found.append("metadata.benchmark is not a name")
        if not isinstance(metadata.get("note", ""), str):
            found.append("metadata.note is not a text")
        limit = metadata.get("limit")
        if limit is not None and not _is_count(limit):
            found.append(f"metadata.limit is {json.dumps(limit)}, not a whole number above 0")
        dropped = metadata.get("dropped_frames", {})
        if not isinstance(dropped, dict) or not all(_is_count(count) for count in dropped.values()):
            found.append(f"metadata.dropped_frames is {json.dumps(dropped)}, not whole numbers above 0 by dataset")
    metrics = document.get("metrics")
    if not isinstance(metrics, dict):
        return [*found, "metrics is missing or not an object"]
    for modality, datasets in metrics.items():
        where = f"metrics.{modality}"
        if modality not in MODALITIES:
            found.append(f"{where}: no such modality; there are {', '.join(MODALITIES)}")
        elif not isinstance(datasets, dict):
            found.append(f"{where} is not an object")
        else:
            for name, values in datasets.items():
                if values not in _NO_SCORES:
                    found += _dataset_problems(f"{where}.{name}", values)
    if not any(values not in _NO_SCORES for datasets in metrics.values() for values in _values(datasets)):
        found.append("metrics holds no dataset" + (" with scores" if any(metrics.values()) else ""))
    return found


def _dataset_problems(where: str, values: object) -> list[str]:
    if not isinstance(values, dict):
        return [f"{where} is not an object"]
    missing = [key for key in (*METRICS, *_COUNTS) if key not in values]
    found = [f"{where}: {', '.join(missing)} missing"] if missing else []
    found += [
        f"{where}: {key} is {json.dumps(values[key])}, not a number from 0 to 1"
        for key in METRICS
        if key in values and not _is_share(values[key])
    ]
    counts = [values[key] for key in _COUNTS if key in values]
    if not all(_is_count(count) for count in counts):
        found.append(f"{where}: num_pred and num_data are {json.dumps(counts)}, not whole numbers above 0")
    elif len(set(counts)) == 2:
        found.append(f"{where}: num_pred is {counts[0]} but num_data is {counts[1]}; queries have no prediction")
    return found


def _listed(datasets: Mapping[str, object]) -> dict[str, Any]:
    """Datasets under the names of the benchmark's list."""
    fixed = {name: known for name, known in _RENAMED.items() if datasets.get(name) not in (None, *_NO_SCORES)}
    older = {known for known in fixed.values() if datasets.get(known) not in (None, *_NO_SCORES)}
    return {
        fixed.get(name, f"{name}{_BEFORE}" if name in older else name): values
        for name, values in datasets.items()
        # A dataset that is not there must not stand in the place of its mended form.
        if name in older or name not in fixed.values()
    }


def _values(datasets: object) -> list[object]:
    return list(datasets.values()) if isinstance(datasets, dict) else [datasets]


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _is_share(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return math.isfinite(value) and 0 <= value <= 1 + _ROUNDING
