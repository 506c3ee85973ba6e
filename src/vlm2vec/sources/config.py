"""Which data does a training run draw from? From the field `data` of its configuration to rows."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeAlias

import yaml

from vlm2vec.errors import ConfigError
from vlm2vec.sources.forms import FORMS, ORIGINS, SourceConfig, parse_source
from vlm2vec.text import did_you_mean

Fields: TypeAlias = Mapping[str, object]

_LOG = logging.getLogger("vlm2vec")
_PATHS = ("path", "annotation_file", "image_dir", "frame_dir")

_PUBLISHED_KEYS = {
    "weight": "weight",
    "dataset_parser": "parser",
    "dataset_name": "dataset",
    "subset_name": "config",
    "dataset_split": "split",
    "image_dir": "image_dir",
    "num_sample_per_subset": "max_rows",
    "dataset_path": "annotation_file",
    "video_frame_basedir": "frame_dir",
    "num_frames": "num_frames",
    "data_mode": "mode",
}
"""Keys of VLM2Vec's own YAML files, and the fields that they are here."""

_IDLE_KEYS = {"num_rows", "global_dataset_name"}
"""Keys that are accepted there and change nothing: a number that nothing reads, and a name for reports."""

_OF_A_DATA_SET = ("dataset_name", "subset_name", "dataset_split")
"""Keys that change nothing there beside `dataset_path`, which says all of where the rows are."""

_OTHER_KEYS = {"config_name": "the configuration of a data set for the parser 'docmatix'"}
"""Keys of parsers that VLM2Vec has and this package has not, and what they mean."""


def read_sources(data: str | Fields, root: Path | None, folder: Path) -> dict[str, SourceConfig]:
    """Check the field `data` of a configuration and make its paths absolute.

    Args:
        data: fields of `SourceConfig` by name of the source (an entry that says nothing of where its data are takes
            the fields of the packaged source of its name), or the name of a packaged mix, or the path of a YAML file
            as VLM2Vec's own training reads it.
        root: data_root, where published data lie; None: not set. Paths that go with `path` are relative to `folder`.
        folder: of the configuration.

    Raises:
        ConfigError: a source, field or value is unknown or missing; the message names it.
    """
    entries = _entries_of(data, folder) if isinstance(data, str) else _filled(data)
    return {name: _absolute(name, parse_source(name, fields), root, folder) for name, fields in entries.items()}


def _absolute(name: str, source: SourceConfig, root: Path | None, folder: Path) -> SourceConfig:
    base = root if source.path is None else folder
    paths: dict[str, Path] = {field: path for field in _PATHS if (path := getattr(source, field, None)) is not None}
    relative = [field for field, path in paths.items() if not path.is_absolute()]
    if base is None and relative:
        raise ConfigError(f"source {name!r}: {relative[0]} is relative to data_root, which is not set; set it")
    return source.model_copy(update={field: (base or folder) / path for field, path in paths.items()})


def _filled(data: Fields) -> dict[str, object]:
    """Entries, those without data with the fields of the packaged source of their name."""
    known, filled = _packaged()["sources"], {}
    for name, fields in data.items():
        if isinstance(fields, Mapping) and not any(fields.get(origin) is not None for origin in ORIGINS):
            if name not in known:
                raise ConfigError(
                    f"source {name!r} gives none of path, dataset and annotation_file, and no packaged source has that "
                    f"name{did_you_mean(name, known)}"
                )
            fields = {**known[name], **fields}
        filled[name] = fields
    return filled


def _entries_of(data: str, folder: Path) -> dict[str, object]:
    """Entries of a packaged mix or of a file in VLM2Vec's own form."""
    mixes, path = _packaged()["mixes"], folder / data
    if data in mixes:
        return _filled({name: {"weight": weight} for name, weight in mixes[data].items()})
    if not path.is_file():
        raise ConfigError(
            f"data {data!r} is neither a packaged mix ({', '.join(mixes)}) nor a file {path}{did_you_mean(data, mixes)}"
        )
    values = read_yaml(path)
    if not isinstance(values, dict) or not values or not all(isinstance(keys, dict) for keys in values.values()):
        raise ConfigError(f"{path} is not a mapping from names of data sets to their keys")
    # A name beside a path is in every published entry of videos, and nobody expects it to do anything.
    for key in ("num_rows", *_OF_A_DATA_SET[1:]):
        idle = [str(name) for name, keys in values.items() if key in keys and (key == "num_rows" or _is_file(keys))]
        if idle:
            _LOG.warning("%s: %s of %s has no effect, as published", path, key, ", ".join(idle))
    return {str(name): _translated(f"{path}: {name!r}", keys) for name, keys in values.items()}


def _translated(where: str, keys: Fields) -> dict[str, object]:
    for key in keys:
        if key in _OTHER_KEYS:
            raise ConfigError(
                f"{where}: the key {key!r} is {_OTHER_KEYS[str(key)]}, which is not among the parsers here: "
                f"{', '.join(FORMS)}"
            )
        if key not in _PUBLISHED_KEYS and key not in _IDLE_KEYS:
            raise ConfigError(f"{where}: unknown key {key!r}{did_you_mean(str(key), _PUBLISHED_KEYS)}")
    for key in ("weight", "dataset_parser"):
        if key not in keys:
            raise ConfigError(f"{where}: the key {key!r} is missing")
    idle = _OF_A_DATA_SET if _is_file(keys) else ()
    fields = {field: keys[key] for key, field in _PUBLISHED_KEYS.items() if key in keys and key not in idle}
    if fields["parser"] == "mmeb":
        fields.setdefault("split", "original")
    return fields


def _is_file(keys: Fields) -> bool:
    """Whether the rows of a published entry lie in a file and not in a data set of the hub."""
    return keys.get("dataset_path") is not None


@cache
def _packaged() -> Mapping[str, Mapping[str, Fields]]:
    """`sources`: fields by name of the source; `mixes`: weights by name of the source, by name of the mix."""
    return MappingProxyType(yaml.safe_load(Path(__file__).with_name("train_v2.yaml").read_text("utf-8")))


def read_yaml(path: Path) -> object:
    """The content of a file.

    Raises:
        ConfigError: it is missing or no YAML, or a mapping in it has a key twice, of which PyYAML would keep the last.
    """
    try:
        return yaml.load(path.read_text("utf-8"), _EachKeyOnce)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from None
    except RecursionError:
        raise ConfigError(f"{path} is not valid YAML: its brackets lie too deep in one another") from None
    # All but the first: for values that look like dates or numbers and are none, such as 2024-13-45 and "!!bool 5".
    except (yaml.YAMLError, ValueError, ArithmeticError, LookupError, AttributeError, TypeError) as error:
        raise ConfigError(f"{path} is not valid YAML: {error}") from None


class _EachKeyOnce(yaml.SafeLoader):
    # Before "<<" brings in keys that may stand again beside it.
    def compose_mapping_node(self, anchor: dict[Any, yaml.Node]) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen = set[str]()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    problem = f"the key {key.value!r} stands twice"
                    raise yaml.MarkedYAMLError(problem=problem, problem_mark=key.start_mark)
                seen.add(key.value)
        return node
