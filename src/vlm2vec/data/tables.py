"""Where do the rows of a data set lie, and what is in row 7? Rows are read one by one, never all at once."""

from __future__ import annotations

import errno
import glob
import os
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, ClassVar, NamedTuple, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from vlm2vec.documents import load_json, parse_json
from vlm2vec.errors import Action, ConfigError, DataError, Hint, StorageError
from vlm2vec.extras import require
from vlm2vec.text import shortened

if TYPE_CHECKING:
    import pyarrow
    from datasets import Dataset

_SCAN_ROWS = 10_000
_BATCH_ROWS = 1_000


class Table(Protocol):
    """Rows as they are stored: pictures stay undecoded (`{"bytes": ..., "path": ...}` in a column of pictures).

    A table can be pickled, and used from several processes at once.
    """

    @property
    def columns(self) -> tuple[str, ...] | None:
        """Of every row; None where each row may have its own."""

    def __len__(self) -> int: ...

    def __getitem__(self, row: int, /) -> dict[str, object]:
        """Read one row.

        Raises:
            DataError: it cannot be read; the message begins with its name.
        """

    def name(self, row: int, /) -> str:
        """Which row it is, for messages."""

    def scan(self, columns: Sequence[str]) -> Iterator[dict[str, object] | None]:
        """All rows in order with at least these columns, without reading the others where that costs something.

        A row that cannot be read is None.
        """


@dataclass(frozen=True, slots=True, eq=False)
class JsonLines:
    """A file of one JSON object a line; blank lines do not count.

    Args:
        path: the file. It is opened for each row, so that no process inherits a handle.
        starts: int64 [rows], byte at which each row begins.
        lines: int64 [rows], its line, counted from 1.
    """

    path: Path
    starts: NDArray[np.int64]
    lines: NDArray[np.int64]

    @classmethod
    def open(cls, path: Path) -> JsonLines:
        """Find the lines of a file. Only a line feed ends one: JSON strings may hold other separators as they are.

        Raises:
            DataError: the file cannot be read.
        """
        starts, lines, offset = array("q"), array("q"), 0
        try:
            with path.open("rb") as stream:
                for number, line in enumerate(stream, 1):
                    if not line.isspace():
                        starts.append(offset)
                        lines.append(number)
                    offset += len(line)
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error}") from None
        return cls(path, np.array(starts, dtype=np.int64), np.array(lines, dtype=np.int64))

    columns: ClassVar[None] = None

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, row: int, /) -> dict[str, object]:
        try:
            with self.path.open("rb") as stream:
                return self._read(stream, row)
        except OSError as error:
            raise DataError(f"{self.name(row)} cannot be read: {error}") from None

    def name(self, row: int, /) -> str:
        return f"{self.path}:{self.lines[row]}"

    def scan(self, columns: Sequence[str]) -> Iterator[dict[str, object] | None]:
        with self.path.open("rb") as stream:
            for row in range(len(self)):
                try:
                    yield self._read(stream, row)
                except DataError:
                    yield None

    def _read(self, stream: BinaryIO, row: int) -> dict[str, object]:
        stream.seek(int(self.starts[row]))
        try:
            values = parse_json(stream.readline())
        except ValueError as error:
            raise DataError(f"{self.name(row)} is not JSON: {error}") from None
        if not isinstance(values, dict):
            raise DataError(f"{self.name(row)} is not a JSON object but {str(values)[:80]!r}")
        return values


@dataclass(frozen=True, slots=True, eq=False)
class _ArrowTable:
    """A memory-mapped data set of the library `datasets`.

    `origin` is its name in messages. No column of `data` is decoded, in the format "arrow".
    """

    origin: str
    data: Dataset

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(self.data.column_names)

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, row: int, /) -> dict[str, object]:
        values: dict[str, object] = self.data[row].to_pylist()[0]
        return values

    def name(self, row: int, /) -> str:
        return f"{self.origin} row {row}"

    def scan(self, columns: Sequence[str]) -> Iterator[dict[str, object] | None]:
        for part in self.data.select_columns(list(columns)).iter(batch_size=_SCAN_ROWS):
            yield from part.to_pylist()


def open_table(path: Path, split: str | None = None) -> Table:
    """Open a `.jsonl` or `.parquet` file, a folder of parquet files, or a folder that `datasets` saved.

    Parquet does not give single rows quickly, so `datasets` first copies it, once, to its cache folder as Arrow.

    `split` is the part of a folder that a `DatasetDict` saved, and may be left out if it holds one only.

    Raises:
        DataError: there is nothing that can be read; ConfigError: `split` names none of its parts.
    """
    splits = path / "dataset_dict.json"
    # Not `Path.is_file`, which raises of a name that is too long.
    if os.path.isfile(splits):
        return open_table(path / _split_of(splits, split))
    if split is not None:
        raise ConfigError(f"{path} has no splits, so 'split' ({split!r}) says nothing; leave it out")
    if path.suffix == ".jsonl" and os.path.isfile(path):
        return JsonLines.open(path)
    require("evaluate", "datasets", "pyarrow")
    from datasets import Dataset, load_from_disk

    if os.path.isfile(path / "state.json"):
        return load_arrow(str(path), lambda: load_from_disk(str(path)))
    shards = sorted(path.glob("*.parquet")) if os.path.isdir(path) else [path] if path.suffix == ".parquet" else []
    if not shards:
        raise DataError(
            f"{path} is not data that can be read: give a .jsonl or .parquet file, a folder of .parquet files, or a "
            "folder written by save_to_disk of the library datasets"
        )
    filled, options = _readable(path, shards)
    # The library takes names as patterns.
    names = [glob.escape(str(shard)) for shard in filled]
    return load_arrow(str(path), lambda: Dataset.from_parquet(names, **options), why=lambda: _fault(filled))


class TableName(NamedTuple):
    """A published table by the names that the hub gives it; `config` None is the default configuration."""

    dataset: str
    config: str | None
    split: str

    def __str__(self) -> str:
        return f"{self.dataset} (config {self.config or 'default'}, split {self.split})"

    def places(self, root: Path) -> list[Path]:
        """Where it may lie in a mirror: ROOT/annotations/<dataset, / as __>/<config or default>/<split>, the last part
        as a `.parquet` file, a `.jsonl` file, or a folder as `open_table` takes it.
        """
        folder = root / "annotations" / self.dataset.replace("/", "__") / (self.config or "default")
        return [folder / f"{self.split}.parquet", folder / f"{self.split}.jsonl", folder / self.split]

    def found(self, root: Path) -> Path | None:
        """The first of its places at which something is."""
        return next((place for place in self.places(root) if place.exists()), None)

    def open(
        self, root: Path | None, *hints: Hint | Action, fetch: FetchTable | None = None, remedy: str = ""
    ) -> Table:
        """Open it from the mirror.

        Args:
            root: the mirror; None: there is none.
            hints, remedy: what to do if the table is nowhere, for the message.
            fetch: is asked for a table that the mirror lacks; None: that is an error.

        Raises:
            DataError: the table is neither here nor may be asked for, or it cannot be read.
        """
        place = None if root is None else self.found(root)
        if place is not None:
            return open_table(place)
        if fetch is not None:
            return fetch(self)
        places = "" if root is None else ", ".join(map(str, self.places(root)))
        looked = f"there is none of {places}" if places else "data_root, its mirror, is not set"
        raise DataError(f"{self} is not here: {looked}{remedy and '; ' + remedy}", *hints)


FetchTable: TypeAlias = Callable[[TableName], Table]
"""Opens a table that the mirror lacks, from wherever it can be got."""


def load_arrow(origin: str, load: Callable[[], Dataset], why: Callable[[], str | None] = lambda: None) -> Table:
    """The table of a data set that `load` gets from the library `datasets`; `origin` is its name in messages.

    If that fails, `why` looks for a better reason than the library's own.

    Raises:
        DataError: it cannot be read; StorageError: there is no room for its copy as Arrow.
    """
    from datasets.exceptions import DatasetsError

    try:
        return _ArrowTable(origin, load().with_format("arrow"))
    except (OSError, ValueError, DatasetsError) as error:
        # The library's own error may only say that there was one.
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        number = cause.errno if isinstance(cause, OSError) else None
        # What the system refuses, such as a full disk, it says itself.
        reason = (why() if number is None else None) or _said(cause)
        failed = StorageError if number == errno.ENOSPC else DataError
        raise failed(f"{origin} cannot be read: {reason}") from None


def _readable(path: Path, shards: Sequence[Path]) -> tuple[list[Path], dict[str, int]]:
    """The shards that hold rows, and the options with which `datasets` can read them.

    It takes the number of rows in a shard's first group as the size of its batches, which must not be 0.
    """
    import pyarrow
    import pyarrow.parquet

    filled, options = list[Path](), dict[str, int]()
    for shard in shards:
        try:
            metadata = pyarrow.parquet.read_metadata(shard)
        except (OSError, ValueError, pyarrow.ArrowException) as error:
            raise DataError(f"{shard} cannot be read: {_said(error)}; check that the file is there and whole") from None
        if metadata.num_rows:
            filled.append(shard)
            if not metadata.row_group(0).num_rows:
                options = {"batch_size": _BATCH_ROWS}
    if not filled:
        what = "it" if list(shards) == [path] else f"each of its {len(shards)} parquet files"
        raise DataError(f"{path} holds no row: {what} is a table of no rows")
    return filled, options


def _fault(shards: Sequence[Path]) -> str | None:
    """Which shard has other columns than the first one, or is damaged; None if it is neither."""
    import pyarrow
    import pyarrow.parquet

    first, *others = (pyarrow.parquet.read_schema(shard) for shard in shards)
    for shard, schema in zip(shards[1:], others, strict=True):
        if not schema.equals(first):
            return (
                f"{shard.name} has the columns {_columns(schema)}, {shards[0].name} has {_columns(first)}; all files "
                "of a folder must have the same"
            )
    for shard in shards:
        try:
            with pyarrow.parquet.ParquetFile(shard) as file:
                for _ in file.iter_batches(_BATCH_ROWS):
                    pass
        except (OSError, ValueError, pyarrow.ArrowException) as error:
            return f"{shard.name} is damaged ({_said(error)}); fetch or write it again"
    return None


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def _columns(schema: pyarrow.Schema) -> str:
    return ", ".join(f"{field.name} ({field.type})" for field in schema) or "(none)"


def _split_of(listing: Path, split: str | None) -> str:
    try:
        listed = load_json(listing)
    except (OSError, ValueError) as error:
        raise DataError(f"{listing} does not list splits: {error}") from None
    names = listed.get("splits") if isinstance(listed, dict) else None
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise DataError(f"{listing} does not list splits: 'splits' must be a list of names, and is {shortened(names)}")
    wanted = names[0] if split is None and len(names) == 1 else split
    if wanted is None or wanted not in names:
        known = ", ".join(names)
        raise ConfigError(f"{listing.parent} holds the splits {known}; 'split' is {split!r}: name one of them")
    return wanted
