"""What does an index of LanceDB's say of itself and of its files, and do these still hold what was written?"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self, TypeAlias

from pydantic import AfterValidator, BaseModel, Field, ValidationError

from vlm2vec.documents import load_json, problems
from vlm2vec.files import content_hash
from vlm2vec.search.store import IndexInfo, Look
from vlm2vec.search.stores.place import DRAFT, INFO, TABLE, Place

CHECKSUMS, FAILURES, BACKGROUND = "checksums.json", "failures.json", "background-{}.json"
"""Notes beside the table, no part of it: the checksums of its files, files that could not be read, and a background."""

_FORMAT = 2
_MOST_DIMENSIONS = 1 << 20
# LanceDB writes it anew with every commit. If it lies, the version that is opened tells.
_HINT = "_versions/latest_version_hint.json"
_MANIFESTS = "_versions/"
_NOTES = (CHECKSUMS, FAILURES, BACKGROUND.partition("{")[0])
# Nothing that is read later stands in them, and they may break.
_SPARE = "_transactions"
# Two writes within one tick of the system's clock leave the same times.
_TICK_NS = 50_000_000
_TRIES = 5


def _without_nul(path: str) -> str:
    if "\0" in path:
        raise ValueError("no path holds a NUL")
    return path


class LanceInfo(BaseModel, strict=True):
    """`index.json`. In format 1, the table had no words.

    Args:
        store: "lance" where LanceDB was asked for; None: made when there was no other store.
        background: in the name of the note that has it; None: scores are not calibrated.
        checksum: of what nobody has a reason to change by hand; the rest is checked by its values.
    """

    format: Literal[1, 2]
    model: str
    fingerprint: str
    dim: int = Field(gt=0, le=_MOST_DIMENSIONS)
    dtype: Literal["float32", "bfloat16", "float16"] | None = None
    folder: Annotated[str, AfterValidator(_without_nul)]
    decoding: int = Field(default=1, gt=0)
    store: Literal["lance"] | None = None
    text_vectors: bool = True
    background: str | None = Field(default=None, pattern="^[0-9a-f]{32}$")
    checksum: str | None = None

    @property
    def info(self) -> IndexInfo:
        """What the store says of itself."""
        return IndexInfo(
            self.model, self.fingerprint, self.dim, self.dtype, self.folder, self.decoding, self.text_vectors
        )

    @classmethod
    def read(cls, place: Place) -> Self:
        """Read the `index.json` of a folder.

        Raises:
            IndexFolderError: there is none, it is damaged, of a newer format, of another program, or may not be read.
        """
        with place.explained("open"):
            try:
                value = load_json(place.path / INFO)
                place.check_format(value.get("format") if isinstance(value, dict) else None, _FORMAT)
                document = cls.model_validate(value)
            except FileNotFoundError:
                raise place.missing() from None
            except ValidationError as error:
                if not (place.path / TABLE).exists():
                    raise place.foreign(INFO) from error
                raise ValueError(f"its {INFO} is damaged: {problems(error)[0]}") from error
            except ValueError as error:
                raise ValueError(f"its {INFO} is damaged: {error}") from error
            if "checksum" in value and document.checksum != _info_sum(document.info, document.background):
                raise ValueError(f"its {INFO} is not as it was written")
            return document

    @staticmethod
    def write(
        place: Place, info: IndexInfo, store: Literal["lance"] | None = "lance", background: str | None = None
    ) -> None:
        """Write the `index.json` of a folder in one step."""
        value = {"format": _FORMAT, **asdict(info), "store": store, "background": background}
        value["checksum"] = _info_sum(info, background)
        draft = place.path / (INFO + DRAFT)
        draft.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
        os.replace(draft, place.path / INFO)


_Sum: TypeAlias = tuple[str, int, int, int, int]


class _Sums(NamedTuple):
    """The checksums of all files of a table.

    Args:
        version: of the table.
        settled: False while old versions are being cleared away, so that files of theirs may be gone.
        files: by name, with "/" between its parts: the checksum, and how the file looked when it had it.
        written_ns: when this was written.
    """

    version: int
    settled: bool
    files: dict[str, _Sum]
    written_ns: int

    def may_differ(self, name: str, status: os.stat_result) -> bool:
        """Whether a file may hold something else than it did, as far as can be told without reading it."""
        return status.st_ctime_ns > self.written_ns - _TICK_NS or Look.of(status) != self.files[name][1:]


class SealReport(NamedTuple):
    """What a check has found.

    Args:
        version: the oldest that the table may have.
        problems: one sentence for each file that is not as it was written.
        num_files: how many have a checksum.
        moved: whether files look other than they did, as after a copy, and are read by every check until they are
            sealed again.
    """

    version: int
    problems: list[str]
    num_files: int
    moved: bool


@dataclass(frozen=True, slots=True)
class Seal:
    """The checksums of the files in the folder of a table, and of our notes beside them."""

    folder: Path

    def write(self, version: int, *, settled: bool = True) -> None:
        """Write down the checksums of all files, reading only those that are new or look new.

        Args:
            version: that the table has now.
            settled: False before old versions are cleared away, which takes files that then have a checksum.

        Raises:
            ValueError: a file is not as it was written.
        """
        before = self._read()
        files: dict[str, _Sum] = {}
        for name, status in self._tree():
            known = before.files.get(name) if before else None
            if before and known and not before.may_differ(name, status):
                files[name] = known
                continue
            files[name] = (content_hash(self.folder / name), *Look.of(status))
            if known and known[0] != files[name][0]:
                raise ValueError(_not_as_written(name))
        if before is None or (before.version, before.settled, before.files) != (version, settled, files):
            # By the clock of the file system, which need not be this machine's.
            draft = self.folder / (CHECKSUMS + DRAFT)
            draft.touch()
            written_ns = draft.stat().st_mtime_ns
            value = {"version": version, "settled": settled, "written_ns": written_ns, "files": files}
            self.write_note(CHECKSUMS, value)

    def check(self, *, expected: bool, wholly: bool = False) -> SealReport | None:
        """Compare the files with their checksums; None if there are none.

        A file is read only if its size, times or inode are other than those that were written down.

        Args:
            expected: whether the table must have checksums.
            wholly: read every file.

        Raises:
            ValueError: the checksums are damaged, or missing where they are expected.
            OSError: a file cannot be read.
        """
        if not self.folder.is_dir():
            raise ValueError(f"its folder {self.folder.name} is missing")
        sums = self._read()
        if sums is None:
            if expected:
                raise ValueError(f"its file {CHECKSUMS} is missing")
            return None
        for _ in range(_TRIES):
            report = self._compare(sums, wholly)
            # A writer may have been at work between the reading of the checksums and that of the files.
            again = self._read() if report.problems else None
            if again is None or again == sums:
                break
            sums = again
        return report

    def read_note(self, name: str) -> dict[str, Any] | None:
        """A JSON object that `write_note` has written; None if there is none.

        Raises:
            ValueError: it is damaged.
            OSError: it cannot be read.
        """
        try:
            value = load_json(self.folder / name)
            if isinstance(value, dict) and value.pop("checksum", None) == _note_sum(value):
                return value
        except FileNotFoundError:
            return None
        except ValueError:
            pass
        raise ValueError(f"its file {name} is damaged")

    def write_note(self, name: str, value: Mapping[str, object]) -> None:
        """Write a JSON object with its checksum, in one step."""
        draft = self.folder / (name + DRAFT)
        draft.write_text(json.dumps({"checksum": _note_sum(value), **value}), encoding="utf-8")
        os.replace(draft, self.folder / name)

    def _compare(self, sums: _Sums, wholly: bool) -> SealReport:
        there = dict(self._tree())
        # Someone has written since and may have cleared away: a writer at work, one that was stopped, or an older
        # version of this package.
        may_miss = not sums.settled or any(name.startswith(_MANIFESTS) for name in there.keys() - sums.files.keys())
        problems, moved = [], False
        for name, known in sums.files.items():
            status = there.get(name)
            if status is None:
                if not may_miss:
                    problems.append(f"its file {name} is missing")
                continue
            moved |= Look.of(status) != known[1:]
            if (wholly or sums.may_differ(name, status)) and _differs(self.folder / name, known[0]):
                problems.append(_not_as_written(name))
        return SealReport(sums.version, problems, len(sums.files), moved)

    def _read(self) -> _Sums | None:
        value = self.read_note(CHECKSUMS)
        if value is None:
            return None
        files = {name: tuple(entry) for name, entry in value["files"].items()}
        return _Sums(value["version"], value["settled"], files, value["written_ns"])

    def _tree(self) -> Iterator[tuple[str, os.stat_result]]:
        """All files that matter to a reader; those that go meanwhile are left out."""
        waiting = [""]
        while waiting:
            prefix = waiting.pop()
            entries: list[os.DirEntry[str]] = []
            with suppress(FileNotFoundError, NotADirectoryError), os.scandir(self.folder / prefix) as listing:
                entries = list(listing)
            for entry in entries:
                name = prefix + entry.name
                if entry.is_dir():
                    if name != _SPARE:
                        waiting.append(f"{name}/")
                elif name != _HINT and not name.startswith(_NOTES):
                    with suppress(FileNotFoundError):
                        yield name, os.stat(entry.path)


def _differs(path: Path, checksum: str) -> bool:
    try:
        return content_hash(path) != checksum
    except FileNotFoundError:
        # Cleared away meanwhile.
        return False


def _not_as_written(name: str) -> str:
    return f"its file {name} is not as it was written"


def _note_sum(value: Mapping[str, object]) -> str:
    return hashlib.blake2b(json.dumps(value, sort_keys=True).encode(), digest_size=16).hexdigest()


def _info_sum(info: IndexInfo, background: str | None) -> str:
    values: list[object] = [info.model, info.fingerprint, info.dim, info.folder]
    # The first releases knew neither.
    values += [background] if background else []
    values += [] if info.text_vectors else [False]
    value = json.dumps(values)
    return hashlib.blake2b(value.encode(), digest_size=8).hexdigest()
