"""Which tasks does a benchmark have, and how is one of them read?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from vlm2vec.data.tables import FetchTable, TableName
from vlm2vec.errors import ConfigError, Hint
from vlm2vec.tasks import document, image, video
from vlm2vec.tasks.data import TaskData, TaskSpec
from vlm2vec.tasks.reading import TaskMedia, TaskReader, open_media
from vlm2vec.text import did_you_mean

_BENCHMARKS = ("mmeb-v2", "mmeb-v1", "mmeb-mini", "m-beir", "retrieval")
"""Each has a packaged table of its name."""

_PARSERS = {**image.PARSERS, **video.PARSERS, **document.PARSERS}


def get_tasks(
    benchmark: str = "mmeb-v2",
    *,
    names: Iterable[str] | None = None,
    modality: str | None = None,
    group: str | None = None,
) -> list[TaskSpec]:
    """The tasks of a benchmark in the order of its table, or those of them that all conditions hold for.

    A modality is "image", "video" or "visdoc", a group such as "I-CLS".

    Raises:
        ConfigError: a name is unknown (the message suggests one), or no task is left.
    """
    if benchmark not in _BENCHMARKS:
        raise ConfigError(
            f"no benchmark named {benchmark!r}{did_you_mean(benchmark, _BENCHMARKS) or ';'} {_all(_BENCHMARKS)}"
        )
    tasks = _table(benchmark)
    wanted = tasks.keys() if names is None else set(names)
    if unknown := sorted(wanted - tasks.keys()):
        hint = did_you_mean(unknown[0], tasks)
        raise ConfigError(f"no task of {benchmark} is named {unknown[0]!r}{hint}", Hint("list_tasks", benchmark))
    for word, value, known in (
        ("modality", modality, [spec.modality for spec in tasks.values()]),
        ("group", group, [spec.group for spec in tasks.values()]),
    ):
        if value is not None and value not in known:
            raise ConfigError(f"no {word} named {value!r}{did_you_mean(value, known) or ';'} {_all(known)}")
    chosen = [
        spec
        for spec in tasks.values()
        if spec.name in wanted and modality in (None, spec.modality) and group in (None, spec.group)
    ]
    if not chosen:
        raise ConfigError(f"no task of {benchmark} fits names, modality and group together; leave one of them out")
    return chosen


def parse_task(
    spec: TaskSpec,
    root: Path,
    *,
    limit: int | None = None,
    fetch: FetchTable | None = None,
    media: TaskMedia | None = None,
    allow_outside: bool = False,
) -> TaskData:
    """Read the annotations of a task.

    Args:
        root: the data root: annotations lie in its mirror (see `TableName`), media under `spec.media_dir`.
        limit: only the first so many queries. Candidates that queries bring along are then fewer; those of a corpus or
            a packaged list are all there.
        fetch: opens annotations that are not in the mirror (`vlm2vec.fetching.annotations.fetch_table`); None: that
            they are missing is an error.
        media: where pictures and frames are; None: under the data root.
        allow_outside: rows may name files outside of the data root and the task's media folder, by absolute paths, by
            ".." or by links.

    Raises:
        ConfigError: `limit` is below 1.
        DataError: annotations are missing or malformed; the message names task, row and column.
        MediaError: a picture or frames are missing; the message names task, row and file.
    """
    if limit is not None and limit < 1:
        raise ConfigError(f"limit is {limit}: it must be at least 1 query")
    return spec.parser.parse(TaskReader(spec, root, limit, fetch, media or open_media(root), allow_outside))


def packaged_root(benchmark: str) -> Path | None:
    """The data root of a benchmark whose data are part of this package; None if they are not."""
    root = Path(__file__).parents[1] / benchmark.replace("-", "_")
    return root if root.is_dir() else None


@cache
def _table(benchmark: str) -> Mapping[str, TaskSpec]:
    path = Path(__file__).with_name(f"{benchmark.replace('-', '_')}.yaml")
    table = yaml.safe_load(path.read_text("utf-8"))
    return {name: _spec(benchmark, name, table["families"], row) for name, row in table["tasks"].items()}


def _spec(benchmark: str, name: str, families: Mapping[str, dict[str, Any]], row: dict[str, Any]) -> TaskSpec:
    merged = families[row["family"]] | {key: value for key, value in row.items() if key != "family"}
    values = {key: _fixed(value, name) for key, value in merged.items()}
    source = TableName(values.pop("dataset"), values.pop("config", None), values.pop("split"))
    parser = _PARSERS[values.pop("parser")]
    own = {field: values.pop(field) for field in TaskSpec.__dataclass_fields__ if field in values}
    return TaskSpec(name=name, benchmark=benchmark, source=source, parser=parser(**values), **own)


def _fixed(value: Any, name: str) -> Any:
    """A value of a table as a field of a task, which must not change."""
    if isinstance(value, str):
        return value.replace("{name}", name)
    return tuple(value) if isinstance(value, list) else value


def _all(known: Iterable[str]) -> str:
    return f"there are: {', '.join(dict.fromkeys(known))}"
