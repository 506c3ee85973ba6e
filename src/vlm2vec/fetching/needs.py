"""What does a benchmark task need on disk, and what of it is missing? Everything, not only the first thing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from vlm2vec.cores import usable_cores
from vlm2vec.data.tables import TableName
from vlm2vec.errors import MediaError, VLM2VecError
from vlm2vec.items import Image, Video
from vlm2vec.media import load_frames
from vlm2vec.tasks.data import DataWarning, TaskData, TaskSpec
from vlm2vec.tasks.document import Pages
from vlm2vec.tasks.reading import TaskMedia, open_media
from vlm2vec.tasks.registry import parse_task

_DECODED_TOGETHER = 256


@dataclass(frozen=True, slots=True)
class TaskNeeds:
    """The data that one task lacks under a data root.

    Args:
        queries, candidates: how many it has; None if its annotations could not be read.
        annotations: those that are in none of their places.
        pictures: paths under the data root at which a picture is missing; of those that a task may lack, only where
            none is there.
        videos: folders under the data root that are missing or hold too few frames.
        problem: why its annotations could not be read, other than that something is missing.
        warnings: oddities that were read as published, and rows that are left out.
        damaged: pictures, frames and pages that are there and cannot be opened, and why, if they were opened at all.
    """

    spec: TaskSpec
    queries: int | None = None
    candidates: int | None = None
    annotations: tuple[TableName, ...] = ()
    pictures: tuple[str, ...] = ()
    videos: tuple[str, ...] = ()
    problem: VLM2VecError | None = None
    warnings: tuple[DataWarning, ...] = ()
    damaged: Mapping[str, str] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """Whether the task can be read from beginning to end, and nothing of it is known to be damaged."""
        return not (self.annotations or self.pictures or self.videos or self.problem or self.damaged)

    @classmethod
    def of(
        cls,
        spec: TaskSpec,
        root: Path,
        media: TaskMedia | None = None,
        *,
        deep: bool = False,
        allow_outside: bool = False,
        on_progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> TaskNeeds:
        """Read a task's annotations to their end and collect what is missing.

        Args:
            media: what lies under the data root, to open a pack once for many tasks; None: it is opened.
            deep: decode every picture, every frame of every video, whether it is picked or not, and every page.
            allow_outside: as for `parse_task`.
            on_progress: called with (media that were decoded, all that will be).
        """
        lacking = [table for table in spec.parser.tables(spec.source) if table.found(root) is None]
        if lacking:
            return cls(spec, annotations=tuple(lacking))
        recorder = _Recorder(open_media(root) if media is None else media, root, spec.parser.min_frames)
        data: TaskData | None = None
        problem: VLM2VecError | None = None
        pictures = recorder.pictures
        try:
            data = parse_task(spec, root, media=recorder, allow_outside=allow_outside)
        except MediaError as error:
            # The recorder stands in for all else, so this says that a task may lack pictures, but not all of them.
            pictures = recorder.pictures | recorder.optional
            problem = None if pictures else error
        except VLM2VecError as error:
            problem = error
        return cls(
            spec,
            queries=None if data is None else len(data.query_ids),
            candidates=None if data is None else len(data.candidate_names),
            pictures=tuple(pictures),
            videos=recorder.outermost_videos(),
            problem=problem,
            warnings=() if data is None else data.warnings,
            damaged=_damaged(recorder.there, data, on_progress) if deep else {},
        )


def _damaged(
    media: Mapping[str, Image | Video], data: TaskData | None, on_progress: Callable[[int, int], None]
) -> dict[str, str]:
    """Why media of a task cannot be decoded, by their paths under the data root; pages by their rows."""
    pages = data.candidates if data is not None and isinstance(data.candidates, Pages) else None
    names = [*media, *map(pages.where, range(len(pages)))] if pages else [*media]

    def problem(number: int) -> str | None:
        """Why a medium cannot be decoded as an evaluation does it; None if it can."""
        try:
            # A page is read from its table when it is its turn.
            page = pages[number - len(media)].media[0] if pages and number >= len(media) else None
            load_frames(page or media[names[number]], num_frames=1)
        except VLM2VecError as error:
            # A page names itself.
            return error.message.removeprefix(f"{names[number]}: ")
        return None

    found = dict[str, str]()
    with ThreadPoolExecutor(usable_cores()) as pool:
        for start in range(0, len(names), _DECODED_TOGETHER):
            some = range(len(names))[start : start + _DECODED_TOGETHER]
            problems = zip(some, pool.map(problem, some), strict=True)
            found |= {names[number]: told for number, told in problems if told is not None}
            on_progress(some.stop, len(names))
    return found


@dataclass
class _Recorder:
    """Media that are there, which it notes, and placeholders for those that are not, which it notes too.

    Placeholders' paths begin with `root`; a video of fewer frames than `least` is missing.
    """

    media: TaskMedia
    root: Path
    least: int
    there: dict[str, Image | Video] = field(default_factory=dict)
    pictures: dict[str, None] = field(default_factory=dict)
    optional: dict[str, None] = field(default_factory=dict)
    videos: dict[str, None] = field(default_factory=dict)

    def picture(self, path: str) -> Path | bytes:
        try:
            source = self.media.picture(path)
        except MediaError:
            self.pictures[path] = None
            return self.root / path
        self.there[path] = Image(source, as_stored=True)
        return source

    def has_picture(self, path: str) -> bool:
        there = self.media.has_picture(path)
        if not there:
            self.optional[path] = None
        return there

    def frames(self, folder: str) -> Sequence[Path | bytes]:
        try:
            frames = self.media.frames(folder)
        except MediaError:
            frames = []
        for number, frame in enumerate(frames, 1):
            name = f"/{frame.name}" if isinstance(frame, Path) else f", frame {number} of {len(frames)}"
            self.there[folder + name] = Video((frame,))
        if len(frames) >= self.least:
            return frames
        self.videos[folder] = None
        return [self.root / folder / f"{number}.png" for number in range(self.least)]

    def folders(self, folder: str) -> list[str]:
        names = self.media.folders(folder)
        # A folder of clips is of no use without the right one.
        if any(name.startswith("positive") for name in names):
            return names
        self.videos[folder] = None
        return [*names, "positive"]

    def outermost_videos(self) -> tuple[str, ...]:
        """The missing folders, without those in another one."""
        above = {folder: map(str, PurePosixPath(folder).parents) for folder in self.videos}
        return tuple(folder for folder, others in above.items() if self.videos.keys().isdisjoint(others))
