"""What do the parsers of benchmark tasks share? Rows, the media under the data root, and the lists that they fill."""

from __future__ import annotations

import os.path
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Protocol

from vlm2vec.data.records import Columns, check_inside
from vlm2vec.data.tables import FetchTable, Table
from vlm2vec.errors import DataError, Hint, MediaError, VLM2VecError
from vlm2vec.extras import require
from vlm2vec.items import FRAME_SUFFIXES, MEDIA_MARKER, Image, Item, Video
from vlm2vec.media import DEFAULT_LIMITS, frame_indices
from vlm2vec.media.video import frame_order, frame_paths
from vlm2vec.tasks.data import DataWarning, TaskData, TaskSpec

PACK = "media.parquet"
"""A data root that holds this file has all its pictures and frames in it."""

# In a folder of files a .webp may be a whole animation; in a pack it is what was packed.
_PACKED_FRAMES = FRAME_SUFFIXES | {".webp"}


def plain(text: str) -> Item:
    """A candidate that is a text and nothing else."""
    return Item(text, (), "", text)


@dataclass(frozen=True, slots=True)
class TaskRow(Columns):
    """One row of annotations.

    Args:
        name: of the row; the origin names its task too.
        position: how many rows are before it in its table.
    """

    name: str = ""
    position: int = 0


@dataclass(eq=False)
class TaskReader:
    """Opens the annotations of one task and collects what its parser makes of them.

    Its arguments are those of `parse_task`.
    """

    spec: TaskSpec
    root: Path
    limit: int | None
    fetch: FetchTable | None
    media: TaskMedia
    allow_outside: bool
    _queries: list[Item] = field(default_factory=list)
    _relevant: dict[str, dict[str, int]] = field(default_factory=dict)
    _pools: list[tuple[str, ...]] = field(default_factory=list)
    _candidates: dict[str, Item] = field(default_factory=dict)
    _names: dict[str, str] = field(default_factory=dict)
    _warnings: dict[tuple[str, str], DataWarning] = field(default_factory=dict)
    _videos: dict[str, Video] = field(default_factory=dict)

    @property
    def full(self) -> bool:
        """Whether no more queries are wanted."""
        return any(most is not None and len(self._queries) >= most for most in (self.limit, self.spec.max_rows))

    def open(self, config: str | None = None, split: str | None = None) -> Table:
        """The table of a configuration and split, else of the task's own."""
        own = self.spec.source
        name = own._replace(config=config or own.config, split=split or own.split)
        return name.open(self.root, Hint("download", self.spec.benchmark), fetch=self.fetch)

    def rows(self, config: str | None = None) -> Iterator[TaskRow]:
        """The rows that become queries."""
        table = self.open(config)
        for number in range(len(table)):
            if self.full:
                return
            yield self._row(table, number, table[number])

    def scan(self, table: Table, columns: Sequence[str]) -> Iterator[TaskRow]:
        """All rows, without reading other columns where that costs something."""
        if lacking := [column for column in columns if table.columns is not None and column not in table.columns]:
            raise DataError(f"{self.spec.name}: {table.name(0)}: column {lacking[0]!r} is missing")
        for number, values in enumerate(table.scan(columns)):
            # A row that cannot be read says why when it is read alone.
            yield self._row(table, number, table[number] if values is None else values)

    def picture(self, row: TaskRow, column: str, path: str) -> Image:
        """A picture under the media folder, with its pixels as stored.

        Raises:
            DataError: it lies outside of the data root, which is not allowed; MediaError: there is no such file.
        """
        if not path:
            raise row.wrong(column, "is empty: it must name a picture")
        place = self._place(path)
        try:
            self.check(self.root / place)
            return Image(self.media.picture(place), as_stored=True)
        except DataError as error:
            raise error.of(f"{row.origin}: column {column!r} names {path!r}") from None
        except MediaError as error:
            raise error.of(f"{row.origin}: column {column!r}") from None

    def has_picture(self, path: str) -> bool:
        """Whether anything is in a picture's place under the media folder."""
        return self.media.has_picture(self._place(path))

    def video(self, row: TaskRow, folder: str, wanted: int | None, *, needed: int = 1) -> Video:
        """The frames that stand for the video in a folder under the media folder, by the published rule.

        Args:
            wanted: how many frames; None: all.
            needed: with fewer frames than this it is an error.

        Raises:
            DataError: it lies outside of the data root, which is not allowed; MediaError: the folder is missing or
                holds too few frames.
        """
        place = self._place(folder)
        if place not in self._videos:
            try:
                self.check(self.root / place)
                frames = self.media.frames(place)
                if len(frames) < needed:
                    raise MediaError(f"{place} holds {len(frames)} frames: {needed} are needed")
                picks = range(len(frames)) if wanted is None else frame_indices(len(frames), wanted)
                picked = tuple(frames[pick] for pick in picks)
                for frame in picked:
                    if isinstance(frame, Path):
                        self.check(frame)
            except VLM2VecError as error:
                raise error.of(row.origin) from None
            self._videos[place] = Video(picked, as_stored=True)
        return self._videos[place]

    def check(self, path: Path) -> None:
        """Refuse a path outside of the data root, unless that is allowed; a folder of it may be a link to elsewhere.

        Raises:
            DataError: it lies there.
        """
        if not self.allow_outside:
            folders = (self.root, self.root / self.spec.media_dir) if self.spec.media_dir else (self.root,)
            check_inside(path, folders, "allow_outside")

    def folders(self, folder: str) -> list[str]:
        """Names of the folders in a folder under the media folder, sorted; none if it is missing."""
        return self.media.folders(self._place(folder))

    def candidate(
        self, row: TaskRow, column: str, name: str, item: Item | str, make: Callable[[str], Item] = plain
    ) -> str:
        """Put a candidate on the list, unless its name is on it; the first of a name counts, as published.

        Args:
            row, column: which list it, for messages.
            item: the candidate, or its whole published string, of which `make` makes it if it is wanted.

        Returns:
            The name, as one object however often it occurs.
        """
        name = self._names.setdefault(name, name)
        known, verbatim = self._candidates.get(name), item if isinstance(item, str) else item.verbatim or ""
        if known is None:
            self._candidates[name] = make(item) if isinstance(item, str) else item
        elif known.verbatim != verbatim:
            self.warn(row, column, "two candidates of one name differ; the first one is taken")
        if not verbatim:
            self.warn(row, column, "a candidate is empty; it ranks last")
        return name

    def query(
        self,
        row: TaskRow,
        item: Item,
        labels: Iterable[str] | Mapping[str, int],
        *,
        pool: Sequence[str] | None = None,
        column: str = "",
        name: str | None = None,
    ) -> None:
        """Take a query.

        Args:
            labels: names of the right candidates, or their grades.
            pool: names of the candidates that are ranked for it; None: all.
            column: which lists them, for messages.
            name: its id; None: its number.
        """
        relevant = dict(labels) if isinstance(labels, Mapping) else dict.fromkeys(labels, 1)
        if not relevant:
            self.warn(row, column, "a query has no right candidate")
        if pool is not None:
            listed = set(pool)
            if not relevant.keys() <= listed:
                self.warn(row, column, "the label is not among the candidates, so that no answer is right")
            if len(listed) < len(pool):
                self.warn(row, column, "a candidate is listed twice; as a label it counts once")
            self._pools.append(tuple(pool))
        key = str(len(self._queries)) if name is None else name
        if key in self._relevant:
            self.warn(row, column, "a query id occurs twice; the later one gets its number behind it")
            key = f"{key}#{len(self._queries)}"
        self._queries.append(item)
        self._relevant[key] = relevant

    def warn(self, row: TaskRow, column: str, problem: str) -> None:
        """Count an oddity that is no error."""
        first = DataWarning(self.spec.name, problem, column, row.name, 0)
        known = self._warnings.get((problem, column), first)
        self._warnings[problem, column] = replace(known, count=known.count + 1)

    def data(self, candidates: tuple[Sequence[str], Sequence[Item]] | None = None) -> TaskData:
        """Everything that was collected; `candidates` replaces the collected names and items.

        Raises:
            DataError: there is no query.
        """
        if not self._queries:
            raise DataError(f"{self.spec.name}: its annotations hold no row")
        names, items = candidates or (tuple(self._candidates), tuple(self._candidates.values()))
        return TaskData(
            query_ids=tuple(self._relevant),
            queries=tuple(self._queries),
            candidate_names=tuple(names),
            candidates=items,
            empty=frozenset(name for name, item in self._candidates.items() if not item.media and not item.verbatim),
            relevant=self._relevant,
            pools=tuple(self._pools) if self.spec.pool == "local" else None,
            warnings=tuple(self._warnings.values()),
        )

    def _row(self, table: Table, number: int, values: Mapping[str, object]) -> TaskRow:
        name = table.name(number)
        return TaskRow(values, f"{self.spec.name}: {name}", name, number)

    def _place(self, path: str) -> str:
        return f"{self.spec.media_dir}/{path}" if self.spec.media_dir and not os.path.isabs(path) else path


def composed(instruction: str, text: str = "", medium: Image | Video | None = None) -> Item:
    """Write an item down by the rule of most published parsers: medium, instruction, text, with one space between.

    An empty text takes its space with it.
    """
    whole = f"{instruction} {text}" if text else instruction
    if medium is None:
        return Item(text.strip(), (), instruction.strip(), whole)
    return Item(text.strip(), (medium,), instruction.strip(), f"{MEDIA_MARKER} {whole}")


class TaskMedia(Protocol):
    """Pictures and frames by their paths under the data root, with "/" between the parts."""

    def picture(self, path: str) -> Path | bytes:
        """A picture; if there is none that is a MediaError."""

    def has_picture(self, path: str) -> bool:
        """Whether anything is there, which `picture` then gives or refuses."""

    def frames(self, folder: str) -> Sequence[Path | bytes]:
        """The frames in a folder, in natural order of their names; if there are none that is a MediaError."""

    def folders(self, folder: str) -> list[str]:
        """Names of the folders in a folder, sorted; none if it is missing."""


def open_media(root: Path) -> TaskMedia:
    """The media under a data root."""
    pack = root / PACK
    return _MediaPack(pack) if pack.is_file() else _MediaFolder(root)


@dataclass(frozen=True, slots=True)
class _MediaFolder:
    """Media as files under a data root."""

    root: Path

    def picture(self, path: str) -> Path:
        file = self.root / path
        if not file.is_file():
            problem = "is a folder, not a picture" if file.is_dir() else "is not there; put the task's media in place"
            raise MediaError(f"{file} {problem}")
        return file

    def has_picture(self, path: str) -> bool:
        return (self.root / path).exists()

    def frames(self, folder: str) -> list[Path]:
        return frame_paths(self.root / folder, DEFAULT_LIMITS)

    def folders(self, folder: str) -> list[str]:
        place = self.root / folder
        return sorted(path.name for path in place.iterdir() if path.is_dir()) if place.is_dir() else []


class _MediaPack:
    """Media in a parquet file with the columns `path` (text) and `bytes`; it is held in memory, so it should be small.

    Raises:
        DataError: the file cannot be read or lacks a column.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._files = _read_pack(path)
        self._frames: dict[str, list[str]] = {}
        self._folders: dict[str, set[str]] = {}
        for name in self._files:
            file = PurePosixPath(name)
            if file.suffix.lower() in _PACKED_FRAMES:
                self._frames.setdefault(str(file.parent), []).append(name)
            for folder in file.parents:
                self._folders.setdefault(str(folder.parent), set()).add(folder.name)

    def picture(self, path: str) -> bytes:
        if path not in self._files:
            raise MediaError(f"{self._path} holds no file {path}")
        return self._files[path]

    def has_picture(self, path: str) -> bool:
        return path in self._files

    def frames(self, folder: str) -> list[bytes]:
        names = self._frames.get(folder)
        if not names:
            raise MediaError(f"{self._path} holds no frames in {folder}")
        return [self._files[name] for name in sorted(names, key=lambda name: frame_order(PurePosixPath(name).name))]

    def folders(self, folder: str) -> list[str]:
        return sorted(self._folders.get(folder, set()))


def _read_pack(path: Path) -> Mapping[str, bytes]:
    require("evaluate", "pyarrow")
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(path, columns=["path", "bytes"])
    except (OSError, ValueError, pyarrow.ArrowException) as error:
        raise DataError(f"{path} cannot be read as a pack of media: {error}") from None
    if table.column_names != ["path", "bytes"]:
        raise DataError(f"{path} has the columns {table.column_names}; a pack of media has 'path' and 'bytes'")
    return dict(zip(table["path"].to_pylist(), table["bytes"].to_pylist(), strict=True))
