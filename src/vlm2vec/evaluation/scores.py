"""Which scores does a score file hold, is it whole, and which means do they amount to?

Its form is that of the MMEB-V2 publication's scripts.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from types import MappingProxyType
from typing import Annotated, Self, TypeAlias, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Field,
    InstanceOf,
    PositiveInt,
    ValidationError,
    model_validator,
)

from vlm2vec.documents import load_json, problems
from vlm2vec.errors import DataError
from vlm2vec.files import reason, write_atomically, writing
from vlm2vec.tasks.data import Modality, TaskSpec
from vlm2vec.vectors.metrics import METRICS

MODALITIES: tuple[Modality, ...] = get_args(Modality)
SCORES = "scores.json"
"""The name of an evaluation's score file."""

OVERALL = "overall"
"""The name of the mean over all datasets."""

_NO_SCORES = ("FILE_N/A", "DIR_N/A", "JSON_ERROR", "READ_ERROR")
"""Published scripts write one of these for a dataset of which they find no scores."""

Text: TypeAlias = InstanceOf[str]
"""Of any letters: the name of a folder may hold half a surrogate pair, which pydantic refuses in a str."""

_RENAMED: Mapping[str, str] = MappingProxyType(
    {"ViDoSeek-page-fixed": "ViDoSeek-page", "MMLongBench-page-fixed": "MMLongBench-page"}
)
"""Names of two datasets in the newest published script, since their labels were mended, and in the list."""

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
        num_queries: that were asked.
        dropped_frames: damaged ones, which were left out of the dataset's videos.
    """

    metrics: Mapping[str, float]
    num_queries: int
    dropped_frames: int = 0


@dataclass(frozen=True, slots=True)
class ModelScores:
    """One model's score file.

    Args:
        generated: when the scores were put together, as ISO 8601.
        datasets: scores by modality and dataset.
        benchmark: name of the table of tasks that the datasets are from.
        limit: only so many queries of each dataset were asked; None: all.
        note: one line for a reader of the scores.
    """

    model: str
    generated: str
    datasets: Mapping[str, Mapping[str, DatasetScores]]
    benchmark: str = "mmeb-v2"
    limit: int | None = None
    note: str | None = None

    @classmethod
    def of_document(cls, document: object, origin: str) -> ModelScores:
        """The scores that a JSON document of the published form holds; `origin` names it in errors.

        A dataset without scores ("FILE_N/A") is left out. `ViDoSeek-page-fixed` and `MMLongBench-page-fixed` are what
        the benchmark calls `ViDoSeek-page` and `MMLongBench-page`; scores that a file has beside these under the name
        of the list are of the older labels, and get a name that no list has.

        Raises:
            DataError: something is missing or out of range.
        """
        try:
            found = _Document.model_validate(document)
        except ValidationError as error:
            first, num_more = problems(error)[:_PROBLEMS_SHOWN], error.error_count() - _PROBLEMS_SHOWN
            more = f"; and {num_more} more problems" if num_more > 0 else ""
            raise DataError(f"{origin} is no score file: {'; '.join(first).replace('.shares.', '.')}{more}") from None
        about = found.metadata
        datasets: dict[str, dict[str, DatasetScores]] = {}
        for modality, of_modality in found.metrics.items():
            values = {name: one for name, one in of_modality.items() if one is not None}
            datasets[modality] = {
                name: DatasetScores(one.shares, one.num_data, about.dropped_frames.get(name, 0))
                for name, one in (_listed(values) if about.benchmark == _OWN else values).items()
            }
        return cls(about.model_name, about.report_generated_date, datasets, about.benchmark, about.limit, about.note)

    def as_document(self) -> dict[str, object]:
        """The JSON document of the published form.

        The benchmark is named in it unless it is MMEB-V2, and a limit, a note and dropped frames if there are such.
        """
        metadata = _Metadata.model_construct(
            model_name=self.model,
            report_generated_date=self.generated,
            benchmark=self.benchmark,
            limit=self.limit,
            note=self.note,
            # Not among a dataset's numbers: which keys others take there is not known.
            dropped_frames=self.dropped_frames,
        )
        return {
            "metadata": metadata.model_dump(exclude_defaults=True),
            "metrics": {
                modality: {
                    name: dict(one.metrics) | {"num_pred": one.num_queries, "num_data": one.num_queries}
                    for name, one in datasets.items()
                }
                for modality, datasets in self.datasets.items()
            },
        }

    @property
    def dropped_frames(self) -> dict[str, int]:
        """How many damaged frames were left out, by dataset; only of those in which there were some."""
        return {
            name: one.dropped_frames
            for datasets in self.datasets.values()
            for name, one in datasets.items()
            if one.dropped_frames
        }

    def score(self, task: TaskSpec, metric: str | None = None) -> float | None:
        """100 times the main metric of a dataset, or another one; None if the dataset has no scores."""
        found = self.datasets.get(task.modality, {}).get(task.name)
        return None if found is None else 100 * found.metrics[metric or task.metric]

    def means(self, tasks: Sequence[TaskSpec]) -> dict[str, Mean]:
        """Plain means over all datasets, over those of each modality and of each group, in the order of `tasks`.

        The overall score is the mean over all datasets, not over modalities. Datasets that `tasks` lacks do not count,
        and controls do not. Formula of the published MMEB-V2 averages.
        """
        tasks = [task for task in tasks if not task.control]
        modalities, groups = (task.modality for task in tasks), (task.group for task in tasks)
        members = {
            OVERALL: tasks,
            **{name: [task for task in tasks if task.modality == name] for name in dict.fromkeys(modalities)},
            **{name: [task for task in tasks if task.group == name] for name in dict.fromkeys(groups)},
        }
        means = {}
        for name, some in members.items():
            by_task = {task.name: self.score(task) for task in some}
            found = [score for score in by_task.values() if score is not None]
            missing = tuple(task for task, score in by_task.items() if score is None)
            means[name] = Mean(fmean(found) if found else None, len(found), missing)
        return means


@dataclass(frozen=True, slots=True)
class Mean:
    """A mean of dataset scores.

    Args:
        score: the mean times 100 over those datasets that have a score; None if none has. A report shows None also
            where so few have one that the mean would mislead.
        found: how many have one.
        missing: names of the datasets that have none, in the order of the benchmark's table.
    """

    score: float | None
    found: int
    missing: tuple[str, ...]


def read_scores(path: Path) -> ModelScores:
    """Read and check a score file of one model.

    Raises:
        DataError: there is no such file, it is no JSON, or something is missing or out of range; the message names
            file, dataset and metric.
    """
    return ModelScores.of_document(_read_document(path), str(path))


def read_score_list(path: Path) -> list[ModelScores]:
    """Read and check a score file of one model, or of several as `as_json` writes it.

    Raises:
        DataError: as `read_scores`.
    """
    document = _read_document(path)
    if not isinstance(document, list):
        return [ModelScores.of_document(document, str(path))]
    size = len(document)
    return [ModelScores.of_document(one, f"{path}, entry {place} of {size}") for place, one in enumerate(document, 1)]


def _read_document(path: Path) -> object:
    try:
        return load_json(path)
    except OSError as error:
        raise DataError(f"cannot read {path}: {reason(error)}; give a score file or a folder of them") from error
    except ValueError as error:
        raise DataError(f"{path} is no score file: not JSON in UTF-8 ({error})") from error


def write_scores(path: Path, scores: ModelScores) -> None:
    """Write one model's scores for submission; the folder is made if need be.

    Raises:
        StorageError: the file cannot be written.
    """
    with writing(path, "other_path"):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, as_json([scores]))


def as_json(models: Sequence[ModelScores]) -> str:
    """The text of a score file; of several models, a list of their documents."""
    documents = [scores.as_document() for scores in models]
    return json.dumps(documents[0] if len(documents) == 1 else documents, indent=4) + "\n"


class _Metadata(BaseModel, strict=True):
    model_name: Annotated[Text, Field(min_length=1)]
    report_generated_date: Annotated[str, Field(min_length=1)]
    benchmark: str = _OWN
    limit: PositiveInt | None = None
    note: Text | None = None
    dropped_frames: dict[str, PositiveInt] = {}


def _share(value: float) -> float:
    if not 0 <= value <= 1 + _ROUNDING:
        raise ValueError("not a number from 0 to 1")
    return value


class _Values(BaseModel, strict=True):
    """A dataset's metrics, as `shares`, and counts. Others may write more beside them."""

    shares: dict[str, Annotated[float, AfterValidator(_share)]]
    num_pred: PositiveInt
    num_data: PositiveInt

    @model_validator(mode="before")
    @classmethod
    def _parted(cls, values: object) -> object:
        if not isinstance(values, dict):
            return values
        if missing := [key for key in METRICS if key not in values]:
            raise ValueError(f"{', '.join(missing)} missing")
        return values | {"shares": {key: values[key] for key in METRICS}}

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.num_pred != self.num_data:
            raise ValueError(f"num_pred is {self.num_pred} but num_data is {self.num_data}; queries have no prediction")
        return self


def _unless_marked(values: object) -> object:
    """None in place of a mark that there are no scores."""
    if values is None:
        raise ValueError("null is not an object")
    return None if values in _NO_SCORES else values


class _Document(BaseModel, strict=True):
    metadata: _Metadata
    metrics: dict[Modality, dict[str, Annotated[_Values | None, BeforeValidator(_unless_marked)]]]

    @model_validator(mode="after")
    def _some(self) -> Self:
        if not any(one for datasets in self.metrics.values() for one in datasets.values()):
            raise ValueError("metrics holds no dataset with scores")
        return self


def _listed(datasets: Mapping[str, _Values]) -> dict[str, _Values]:
    """Datasets under the names of the benchmark's list."""
    fixed = {name: known for name, known in _RENAMED.items() if name in datasets}
    older = set(fixed.values()) & datasets.keys()
    return {fixed.get(name, f"{name}{_BEFORE}" if name in older else name): one for name, one in datasets.items()}
