"""What is in a score file, and is it whole? The form in which the MMEB-V2 leaderboard takes submissions."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vlm2vec.errors import ConfigError
from vlm2vec.vectors.metrics import METRICS
from vlm2vec.vectors.store import atomic_writer

MODALITIES = ("image", "video", "visdoc")
SCORES = "scores.json"
"""What an evaluation calls its score file."""

_COUNTS = ("num_pred", "num_data")
# How far a mean of ones may lie above 1 by rounding.
_ROUNDING = 1e-9
_PROBLEMS_SHOWN = 5


@dataclass(frozen=True, slots=True)
class DatasetScores:
    """One model on one dataset: a share of 1 for each key of `METRICS`, and the number of queries."""

    metrics: Mapping[str, float]
    num_queries: int


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
        return json.loads(path.read_text("utf-8"))
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
    """The scores that a JSON document of the leaderboard's form holds; `origin` names it in errors.

    Raises:
        ConfigError: something is missing or out of range.
    """
    found = problems(document)
    if found:
        more = f"; and {len(found) - _PROBLEMS_SHOWN} more problems" if len(found) > _PROBLEMS_SHOWN else ""
        raise ConfigError(f"{origin} is no score file: {'; '.join(found[:_PROBLEMS_SHOWN])}{more}")
    assert isinstance(document, dict)
    metadata = document["metadata"]
    return ModelScores(
        model=metadata["model_name"],
        generated=metadata["report_generated_date"],
        datasets={
            modality: {
                name: DatasetScores({key: float(values[key]) for key in METRICS}, values["num_data"])
                for name, values in datasets.items()
            }
            for modality, datasets in document["metrics"].items()
        },
        benchmark=metadata.get("benchmark", "mmeb-v2"),
        limit=metadata.get("limit"),
        note=metadata.get("note"),
    )


def as_json(models: Sequence[ModelScores]) -> str:
    """The text of a score file; of several models, a list of what would stand in their files."""
    documents = [as_document(scores) for scores in models]
    return json.dumps(documents[0] if len(documents) == 1 else documents, indent=4) + "\n"


def as_document(scores: ModelScores) -> dict[str, object]:
    """The JSON document of the leaderboard's form.

    The benchmark is named in it unless it is the leaderboard's own, and a limit and a note if there are such.
    """
    metadata: dict[str, object] = {"model_name": scores.model, "report_generated_date": scores.generated}
    if scores.benchmark != "mmeb-v2":
        metadata["benchmark"] = scores.benchmark
    if scores.limit is not None:
        metadata["limit"] = scores.limit
    if scores.note is not None:
        metadata["note"] = scores.note
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
        if not isinstance(metadata.get("benchmark", "mmeb-v2"), str):
            found.append("metadata.benchmark is not a name")
        if not isinstance(metadata.get("note", ""), str):
            found.append("metadata.note is not a text")
        limit = metadata.get("limit")
        if limit is not None and (not isinstance(limit, int) or isinstance(limit, bool) or limit < 1):
            found.append(f"metadata.limit is {json.dumps(limit)}, not a whole number above 0")
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
                found += _dataset_problems(f"{where}.{name}", values)
    if not any(metrics.values()):
        found.append("metrics holds no dataset")
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
    if any(isinstance(count, bool) or not isinstance(count, int) or count < 1 for count in counts):
        found.append(f"{where}: num_pred and num_data are {json.dumps(counts)}, not whole numbers above 0")
    elif len(set(counts)) == 2:
        found.append(f"{where}: num_pred is {counts[0]} but num_data is {counts[1]}; queries have no prediction")
    return found


def _is_share(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return math.isfinite(value) and 0 <= value <= 1 + _ROUNDING
