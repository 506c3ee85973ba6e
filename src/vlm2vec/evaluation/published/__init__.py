"""What did the eight models of the MMEB-V2 publication score? Its own score files; README.md says whence."""

from __future__ import annotations

import json
import zipfile
from dataclasses import replace
from pathlib import Path

from vlm2vec.errors import ConfigError
from vlm2vec.evaluation.scores import ModelScores, as_scores

VERSIONS = ("v2.0.0", "v2.0.1", "v2.1")


def read_published(version: str | None = None) -> list[ModelScores]:
    """The eight models' scores in the order of their names.

    Args:
        version: one of `VERSIONS`, as it was published. None gives the newest, v2.1, whole: the two datasets that it
            lacks, ViDoSeek-doc and MMLongBench-doc, are taken from v2.0.1.

    Raises:
        ConfigError: there is no such version.
    """
    if version is None:
        older = {scores.model: scores for scores in read_published("v2.0.1")}
        return [_completed(scores, older[scores.model]) for scores in read_published("v2.1")]
    if version not in VERSIONS:
        raise ConfigError(f"no published version {version!r}; there are {', '.join(VERSIONS)}")
    with zipfile.ZipFile(Path(__file__).with_name(f"{version}.zip")) as archive:
        return [as_scores(json.loads(archive.read(name)), name) for name in sorted(archive.namelist())]


def _completed(scores: ModelScores, older: ModelScores) -> ModelScores:
    """The scores, with those datasets of the older ones that they lack."""
    datasets = {modality: {**older.datasets[modality], **scores.datasets[modality]} for modality in older.datasets}
    return replace(scores, datasets=datasets)
