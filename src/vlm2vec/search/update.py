"""How is an index brought up to date with its folder?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from vlm2vec.errors import BusyError, MediaError, StorageError
from vlm2vec.search.ignore import read_patterns, with_patterns, write_patterns
from vlm2vec.search.plan import UpdatePlan, as_stored, make_plan
from vlm2vec.search.scan import Scan, scan_folder
from vlm2vec.search.store import DECODING, Background, Building, Store

if TYPE_CHECKING:
    from vlm2vec.media import Limits
    from vlm2vec.search.committer import Committer
    from vlm2vec.vectors.job import Encoder


@dataclass(frozen=True, slots=True)
class Summary:
    """What an update found and did.

    Args:
        added, changed, removed, unchanged: files. A changed time with the same content is no change.
        embedded: pictures, pages and spans that went through the model; passages of text are not counted.
        ignored: files in the folder that are no images, videos, PDFs or other documents.
        failed: (path, reason) of each file that could not be read, or not in all its parts; none of these is counted
            as added, changed or unchanged.
        left_out: the ignored files by their ending in lower case, "" for those without one.
        failed_before: files that were not tried, because they could not be read before and have not changed since.
        excluded: files and folders that patterns leave out, a folder with all that is in it as one.
    """

    added: int
    changed: int
    removed: int
    unchanged: int
    embedded: int
    ignored: int
    failed: tuple[tuple[str, str], ...]
    left_out: Mapping[str, int] = field(default_factory=dict)
    failed_before: int = 0
    excluded: int = 0


def update(
    store: Store,
    folder: Path,
    names: Sequence[str] | None,
    load: Callable[[], Encoder],
    *,
    on_progress: Callable[[int, int], None] | None,
    retry: bool,
    building: Building,
    limits: Limits | None,
    exclude: Sequence[str],
    background: Callable[[], Background],
) -> Summary:
    """Do the work of `Library.sync`.

    Args:
        store: as it is now.
        names: of the files and folders to look at, relative to `folder`; None: all of it.
        load: gives the model; called if something has to be embedded.
        exclude: patterns that the index is to remember besides those it does.
        background: makes what an index of an earlier release lacks, to calibrate its scores.
    """
    skip = [store.place]
    remembered = read_patterns(store.place)
    patterns = with_patterns(remembered, exclude)
    scan = scan_folder(folder, names, skip=skip, exclude=patterns)
    plan = _plan(store, scan, names, retry)
    if plan.idle and store.info.decoding >= DECODING and patterns == remembered:
        if store.is_untidy():
            # Nobody has to wait for housekeeping, which the next update does as well.
            with suppress(BusyError, StorageError), store.writing():
                store.tidy(building)
        return _summary(scan, plan)
    # Here, because a search in an index that is up to date reads no file.
    from vlm2vec.search.committer import Committer

    with store.writing():
        if patterns != remembered:
            write_patterns(store.place, patterns)
        if store.info.decoding < DECODING:
            _renew(store, folder, scan if names is None else scan_folder(folder, skip=skip, exclude=patterns))
        plan = _plan(store, scan, names, retry)
        store.note_looks(plan.looks)
        if store.background is None:
            store.note_background(background())
        done = Committer(plan, store, folder, on_progress=on_progress, limits=limits)
        done.run(load)
        # Last, so that a file that was only renamed finds its vectors under the old name.
        store.commit(plan.remove, [])
        store.tidy(building)
        store.note_failures({**plan.keep, **done.failures()})
    return _summary(scan, plan, done)


def _plan(store: Store, scan: Scan, names: Sequence[str] | None, retry: bool) -> UpdatePlan:
    return make_plan(
        scan, store.files(), store.failures(), lacking_words=store.lacking_words(), names=names, retry=retry
    )


def _renew(store: Store, folder: Path, scan: Scan) -> None:
    """Mark the files of which this release sees other pictures than the one that made the index.

    They are found until they are embedded anew. All are marked in one commit, after which the index says so; a process
    that is killed before has to ask again.

    Args:
        scan: of all of the folder.
    """
    # Here, because an index is renewed once.
    from vlm2vec.media import document, image, video

    otherwise = {"image": image.shown_otherwise, "video": video.shown_otherwise, "pdf": document.shown_otherwise}
    same = as_stored(scan.files, store.files())
    outdated = []
    for file in scan.files:
        # One that cannot be read is as it was, and will be tried when it changes.
        with suppress(MediaError, OSError):
            if file.path in same and otherwise[file.kind](folder / file.path):
                outdated.append(file.path)
    store.mark_outdated(outdated)
    store.note_decoding()


def _summary(scan: Scan, plan: UpdatePlan, done: Committer | None = None) -> Summary:
    """Of a plan and of what became of its files; None: there was nothing to do."""
    counts = done.counts if done else Counter[str]()
    missing = [(name, "no such file or directory") for name in plan.missing]
    return Summary(
        added=counts["added"],
        changed=counts["changed"],
        removed=len(plan.remove),
        unchanged=counts["unchanged"] + plan.num_current,
        embedded=done.embedded if done else 0,
        ignored=scan.left_out.total(),
        failed=tuple(sorted([*missing, *(done.failed.items() if done else ())])),
        left_out=dict(scan.left_out),
        failed_before=plan.num_skipped,
        excluded=len(scan.excluded),
    )
