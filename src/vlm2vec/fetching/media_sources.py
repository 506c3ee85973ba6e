"""From where on the hub does a missing picture or video come?"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict

from vlm2vec.data.tables import TableName


class MediaSource(BaseModel):
    """Where the media under one folder of the data root come from.

    Args:
        prefix: the folder.
        benchmarks: whose media they are; empty: of all.
        repo: data set on the hub; None: they are put there by hand.
        archive: file in it, or what the names of its numbered parts begin with.
        rewrite: regular expressions and replacements that turn a path in the archive into one under the prefix.
        by_hand: what has to be put there.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    prefix: str
    benchmarks: tuple[str, ...] = ()
    repo: str | None = None
    archive: str = ""
    rewrite: tuple[tuple[str, str], ...] = ()
    by_hand: str = ""

    def place(self, inner: str) -> str:
        """The path under the data root at which a member of the archive belongs."""
        for pattern, replacement in self.rewrite:
            inner = re.sub(pattern, replacement, inner)
        return f"{self.prefix}/{inner}"

    def is_archive(self, path: str) -> bool:
        """Whether a file of the data set is the archive or one of its numbered parts."""
        return re.fullmatch(re.escape(self.archive) + r"([-.](part)?-?[0-9]+)?", path) is not None


def media_source(benchmark: str, path: str) -> MediaSource | None:
    """The source of a path under the data root, or for what lies under it; None if none is known."""
    sources = [source for source in _packaged().sources if not source.benchmarks or benchmark in source.benchmarks]
    around = [source for source in sources if f"{path}/".startswith(f"{source.prefix}/")]
    within = [source for source in sources if source.benchmarks and source.prefix.startswith(f"{path}/")]
    return max(around or within, key=lambda source: len(source.prefix), default=None)


def annotation_file(table: TableName) -> str | None:
    """The file of its data set that a table is, where it is no configuration of it."""
    pattern = _packaged().files.get(table.dataset)
    return None if pattern is None else pattern.format(config=table.config, split=table.split)


class _Packaged(BaseModel):
    sources: tuple[MediaSource, ...]
    files: dict[str, str]


@cache
def _packaged() -> _Packaged:
    return _Packaged.model_validate(yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text("utf-8")))
