"""How good is a model on a benchmark? Reads each task, embeds what is new, ranks, measures, writes it down."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from vlm2vec.errors import ConfigError, VLM2VecError
from vlm2vec.evaluation.examples import pick_examples, task_file, write_examples
from vlm2vec.evaluation.scores import MODALITIES, SCORES, DatasetScores, ModelScores, read_scores, write_scores
from vlm2vec.evaluation.scoring import Ranking, chance, score_task
from vlm2vec.tasks.data import DataWarning, TaskData, TaskSpec
from vlm2vec.tasks.registry import get_tasks, packaged_root, parse_task
from vlm2vec.vectors.encoding import Alone, Encoder, Processes, raise_first
from vlm2vec.vectors.metrics import mean_metrics
from vlm2vec.vectors.store import VectorStore, atomic_writer

_RUN = "run.json"


class NamedEncoder(Encoder, Protocol):
    """What is asked of a model here; `Embedder` has it."""

    @property
    def name(self) -> str: ...


@dataclass(frozen=True, slots=True)
class TaskScore:
    """What became of one task.

    Args:
        task: which.
        scores: its metrics, as shares of 1.
        chance: the main metric of a random order, as a share of 1.
        num_candidates: of the whole task.
        warnings: oddities of its data that were read as published.
    """

    task: TaskSpec
    scores: DatasetScores
    chance: float
    num_candidates: int
    warnings: tuple[DataWarning, ...]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What a run has found: the scores that lie in its folder now, and why a task has none, by the task's name."""

    scores: ModelScores
    failures: Mapping[str, str]


class Progress(NamedTuple):
    """Where a run is: tasks that are done, all tasks, the one at hand, its items that are done, all its items."""

    tasks_done: int
    num_tasks: int
    task: TaskSpec
    items_done: int
    num_items: int


def evaluate(
    embedder: NamedEncoder,
    tasks: Sequence[TaskSpec],
    *,
    out: Path,
    root: Path | None = None,
    limit: int | None = None,
    download: bool = False,
    processes: Processes | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    on_score: Callable[[TaskScore], None] | None = None,
) -> Evaluation:
    """Measure a model on tasks of one benchmark.

    Vectors are stored under everything that made them, so that a killed run goes on where it was, and what occurs in
    several tasks is embedded once. A task that fails is named in the result, and the others go on. Written to `out`:

        scores.json         the score file, of all tasks measured there with this model and these settings
        predictions/        for each query of a task its ten best candidates
        examples/           for each task its best and worst queries with thumbnails, for the report's page
        vectors/            what was embedded; may be deleted
        run.json            the settings that all of this holds for

    Args:
        embedder: the model.
        tasks: of one benchmark (`get_tasks`).
        out: the folder for all that is written; several processes share it.
        root: the data root (docs/benchmark_data.md); None: the benchmark's own data in this package.
        limit: only the first so many queries of each task.
        download: ask the hub for annotations that are not under `root`.
        processes: those that share the embedding; None: there is one. All return the same.
        on_progress: called now and then.
        on_score: called after each task that has been measured, in the first process.

    Raises:
        ConfigError: there are no tasks or they are of several benchmarks, the benchmark has no data in this package,
            or `out` cannot be written or holds the scores of another model or other settings.
    """
    processes = processes or Alone()
    benchmark, root = _place(tasks, root)
    failed: VLM2VecError | None = None
    known: dict[str, DatasetScores] = {}
    try:
        known = _open_run(out, _Settings(benchmark, embedder.name, embedder.fingerprint, limit))
        store = VectorStore.open(out / "vectors", embedder.dim)
    except VLM2VecError as error:
        failed = error
    raise_first(failed, processes)
    failures: dict[str, str] = {}
    # With several processes only what all of them learn of can be passed over.
    recoverable = Exception if processes.size == 1 else VLM2VecError
    for number, task in enumerate(tasks):

        def report(done: int, total: int, number: int = number, task: TaskSpec = task) -> None:
            if on_progress is not None:
                on_progress(Progress(number, len(tasks), task, done, total))

        report(0, 0)
        known.pop(task.name, None)
        try:
            data = _parse(task, root, limit=limit, download=download, processes=processes)
            ranking = score_task(embedder, task.name, data, store=store, processes=processes, on_progress=report)
            if ranking is not None:
                score = _measured(task, data, ranking)
                _write_task(out, task, data, ranking)
                known[task.name] = score.scores
                _write(out, benchmark, embedder.name, known, limit)
                if on_score is not None:
                    on_score(score)
        except recoverable as error:
            unexpected = "" if isinstance(error, VLM2VecError) else f"{type(error).__name__}: "
            failures[task.name] = f"{unexpected}{error}"
    known, failures = processes.gather((known, failures))[0]
    if processes.rank == 0:
        _write(out, benchmark, embedder.name, known, limit)
    return Evaluation(_model_scores(benchmark, embedder.name, known, limit), failures)


def _place(tasks: Sequence[TaskSpec], root: Path | None) -> tuple[str, Path]:
    benchmarks = sorted({task.benchmark for task in tasks})
    if len(benchmarks) != 1:
        raise ConfigError(f"a run measures tasks of one benchmark; these are of: {', '.join(benchmarks) or 'none'}")
    root = packaged_root(benchmarks[0]) if root is None else root
    if root is None:
        raise ConfigError(
            f"the data of {benchmarks[0]} are not in this package: say where they are with --data; "
            f"'vlm2vec data download {benchmarks[0]} --data FOLDER' fetches them"
        )
    return benchmarks[0], root


class _Settings(NamedTuple):
    """What two runs must have in common to share a folder."""

    benchmark: str
    model: str
    fingerprint: str
    limit: int | None


def _open_run(out: Path, settings: _Settings) -> dict[str, DatasetScores]:
    """Claim a folder for these settings; what was measured there with them before."""
    path = out / _RUN
    try:
        out.mkdir(parents=True, exist_ok=True)
        if path.is_file():
            earlier = json.loads(path.read_text("utf-8"))
            for name, value in settings._asdict().items():
                if earlier.get(name) != value:
                    raise ConfigError(
                        f"{out} holds an evaluation with {name} {json.dumps(earlier.get(name))}, not "
                        f"{json.dumps(value)}; give another folder with --out"
                    )
        else:
            with atomic_writer(path) as stream:
                stream.write(json.dumps(settings._asdict(), indent=1).encode("ascii") + b"\n")
    except (OSError, ValueError, AttributeError) as error:
        raise ConfigError(f"cannot use {out} for an evaluation: {error}; give another folder with --out") from error
    if not (out / SCORES).is_file():
        return {}
    return {name: one for datasets in read_scores(out / SCORES).datasets.values() for name, one in datasets.items()}


def _parse(task: TaskSpec, root: Path, *, limit: int | None, download: bool, processes: Processes) -> TaskData:
    failed: VLM2VecError | None = None
    data: TaskData | None = None
    try:
        data = parse_task(task, root, limit=limit, download=download)
    except VLM2VecError as error:
        failed = error
    raise_first(failed, processes)
    assert data is not None
    return data


def _measured(task: TaskSpec, data: TaskData, ranking: Ranking) -> TaskScore:
    scores = DatasetScores(mean_metrics(ranking.per_query), len(data.queries))
    return TaskScore(task, scores, chance(data)[task.metric], len(data.candidate_names), data.warnings)


def _write_task(out: Path, task: TaskSpec, data: TaskData, ranking: Ranking) -> None:
    names = data.candidate_names
    lines = []
    for query, places, scores in zip(data.query_ids, ranking.indices, ranking.scores, strict=True):
        best = [
            # Nothing has the score of a candidate that is empty.
            [names[place], round(float(score), 6) if np.isfinite(score) else None]
            for place, score in zip(places, scores, strict=True)
            if place >= 0
        ]
        lines.append(json.dumps({"query": query, "ranked": best, "relevant": dict(data.relevant[query])}) + "\n")
    folder = out / "predictions"
    try:
        folder.mkdir(exist_ok=True)
        with atomic_writer(task_file(folder, task.name, ".jsonl")) as stream:
            stream.write("".join(lines).encode("ascii"))
    except OSError as error:
        raise ConfigError(
            f"cannot write to {folder}: {error.strerror}; free some space or give another --out"
        ) from error
    examples = pick_examples(task.name, data, ranking.indices, ranking.scores, ranking.per_query, task.metric)
    write_examples(out / "examples", task.name, examples)


def _write(out: Path, benchmark: str, model: str, known: Mapping[str, DatasetScores], limit: int | None) -> None:
    if known:
        write_scores(out / SCORES, _model_scores(benchmark, model, known, limit))


def _model_scores(benchmark: str, model: str, known: Mapping[str, DatasetScores], limit: int | None) -> ModelScores:
    """Scores in the order of the benchmark's table."""
    tasks = get_tasks(benchmark)
    return ModelScores(
        model=model,
        generated=datetime.now(UTC).isoformat(timespec="seconds"),
        datasets={
            modality: {
                task.name: known[task.name] for task in tasks if task.modality == modality and task.name in known
            }
            for modality in MODALITIES
        },
        benchmark=benchmark,
        limit=limit,
    )
