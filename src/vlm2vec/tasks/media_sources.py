"""From where on the hub does a missing picture or video come?"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml


@dataclass(frozen=True, slots=True)
class MediaSource:
    """Where the media under one folder of the data root come from.

    Args:
        prefix: the folder.
        benchmarks: whose media they are; empty: of all.
        repo: data set on the hub; None: they are put there by hand.
        archive: file in it, or what the names of its numbered parts begin with.
        rewrite: regular expressions and replacements that turn a path in the archive into one under the prefix.
        by_hand: what has to be put there.
    """

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
    sources = [source for source in _sources() if not source.benchmarks or benchmark in source.benchmarks]
    around = [source for source in sources if f"{path}/".startswith(f"{source.prefix}/")]
    within = [source for source in sources if source.benchmarks and source.prefix.startswith(f"{path}/")]
    return max(around or within, key=lambda source: len(source.prefix), default=None)


def annotation_file(dataset: str, config: str | None, split: str) -> str | None:
    """The file that annotations are in a data set, where they are no configuration of it."""
    pattern = _table()["files"].get(dataset)
    return None if pattern is None else str(pattern.format(config=config, split=split))


@cache
def _sources() -> tuple[MediaSource, ...]:
    return tuple(
        MediaSource(
            prefix=row["prefix"],
            benchmarks=tuple(row.get("benchmarks", ())),
            repo=row.get("repo"),
            archive=row.get("archive", ""),
            rewrite=tuple((pattern, replacement) for pattern, replacement in row.get("rewrite", ())),
            by_hand=row.get("by_hand", ""),
        )
        for row in _table()["sources"]
    )


@cache
def _table() -> Mapping[str, Any]:
    table: Mapping[str, Any] = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text("utf-8"))
    return table
