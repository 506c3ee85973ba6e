"""How good is a model on a benchmark? Reads each task, embeds what is new, ranks, measures, writes it down."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple, Protocol, cast

from vlm2vec.errors import ConfigError, MediaError, ModelError, VLM2VecError
from vlm2vec.evaluation.run_folder import RunFolder, RunSettings
from vlm2vec.evaluation.scores import DatasetScores, ModelScores
from vlm2vec.evaluation.scoring import FrameDropper, Ranking, chance, score_task
from vlm2vec.fetching.annotations import fetch_table
from vlm2vec.media.source import describe
from vlm2vec.processes import Alone, Processes, agree, in_first
from vlm2vec.tasks.data import DataWarning, TaskData, TaskSpec
from vlm2vec.tasks.registry import packaged_root, parse_task
from vlm2vec.vectors.encoding import Encoder, TokenEncoder, TokenVectors
from vlm2vec.vectors.metrics import mean_metrics
from vlm2vec.vectors.store import VectorStore
from vlm2vec.vectors.token_store import TokenStore


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
        warnings: oddities of its data that were read as published, damaged frames among them.
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
    late_interaction: bool = False,
    strict: bool = False,
    allow_outside: bool = False,
    processes: Processes | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    on_score: Callable[[TaskScore], None] | None = None,
) -> Evaluation:
    """Measure a model on tasks of one benchmark.

    Vectors are stored under everything that made them, so that a killed run goes on where it was, and what occurs in
    several tasks is embedded once. A task that fails is named in the result and keeps no earlier score, and the others
    go on. Several runs of the same settings may write to one folder at once, each its own tasks. Written to `out`:

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
        late_interaction: rank by the vectors of tokens; of a model that has a token head.
        strict: a task with a damaged frame in one of its videos fails; else the frame is left out, as published, and
            counted in the warnings of the task and in the score file.
        allow_outside: rows may name files outside of the data root (`parse_task`).
        processes: those that share the embedding; None: there is one. All return the same.
        on_progress: called now and then.
        on_score: called after each task that has been measured, in the first process.

    Raises:
        ConfigError: there are no tasks or they are of several benchmarks, the benchmark has no data in this package,
            `root` is no folder and nothing is to be asked for, `limit` is below 1, the model gives no vectors of
            tokens for late interaction, or `out` cannot be written or holds the scores
            of another model, other data or other settings.
    """
    processes = processes or Alone()
    benchmark, root = data_place(tasks, root, limit=limit, download=download)
    encoder = _token_vectors(embedder) if late_interaction else embedder
    settings = RunSettings(
        benchmark,
        embedder.name,
        embedder.fingerprint,
        limit,
        None if root == packaged_root(benchmark) else str(root.resolve()),
        late_interaction,
    )
    folder, store = _open(out, settings, encoder, processes)
    failures: dict[str, str] = {}
    # With several processes only what all of them learn of can be passed over.
    recoverable = Exception if processes.size == 1 else VLM2VecError
    for number, task in enumerate(tasks):

        def report(done: int, total: int, number: int = number, task: TaskSpec = task) -> None:
            if on_progress is not None:
                on_progress(Progress(number, len(tasks), task, done, total))

        report(0, 0)
        score: TaskScore | None = None
        try:
            data = _parse(
                task, root, folder, limit=limit, download=download, allow_outside=allow_outside, processes=processes
            )
            dropper = FrameDropper()
            ranking = score_task(
                encoder, task.name, data, store=store, processes=processes, on_progress=report, dropper=dropper
            )
            if strict and dropper.reasons:
                raise MediaError(f"{_count(dropper)}: {'; '.join(dropper.reasons.values())}")
            if ranking is not None:
                score = _measured(task, data, ranking, dropper)
                folder.keep(task, data, ranking, score.scores)
        except recoverable as error:
            unexpected = "" if isinstance(error, VLM2VecError) else f"{type(error).__name__}: "
            failures[task.name] = f"{unexpected}{error}"
            continue
        if score is not None and on_score is not None:
            on_score(score)
    return in_first(lambda: Evaluation(folder.scores(), failures), processes)


def data_place(tasks: Sequence[TaskSpec], root: Path | None, *, limit: int | None, download: bool) -> tuple[str, Path]:
    """The benchmark of some tasks and where its data lie, with all checked that can be before a model is loaded.

    Args:
        tasks, root, limit, download: as for `evaluate`.

    Raises:
        ConfigError: as `evaluate` says of tasks, data and limit.
    """
    benchmarks = sorted({task.benchmark for task in tasks})
    if len(benchmarks) != 1:
        raise ConfigError(f"a run measures tasks of one benchmark; these are of: {', '.join(benchmarks) or 'none'}")
    root = packaged_root(benchmarks[0]) if root is None else root
    if root is None:
        raise ConfigError(
            f"the data of {benchmarks[0]} are not in this package: say where they are with --data; "
            f"'vlm2vec data download {benchmarks[0]} --data FOLDER' fetches them"
        )
    # What is wrong with all tasks must not cost those that have a score theirs.
    if not root.is_dir() and not download:
        raise ConfigError(f"there is no folder {root} with the data of {benchmarks[0]}; give another with --data")
    if limit is not None and limit < 1:
        raise ConfigError(f"limit is {limit}: ask at least one query of each task")
    return benchmarks[0], root


def _token_vectors(embedder: NamedEncoder) -> TokenVectors:
    hint = "train one with loss.token_dim, or rank single vectors: leave out --late-interaction"
    if not hasattr(embedder, "stream_tokens"):
        raise ConfigError(f"{embedder.name} gives no vectors of tokens; give another model: {hint}")
    try:
        return TokenVectors(cast(TokenEncoder, embedder))
    except ModelError as error:
        raise ConfigError(f"{embedder.name} has no token head, and so no vectors of tokens; {hint}") from error


def _open(
    out: Path, settings: RunSettings, encoder: Encoder, processes: Processes
) -> tuple[RunFolder, VectorStore | TokenStore]:
    """The folder of results, which the first process claims for all, and the store of vectors in it."""
    fingerprints = processes.gather(settings.fingerprint)
    if len(set(fingerprints)) > 1:
        raise ConfigError(
            f"the processes have loaded models of different fingerprints ({', '.join(fingerprints)}): give all of them "
            "the same files, the same kind of device, and --dtype"
        )
    folder = in_first(lambda: RunFolder.claim(out, settings), processes)
    opened = TokenStore if settings.late_interaction else VectorStore
    return folder, agree(lambda: opened.open(out / "vectors", encoder.dim), processes)


def _parse(
    task: TaskSpec,
    root: Path,
    folder: RunFolder,
    *,
    limit: int | None,
    download: bool,
    allow_outside: bool,
    processes: Processes,
) -> TaskData:
    """A task that has been read, and has no score of an earlier run any more."""

    def parse() -> TaskData:
        if processes.rank == 0:
            folder.drop(task)
        fetch = partial(fetch_table, root=root) if download else None
        return parse_task(task, root, limit=limit, fetch=fetch, allow_outside=allow_outside)

    return agree(parse, processes)


def _measured(task: TaskSpec, data: TaskData, ranking: Ranking, dropper: FrameDropper) -> TaskScore:
    num_dropped, warnings = len(dropper.reasons), data.warnings
    if num_dropped:
        first = describe(next(iter(dropper.reasons)))
        warnings += (DataWarning(task.name, "a damaged frame of a video is left out", "", first, num_dropped),)
    scores = DatasetScores(mean_metrics(ranking.per_query), len(data.queries), num_dropped)
    return TaskScore(task, scores, chance(data)[task.metric], len(data.candidate_names), warnings)


def _count(dropper: FrameDropper) -> str:
    count = len(dropper.reasons)
    return f"{count:,} frame{'' if count == 1 else 's'} of its videos {'is' if count == 1 else 'are'} damaged"
