"""How good is a model on a benchmark? Reads each task, embeds what is new, ranks, measures, writes it down."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeAlias, Unpack, runtime_checkable

import numpy as np

from vlm2vec.errors import ConfigError, Hint, ModelError, VLM2VecError
from vlm2vec.evaluation.run_folder import RunFolder, RunSettings
from vlm2vec.evaluation.scores import DatasetScores, ModelScores
from vlm2vec.evaluation.scoring import Ranking, TaskEmbedder
from vlm2vec.fetching.annotations import fetch_table
from vlm2vec.items import ItemLike
from vlm2vec.media.source import describe
from vlm2vec.model.backbone import Ask, Output, Vectors
from vlm2vec.model.similarity import Precision, check_form, to_int8
from vlm2vec.processes import Alone, Processes
from vlm2vec.tasks.data import DataWarning, TaskData, TaskSpec
from vlm2vec.tasks.registry import packaged_root, parse_task
from vlm2vec.vectors.job import Encoder, Flush, NamedEncoder
from vlm2vec.vectors.metrics import chance_metrics, mean_metrics
from vlm2vec.vectors.store import TokenStore, VectorStore

if TYPE_CHECKING:
    from vlm2vec.model.embedder import Embedder
    from vlm2vec.model.pipeline import PipelineOptions

_Stream: TypeAlias = Generator[tuple[int, Vectors | VLM2VecError], None, None]
"""As of `Embedder.stream`."""


@dataclass(frozen=True, slots=True)
class TaskScore:
    """A task that has been measured.

    Args:
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
    """The scores that lie in a run's folder at its end, and why a task has none, by its name."""

    scores: ModelScores
    failures: Mapping[str, VLM2VecError]


class TaskProgress(NamedTuple):
    """How far a run is: tasks done, all tasks, the task at hand, its items done, all its items."""

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
    flush: Flush = Flush(),
    on_progress: Callable[[TaskProgress], None] = lambda progress: None,
    on_score: Callable[[TaskScore], None] = lambda score: None,
) -> Evaluation:
    """Measure a model on tasks of one benchmark; scores, rankings, examples and vectors go to `out` (see `RunFolder`).

    Vectors are stored under everything that made them, so that a killed run continues where it was, and what occurs in
    several tasks is embedded once. A task that fails is named in the result and keeps no earlier score, and the others
    are measured. Several runs of the same settings may write to one folder at once, each its own tasks.

    Args:
        tasks: of one benchmark (`get_tasks`).
        out: several processes share it.
        root: the data root (docs/benchmark_data.md); None: the benchmark's own data in this package.
        limit: only the first so many queries of each task.
        download: ask the hub for annotations that are not under `root`.
        late_interaction: rank by the vectors of tokens; of a model that has a token head.
        strict: a task with a damaged frame in one of its videos fails; without it the frame is left out, as published,
            and counted in the warnings of the task and in the score file.
        allow_outside: rows may name files outside of the data root (`parse_task`).
        processes: those that share the embedding; None: there is one. All return the same.
        flush: how many vectors a kill may cost.
        on_progress: called now and then.
        on_score: called after each task that has been measured, in the first process.

    Raises:
        ConfigError: tasks, data, limit or settings do not fit one another, the model, or the scores that `out` holds.
        StorageError, DataError, BusyError: `out` cannot be written, is damaged, or is held by another run.
    """
    processes = processes or Alone()
    benchmark, root = data_place(tasks, root, limit=limit, download=download)
    encoder = _token_vectors(embedder) if late_interaction else embedder
    settings = RunSettings(
        benchmark=benchmark,
        model=embedder.name,
        fingerprint=embedder.fingerprint,
        limit=limit,
        root=None if root == packaged_root(benchmark) else str(root.resolve()),
        late_interaction=late_interaction,
    )
    folder, store = _open(out, settings, encoder.dim, processes)
    fetch = partial(fetch_table, root=root) if download else None
    parse = partial(parse_task, root=root, limit=limit, fetch=fetch, allow_outside=allow_outside)
    shared = TaskEmbedder(encoder, store, processes, flush=flush)
    run = _Run(folder, shared, parse, strict, len(tasks), on_progress)
    failures: dict[str, VLM2VecError] = {}
    # With several processes only what all of them learn of can be passed over.
    recoverable = Exception if processes.size == 1 else VLM2VecError
    for number, task in enumerate(tasks):
        try:
            score = run.measure(number, task)
        except recoverable as error:
            told = error if isinstance(error, VLM2VecError) else VLM2VecError(f"{type(error).__name__}: {error}")
            failures[task.name] = told
            continue
        if score is not None:
            on_score(score)
    return processes.in_first(lambda: Evaluation(folder.scores(), failures))


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
            f"the data of {benchmarks[0]} are not in this package", "other_data", Hint("download", benchmarks[0])
        )
    # An error of all tasks must not cost those that have a score theirs.
    if not root.is_dir() and not download:
        raise ConfigError(f"there is no folder {root} with the data of {benchmarks[0]}", "other_data")
    if limit is not None and limit < 1:
        raise ConfigError(f"limit is {limit}: ask at least one query of each task")
    return benchmarks[0], root


class SmallerVectors:
    """A model whose vectors have been cut to their first dimensions, or rounded to int8.

    Its vectors are float32 of length one, whatever the checkpoint says of length: int8 keeps none, so that all are
    compared by their cosine.

    Args:
        dim: dimensions that are kept; None: all.

    Raises:
        InputError: the model has fewer dimensions, or there is no such precision.
    """

    def __init__(self, embedder: Embedder, *, dim: int | None = None, precision: Precision = "float32") -> None:
        check_form(dim, embedder.dim, precision, name="dim")
        self._embedder = embedder
        self._precision = precision
        self.dim = dim or embedder.dim
        said = f"{self.dim} dimensions, {precision}"
        self.name = f"{embedder.name} ({said})"
        # Never the key of a vector as it was.
        self.fingerprint = f"{embedder.fingerprint} {said}"

    def stream(self, items: Iterable[ItemLike], ask: Ask = Ask(), **options: Unpack[PipelineOptions]) -> _Stream:
        """As `Embedder.stream`, with vectors of length one in any case."""
        options["truncate_dim"], options["normalize_embeddings"] = self.dim, True
        for position, vector in self._embedder.stream(items, ask, **options):
            if self._precision == "int8" and not isinstance(vector, VLM2VecError):
                rounded = to_int8(vector).astype(np.float32)
                vector = rounded / np.linalg.norm(rounded)
            yield position, vector


@runtime_checkable
class _TokenEncoder(Encoder, Protocol):
    """A model that gives a vector for every token too."""

    @property
    def token_dim(self) -> int: ...

    def stream(
        self,
        items: Iterable[ItemLike],
        ask: Ask = Ask(),
        *,
        output: Output = "pooled",
        **options: Unpack[PipelineOptions],
    ) -> _Stream: ...


class _TokenVectors:
    """The token vectors of a model, asked for as single ones are; for a `TokenStore`.

    Raises:
        ModelError: the model has no token head.
    """

    def __init__(self, embedder: _TokenEncoder) -> None:
        self.dim = embedder.token_dim
        # Never the key of a single vector.
        self.fingerprint = f"{embedder.fingerprint} tokens"
        self._embedder = embedder

    def stream(self, items: Iterable[ItemLike], ask: Ask = Ask(), **options: Unpack[PipelineOptions]) -> _Stream:
        """As `Embedder.stream`, with vectors [tokens, E]."""
        return self._embedder.stream(items, ask, output="tokens", **options)


@dataclass(frozen=True)
class _Run:
    """The parts that all tasks of a run share."""

    folder: RunFolder
    embedder: TaskEmbedder
    parse: Callable[[TaskSpec], TaskData]
    strict: bool
    num_tasks: int
    on_progress: Callable[[TaskProgress], None]

    def measure(self, number: int, task: TaskSpec) -> TaskScore | None:
        """Measure the task of this number and write its results down; None in all but the first process.

        Raises:
            VLM2VecError: the task cannot be read, embedded or written.
        """

        def on_progress(items_done: int, num_items: int) -> None:
            self.on_progress(TaskProgress(number, self.num_tasks, task, items_done, num_items))

        def read() -> TaskData:
            # Before it is read, so that a task which cannot be read has no score of an earlier run any more.
            if self.embedder.processes.rank == 0:
                self.folder.drop(task)
            return self.parse(task)

        on_progress(0, 0)
        data = self.embedder.processes.agree(read)
        ranking = self.embedder.rank_task(task.name, data, strict=self.strict, on_progress=on_progress)
        if ranking is None:
            return None
        score = _measured(task, data, ranking)
        self.folder.keep(task, data, ranking, score.scores)
        return score


def _token_vectors(embedder: NamedEncoder) -> _TokenVectors:
    advice = "train one with loss.token_dim"
    try:
        if isinstance(embedder, _TokenEncoder):
            return _TokenVectors(embedder)
    except ModelError as error:
        reason = f"{embedder.name} has no token head, and so no vectors of tokens; {advice}"
        raise ConfigError(reason, "single_vectors") from error
    raise ConfigError(f"{embedder.name} gives no vectors of tokens; give another model: {advice}", "single_vectors")


def _open(
    out: Path, settings: RunSettings, dim: int, processes: Processes
) -> tuple[RunFolder, VectorStore | TokenStore]:
    """The folder of results, which the first process claims for all, and the store of vectors in it."""
    fingerprints = processes.gather(settings.fingerprint)
    if len(set(fingerprints)) > 1:
        raise ConfigError(
            f"the processes have loaded models of different fingerprints ({', '.join(fingerprints)}): give all of them "
            "the same files, the same kind of device and the same dtype"
        )
    folder = processes.in_first(lambda: RunFolder.claim(out, settings))
    opened = TokenStore if settings.late_interaction else VectorStore
    return folder, processes.agree(lambda: opened.open(out / "vectors", dim))


def _measured(task: TaskSpec, data: TaskData, ranking: Ranking) -> TaskScore:
    num_dropped, warnings = len(ranking.dropped), data.warnings
    if num_dropped:
        first = describe(next(iter(ranking.dropped)))
        warnings += (DataWarning(task.name, "a damaged frame of a video is left out", "", first, num_dropped),)
    scores = DatasetScores(mean_metrics(ranking.per_query), len(data.queries), num_dropped)
    chance = chance_metrics(data.candidate_names, [data.relevant[query] for query in data.query_ids], data.pools)
    return TaskScore(task, scores, chance[task.metric], len(data.candidate_names), warnings)
