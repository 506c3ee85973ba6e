"""`vlm2vec index` and `vlm2vec search`: make the index of a folder, and find images, videos and pages in it."""

from __future__ import annotations

import gc
import os
import shlex
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vlm2vec.cli.options import IndexModel, IndexPath, Quiet
from vlm2vec.cli.output import note, print_json, progress, stoppable, told, write_file
from vlm2vec.errors import BusyError, InputError, StorageError
from vlm2vec.items import Image, Item, Target, Video
from vlm2vec.model.checkpoint import BUNDLED
from vlm2vec.search.library import Library
from vlm2vec.search.store import DEFAULT_NAME, Hit
from vlm2vec.search.update import Summary
from vlm2vec.text import counted, printable

if TYPE_CHECKING:
    from rich.console import Console

# Width of a thumbnail in the terminal.
_COLUMNS = 32
_INTRODUCTION = (
    "the default model looks at these files: it knows everyday things, by English words; for the best answers "
    "pip install 'vlm2vec[models]' and give --model VLM2Vec/VLM2Vec-V2.0, best with a GPU"
)
_MOST_ENDINGS, _LONGEST_ENDING = 12, 16
_FILES = ("added", "changed", "removed", "unchanged", "failed")


def index(
    folder: Annotated[Path, typer.Argument(help="Whose images, videos and PDFs to index.")],
    index_path: IndexPath = None,
    model: IndexModel = None,
    rebuild: Annotated[bool, typer.Option("--rebuild", help="Throw the index away and start anew.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 if a file cannot be read.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
    quiet: Quiet = False,
) -> None:
    """Make or update the search index of a folder.

    Only new and changed files are embedded. A run that is stopped keeps what it has done, and the next one continues.
    """
    opened = Library.open(folder, index=index_path, model=model, rebuild=rebuild)
    with opened as library, stoppable("what is done is kept"):
        summary = _bring_up_to_date(library, introduce=not quiet and not as_json)
    if as_json:
        failed = [{"path": path, "reason": reason} for path, reason in summary.failed]
        counts = asdict(summary) | {"failed": failed, "left_out": dict(_most_first(summary.left_out))}
        # Every file was tried.
        del counts["failed_before"]
        print_json(counts)
    else:
        print(_as_text(summary))
        for path, reason in summary.failed:
            note(f"not read: {printable(path)}: {reason}")
    if strict and summary.failed:
        raise typer.Exit(1)


def search(
    query: Annotated[str, typer.Argument(help='The words; "" beside an image, video or page.')],
    folder: Annotated[Path | None, typer.Argument(help="Where to search; by default here.")] = None,
    image: Annotated[Path | None, typer.Option(help="Search by this picture.")] = None,
    video: Annotated[Path | None, typer.Option(help="Search by this video or folder of frames.")] = None,
    pdf: Annotated[str | None, typer.Option(metavar="FILE:PAGE", help="Search by this page, e.g. a.pdf:3.")] = None,
    k: Annotated[int, typer.Option("-k", min=1, help="How many hits.")] = 10,
    kind: Annotated[Target | None, typer.Option(help="Only hits of this kind.")] = None,
    index_path: IndexPath = None,
    model: IndexModel = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the hits as JSON.")] = False,
    quiet: Quiet = False,
    show: Annotated[bool, typer.Option("--show", help="Draw thumbnails in the terminal.")] = False,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Write a page of hits with thumbnails.")] = None,
) -> None:
    """Find images, videos and PDF pages in a folder by text, or by an image, a video or a page.

    The folder is indexed first if it has no index; later, files that are new or have changed are indexed. A file that
    is in the index, without words or kind beside it, is asked for by its stored vector.
    """
    item = _query(query, image, video, pdf)
    # Of a question as long as no name may be, `Path.is_dir` would raise.
    if folder is None and query and not item.media and os.path.isdir(query):
        note(f"searching for the words {query!r}; to search in the folder {query}, put the words before it")
    with Library.open(folder, index=index_path, model=model) as library:
        if item.text or kind:
            # Otherwise the question may be a file that has its vector, and nothing may be new.
            with _without_garbage_collection():
                library.load_model()
        _update(library, introduce=not quiet and not as_json)
        hits = library.search(item, k, kind=kind)
        if as_json:
            print_json({"hits": [asdict(hit) for hit in hits]})
        else:
            _print_hits(library, hits, thumbnails=show)
        if html is not None:
            from vlm2vec.search.page import hits_page

            write_file(html, hits_page(library, item, hits))


def _query(text: str, image: Path | None, video: Path | None, pdf: str | None) -> Item:
    media: list[Image | Video] = []
    if image is not None:
        media.append(Image(image))
    if video is not None:
        media.append(Video(video))
    if pdf is not None:
        path, _, page = pdf.rpartition(":")
        if not path or not (page.isascii() and page.isdigit()):
            raise InputError(f"--pdf {pdf}: give the file and the number of its page, such as --pdf report.pdf:3")
        media.append(Image(Path(path), page=int(page)))
    if len(media) > 1:
        raise InputError("give one of --image, --video and --pdf, not several")
    if not text and not media:
        raise InputError('the query is empty: give words, or "" beside --image, --video or --pdf')
    return Item(text=text, media=tuple(media))


def _update(library: Library, *, introduce: bool) -> None:
    try:
        # Of a file that cannot be read, one search tells, and the next ones do not try it again.
        summary = _bring_up_to_date(library, introduce=introduce, retry=False)
    except (BusyError, StorageError) as error:
        note(f"searching the index as it is: {told(error)}")
        return
    changes = {"added": summary.added, "changed": summary.changed, "removed": summary.removed}
    if any(changes.values()):
        note("index: " + ", ".join(f"{count} {name}" for name, count in changes.items() if count))
    if summary.failed:
        of = shlex.quote(str(library.folder))
        where = "" if library.path == library.folder / DEFAULT_NAME else f" --index {shlex.quote(str(library.path))}"
        note(f"{counted(len(summary.failed), 'file')} could not be read; 'vlm2vec index {of}{where}' says why")
    if not summary.added + summary.changed + summary.unchanged + len(summary.failed) + summary.failed_before:
        note(f"there are no images, videos or PDFs in {library.folder}")


def _print_hits(library: Library, hits: Sequence[Hit], *, thumbnails: bool) -> None:
    console = _colour_console() if thumbnails else None
    with ExitStack() as stack:
        decoder = None
        for rank, hit in enumerate(hits, start=1):
            # Not through rich, which would wrap long paths and read brackets in them as markup.
            print(f"{rank:>3}  {hit.score:.3f}  {printable(hit.path)}  {hit.place}".rstrip())
            if console is not None:
                from vlm2vec.media.sandbox import Sandbox
                from vlm2vec.media.thumbnails import thumbnail_text

                decoder = decoder or stack.enter_context(Sandbox())
                picture = thumbnail_text(library.medium(hit), _COLUMNS, decoder)
                if picture is not None:
                    console.print(picture)


def _colour_console() -> Console | None:
    from rich.console import Console

    console = Console()
    if console.is_terminal and console.color_system == "truecolor":
        return console
    note("no thumbnails: --show needs a terminal with 24-bit colour; --html FILE writes a page with them")
    return None


def _bring_up_to_date(library: Library, *, introduce: bool = False, retry: bool = True) -> Summary:
    """`Library.sync` with its progress on stderr; an index that is new begins with a word on the default model."""
    if introduce and not library.exists and library.load_model().name == BUNDLED:
        note(_INTRODUCTION)
    with ExitStack() as bar:
        show = bar.enter_context(progress("indexing"))
        return library.sync(on_progress=show, building=partial(_building, bar), retry=retry)


@contextmanager
def _building(bar: ExitStack, num_rows: int) -> Iterator[None]:
    """The time it takes so far, in a terminal; elsewhere a line before and one after.

    LanceDB does not say how far it is.
    """
    # All files are done, and two live displays would be drawn over each other.
    bar.close()
    what = f"the search index over {num_rows:,} rows"
    if not sys.stderr.isatty():
        note(f"building {what}; this takes minutes")
        start = time.monotonic()
        yield
        note(f"built {what} in {time.monotonic() - start:.0f} s")
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as spinner:
        spinner.add_task(f"building {what}", total=None)
        yield


def _as_text(summary: Summary) -> str:
    """The counts in one line, and behind them what is left out: "3 ignored (2 .heic, 1 .svg)"."""
    counts = asdict(summary) | {"failed": len(summary.failed)}
    line = ", ".join(f"{counts[name]} {name}" for name in (*_FILES, "embedded", "ignored"))
    return f"{line} ({_endings(summary.left_out)})" if summary.left_out else line


def _endings(left_out: Mapping[str, int]) -> str:
    """Endings with their numbers, most frequent first, no more than a line of them."""
    most_first = _most_first(left_out)
    named = [
        f"{count:,} {printable(ending[:_LONGEST_ENDING]) or 'without an ending'}"
        for ending, count in most_first[:_MOST_ENDINGS]
    ]
    if rest := len(most_first) - len(named):
        named.append(f"and {rest} other endings" if rest > 1 else "and 1 other ending")
    return ", ".join(named)


def _most_first(left_out: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted(left_out.items(), key=lambda entry: (-entry[1], entry[0]))


@contextmanager
def _without_garbage_collection() -> Iterator[None]:
    """For what makes hundreds of thousands of objects that stay to the end of the command, such as the import of torch.

    Python would look through them for garbage again and again, which takes a fifth of the time of that import and a
    second of a search. They are no garbage afterwards either, so a command must not do this with what it will drop.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if enabled:
            gc.enable()
