"""Which data does a training run draw from? From the field `data` of its configuration to rows."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from functools import cache, partial
from itertools import islice
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    field_validator,
    model_validator,
)

from vlm2vec.data.records import Pair, PairRows
from vlm2vec.data.tables import Table, open_mirrored, open_table
from vlm2vec.data.yaml_files import read_yaml
from vlm2vec.errors import ConfigError
from vlm2vec.tasks.training import PARSERS, PUBLISHED_FRAMES, Mode, Options, Parser
from vlm2vec.text import did_you_mean

Fields: TypeAlias = Mapping[str, object]

_OPTIONS = ("image_dir", "frame_dir", "num_frames", "mode", "query_to_page", "placeholder_first")
_ORIGINS = ("path", "dataset", "annotation_file")
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


class SourceConfig(BaseModel):
    """One source of a mixture.

    Args:
        weight: share of the mixture, in any unit; with stages one for each.
        path: own data, as `open_table` takes them.
        dataset, config, split: data as on the hub, from the mirror in data_root. `split` is "train" if left out; with
            `path` it names a split of a saved `DatasetDict`.
        annotation_file: a file in data_root.
        download: get `dataset` from the hub if the mirror does not have it.
        parser: what form the rows have; own data in the forms `pairs` and `columns` say it themselves.
        max_rows: take the first so many rows.
        image_dir, frame_dir, num_frames, mode, query_to_page, placeholder_first: see `Options`.
        allow_outside: rows may name files outside of the folders that their paths are relative to: by absolute paths,
            by "..", or by links.
        temperature: of the loss for rows of this source; None: the loss's own.
        max_pixels: of a picture or frame of this source, where that is less than what `inputs` allow: large ones only
            where they must be read.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    weight: float | tuple[float, ...] = 1.0
    path: Path | None = None
    dataset: str | None = None
    config: str | None = None
    split: str | None = None
    annotation_file: Path | None = None
    download: bool = False
    parser: Literal["pairs", "columns", "mmeb", "vidore", "visrag", "llavahound_caption", "llavahound_qa"] | None = None
    max_rows: PositiveInt | None = None
    image_dir: Path | None = None
    frame_dir: Path | None = None
    num_frames: PositiveInt | None = None
    mode: Mode | None = None
    query_to_page: bool = False
    placeholder_first: bool = False
    allow_outside: bool = False
    temperature: PositiveFloat | None = None
    max_pixels: PositiveInt | None = None

    @field_validator("weight")
    @classmethod
    def _some_weight(cls, weight: float | tuple[float, ...]) -> float | tuple[float, ...]:
        stages = weight if isinstance(weight, tuple) else (weight,)
        if not all(0 <= one < math.inf for one in stages) or not any(stages):
            raise ValueError("a weight must be above 0, and of the weights of stages at least one")
        return weight

    @model_validator(mode="after")
    def _fits(self) -> SourceConfig:
        given = [field for field in _ORIGINS if getattr(self, field) is not None]
        if len(given) != 1:
            raise ValueError(f"give one of path, dataset and annotation_file, not {' and '.join(given) or 'none'}")
        if self.dataset is None and (self.config is not None or self.download):
            raise ValueError("'config' and 'download' belong to 'dataset', which is not given")
        if self.annotation_file is not None and self.split is not None:
            raise ValueError("'split' does not belong to 'annotation_file', which is one file")
        if self.parser is not None:
            self.check_options(self.parser)
        elif self.path is None:
            raise ValueError(f"give 'parser', one of {', '.join(PARSERS)}")
        return self

    def check_options(self, name: str) -> None:
        """Refuse an option that the parser does not use, or the lack of one that it needs.

        Raises:
            ValueError: the message names the option.
        """
        parser = PARSERS[name]
        for option in _OPTIONS:
            # Fields that a configuration holds at their default say nothing.
            given = getattr(self, option) not in (None, False)
            if given and option not in parser.uses:
                uses = f"uses {', '.join(sorted(parser.uses))}" if parser.uses else "has no options"
                raise ValueError(f"{option!r} has no effect with parser {name!r}, which {uses}; leave it out")
            if not given and option in parser.needs:
                raise ValueError(f"parser {name!r} needs {option!r}")


def packaged_mixes() -> Mapping[str, Mapping[str, float]]:
    """Weights by source of each mix that this package knows by name."""
    return _packaged().mixes


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
    return {name: _absolute(name, _checked(name, fields), root, folder) for name, fields in entries.items()}


def open_source(name: str, source: SourceConfig, root: Path | None) -> Sequence[Pair]:
    """Open the rows of a source, without reading more of them than which are no pairs.

    Args:
        name: for messages.
        source: with absolute paths, as `read_sources` gives them.
        root: data_root, where the mirror lies.

    Returns:
        Pairs, each read when it is asked for; a row that cannot be read is a ConfigError then.

    Raises:
        ConfigError: the data are missing or empty, or of another form than the parser takes.
    """
    try:
        table, folder = _table(source, root)
        if not len(table):
            raise ConfigError("the data hold no row")
        form = source.parser or _form(table)
        source.check_options(form)
        return _rows(name, table, folder, PARSERS[form], source)
    except (ConfigError, ValueError) as error:
        raise ConfigError(f"source {name!r}: {error}") from None


def _rows(name: str, table: Table, folder: Path, parser: Parser, source: SourceConfig) -> PairRows:
    missing = [column for column in parser.columns if table.columns is not None and column not in table.columns]
    if missing:
        raise ConfigError(f"the rows have no column {missing[0]!r}, only {', '.join(table.columns or ())}")
    options = Options(
        folder=folder,
        image_dir=source.image_dir or folder,
        frame_dir=source.frame_dir or folder,
        num_frames=source.num_frames or PUBLISHED_FRAMES,
        mode=source.mode,
        query_to_page=source.query_to_page,
        placeholder_first=source.placeholder_first,
        allow_outside=source.allow_outside,
    )
    parse = partial(parser.parse, options=options)
    count = min(len(table), source.max_rows or len(table))
    if parser.keeps is None:
        return PairRows(table, parse, range(count))
    # What cannot be judged is kept, to be told when it is read.
    rows = islice(table.scan(parser.columns), count)
    kept = np.flatnonzero([not row or not set(row) >= set(parser.columns) or parser.keeps(row) for row in rows])
    if not len(kept):
        raise ConfigError(f"none of {count} rows has a text or a picture on both sides")
    if len(kept) < count:
        warnings.warn(
            f"source {name!r}: {count - len(kept):,} of {count:,} rows have nothing on one side and are left out, as "
            "published",
            stacklevel=3,
        )
    return PairRows(table, parse, kept)


def _table(source: SourceConfig, root: Path | None) -> tuple[Table, Path]:
    """The table, and the folder that paths in it are relative to."""
    if source.dataset is not None:
        split = source.split or "train"
        table = open_mirrored(root, source.dataset, source.config, split, download=source.download)
        return table, root or Path()
    path = source.path or source.annotation_file
    assert path is not None
    return open_table(path, source.split), path if path.is_dir() else path.parent


def _form(table: Table) -> str:
    """The form that own data say they have."""
    columns = table.columns or tuple(table[0])
    for form in ("pairs", "columns"):
        if set(PARSERS[form].columns) <= set(columns):
            return form
    raise ConfigError(
        f"the rows hold {', '.join(columns) or 'nothing'}: they need 'query' and 'positive', or 'anchor' and "
        f"'positive', or a 'parser', one of {', '.join(PARSERS)}"
    )


def _checked(name: str, fields: object) -> SourceConfig:
    try:
        return SourceConfig.model_validate(fields)
    except ValidationError as error:
        problems: dict[str, str] = {}
        for found in error.errors():
            field = str(found["loc"][0]) if found["loc"] else ""
            hint = did_you_mean(field, SourceConfig.model_fields) if found["type"] == "extra_forbidden" else ""
            # A union tells every way in which the value is wrong; the first is enough.
            problems.setdefault(field, f"{field and field + ': '}{found['msg'].removeprefix('Value error, ')}{hint}")
        raise ConfigError(f"source {name!r}: {'; '.join(problems.values())}") from None


def _absolute(name: str, source: SourceConfig, root: Path | None, folder: Path) -> SourceConfig:
    base = root if source.path is None else folder
    paths = {field: getattr(source, field) for field in _PATHS if getattr(source, field) is not None}
    relative = [field for field, path in paths.items() if not path.is_absolute()]
    if base is None and relative:
        raise ConfigError(f"source {name!r}: {relative[0]} is relative to data_root, which is not set; set it")
    return source.model_copy(update={field: (base or folder) / path for field, path in paths.items()})


def _filled(data: Fields) -> dict[str, object]:
    """Entries, those without data with the fields of the packaged source of their name."""
    known, filled = _packaged().sources, {}
    for name, fields in data.items():
        if isinstance(fields, Mapping) and not any(fields.get(origin) is not None for origin in _ORIGINS):
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
    mixes, path = packaged_mixes(), folder / data
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
            warnings.warn(f"{path}: {key} of {', '.join(idle)} has no effect, as published", stacklevel=3)
    return {str(name): _translated(f"{path}: {name!r}", keys) for name, keys in values.items()}


def _translated(where: str, keys: Fields) -> dict[str, object]:
    for key in keys:
        if key in _OTHER_KEYS:
            raise ConfigError(
                f"{where}: the key {key!r} is {_OTHER_KEYS[str(key)]}, which is not among the parsers here: "
                f"{', '.join(PARSERS)}"
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


class _Packaged(NamedTuple):
    sources: Mapping[str, Fields]
    mixes: Mapping[str, Mapping[str, float]]


@cache
def _packaged() -> _Packaged:
    table = yaml.safe_load(Path(__file__).with_name("train_v2.yaml").read_text("utf-8"))
    return _Packaged(table["sources"], table["mixes"])
