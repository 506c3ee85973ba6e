"""`vlm2vec index` and `vlm2vec search`: make the index of a folder, and find images, videos and pages in it."""

from __future__ import annotations

import gc
import os
import re
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

from vlm2vec.cli.options import Exclude, IndexModel, IndexPath, Quiet
from vlm2vec.cli.output import note, print_json, progress, stoppable, told, write_file
from vlm2vec.errors import BusyError, InputError, StorageError
from vlm2vec.extras import extra_for
from vlm2vec.items import Image, Item, ItemLike, Kind, Video
from vlm2vec.model.checkpoint import BUNDLED
from vlm2vec.search import language
from vlm2vec.search.examples import Examples
from vlm2vec.search.language import Parsed, parse_question
from vlm2vec.search.library import Library
from vlm2vec.search.retrieve import Mode, Question
from vlm2vec.search.scan import name_in
from vlm2vec.search.store import DEFAULT_NAME, Filter, Hit
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
_INDENT = " " * 12
# Between what matches and what is only nearest.
_NOTHING, _BELOW = "     nothing matches well; the nearest are:", "     what follows is only nearest:"
_FOUND = re.compile("\x02([^\x03]*)\x03")
_FILES = ("added", "changed", "removed", "unchanged", "failed")


def index(
    folder: Annotated[Path, typer.Argument(help="Whose images, videos and PDFs to index.")],
    index_path: IndexPath = None,
    model: IndexModel = None,
    exclude: Exclude = None,
    rebuild: Annotated[bool, typer.Option("--rebuild", help="Throw the index away and start anew.")] = False,
    text_vectors: Annotated[
        bool, typer.Option("--text-vectors/--no-text-vectors", help="Of a new index: embed the meaning of words, too.")
    ] = True,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 if a file cannot be read.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
    quiet: Quiet = False,
) -> None:
    """Make or update the search index of a folder.

    Only new and changed files are embedded. A run that is stopped keeps what it has done, and the next one continues.
    """
    opened = Library.open(
        folder, index=index_path, model=model, rebuild=rebuild, exclude=exclude or (), text_vectors=text_vectors
    )
    with opened as library, stoppable("what is done is kept"):
        summary = bring_up_to_date(library, introduce=not quiet and not as_json)
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
        for ending, count in _most_first(summary.left_out):
            if extra := extra_for(ending):
                note(f"not read: {count:,} {ending}: pip install 'vlm2vec[{extra}]' reads them")
    if strict and summary.failed:
        raise typer.Exit(1)


def search(
    query: Annotated[str, typer.Argument(help='What to find, see below; "" beside an image, video or page.')],
    folder: Annotated[Path | None, typer.Argument(help="Where to search; by default here.")] = None,
    image: Annotated[list[Path] | None, typer.Option(help="Search by this picture; may be repeated.")] = None,
    not_image: Annotated[list[Path] | None, typer.Option(help="Not like this picture; may be repeated.")] = None,
    video: Annotated[Path | None, typer.Option(help="Search by this video or folder of frames.")] = None,
    pdf: Annotated[str | None, typer.Option(metavar="FILE:PAGE", help="Search by this page, e.g. a.pdf:3.")] = None,
    crop: Annotated[
        str | None,
        typer.Option(metavar="X,Y,W,H", help="Search by this part of the picture, in pixels or as 10%,20%,50%,50%."),
    ] = None,
    k: Annotated[int, typer.Option("-k", min=1, help="How many hits.")] = 10,
    offset: Annotated[int, typer.Option(min=0, help="How many of the best to leave out.")] = 0,
    words: Annotated[bool, typer.Option("--words", help="Look for the words alone.")] = False,
    meaning: Annotated[bool, typer.Option("--meaning", help="Look for the meaning alone.")] = False,
    min_score: Annotated[float | None, typer.Option(help="Only hits with at least this score.")] = None,
    kind: Annotated[Kind | None, typer.Option(help="Only hits of this kind.")] = None,
    under: Annotated[list[Path] | None, typer.Option(help="Only in this folder; may be repeated.")] = None,
    since: Annotated[
        str | None, typer.Option(metavar="DATE", help="Only files changed on 2024, 2024-03 or 2024-03-15, or later.")
    ] = None,
    until: Annotated[str | None, typer.Option(metavar="DATE", help="Only files changed before this date.")] = None,
    types: Annotated[list[str] | None, typer.Option("--type", help="Only files ending so, e.g. jpg,png.")] = None,
    exclude: Exclude = None,
    index_path: IndexPath = None,
    model: IndexModel = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the hits as JSON.")] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Do not introduce the default model, nor say what was understood.")
    ] = False,
    show: Annotated[bool, typer.Option("--show", help="Draw thumbnails in the terminal.")] = False,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Write a page of hits with thumbnails.")] = None,
) -> None:
    """Find images, videos and PDF pages in a folder by text, or by an image, a video or a page.

    The folder is indexed first if it has no index; later, files that are new or have changed are indexed. A file that
    is in the index, without words or kind beside it, is asked for by its stored vector.

    Words may say more: "a phrase", -without, kind:page, in:folder, after:2024-03, before:2025, type:jpg.
    """
    media = _media(image or [], video, pdf, crop)
    mode = _mode(words=words, meaning=meaning, by_words_alone=not (media or not_image))
    # Of a question as long as no name may be, `Path.is_dir` would raise.
    if folder is None and query and not media and os.path.isdir(query):
        note(f"searching for the words {query!r}; to search in the folder {query}, put the words before it")
    with Library.open(folder, index=index_path, model=model, exclude=exclude or ()) as library:
        parsed = parse_question(query, _filter(library.folder, kind, under or [], since, until, types or []))
        item = _item(query, parsed, media, not_image or [])
        if not (quiet or as_json):
            _tell(library, parsed)
        if mode != "words" and (parsed.text.strip() or parsed.where.kinds or crop):
            # Otherwise the question may be a file that has its vector, and nothing may be new.
            with _without_garbage_collection():
                library.load_model()
        _update(library, introduce=not quiet and not as_json)
        # Words alone the library takes apart itself.
        hits = library.search(Question(item, k, offset, parsed.where, mode, min_score))
        if as_json:
            print_json({"understood": parsed.understood, "hits": [asdict(hit) for hit in hits]})
        else:
            _print_hits(library, hits, first=offset + 1, thumbnails=show)
        if html is not None:
            from vlm2vec.search.page import hits_page

            write_file(html, hits_page(library, Item(text=query, media=tuple(media[:1])), hits))


def _mode(*, words: bool, meaning: bool, by_words_alone: bool) -> Mode:
    if words and meaning:
        raise InputError("give --words or --meaning, or none of them for both")
    if (words or meaning) and not by_words_alone:
        raise InputError("--words and --meaning are for a question of words alone, not for examples")
    return "words" if words else "meaning" if meaning else "auto"


def _media(images: Sequence[Path], video: Path | None, pdf: str | None, crop: str | None) -> list[Image | Video]:
    """The examples of what is wanted."""
    pictures = [Image(path) for path in images]
    if pdf is not None:
        path, _, page = pdf.rpartition(":")
        if not path or not (page.isascii() and page.isdigit()):
            raise InputError(f"--pdf {pdf}: give the file and the number of its page, such as --pdf report.pdf:3")
        pictures.append(Image(Path(path), page=int(page)))
    if crop is None:
        return [*pictures, *([] if video is None else [Video(video)])]
    from vlm2vec.media.region import Region
    from vlm2vec.media.sandbox import Sandbox

    region = Region.parse(crop)
    if len(pictures) != 1 or video is not None:
        raise InputError("--crop is a part of one picture: give it beside one --image or --pdf")
    with Sandbox() as decoder:
        return [region.of(pictures[0], decoder)]


def _filter(
    folder: Path,
    kind: Kind | None,
    under: Sequence[Path],
    since: str | None,
    until: str | None,
    types: Sequence[str],
) -> Filter:
    """What the options say about which files may be hits."""
    where = Filter(frozenset(() if kind is None else (kind,)), [name_in(folder, path) for path in under])
    of_types = [("--type", language.of_types, several) for several in types]
    for option, narrowed, value in (
        ("--since", language.since, since),
        ("--until", language.until, until),
        *of_types,
    ):
        try:
            where = where if value is None else narrowed(where, value)
        except InputError as error:
            raise error.of(option) from None
    return where


def _item(query: str, parsed: Parsed, media: Sequence[Image | Video], unlike: Sequence[Path]) -> ItemLike | Examples:
    """What is looked for. Words beside one example are one item with it; several are examples each by itself."""
    words = parsed.text if parsed.text.strip() else ""
    if not words and not media:
        if query.strip():
            raise InputError(f"{query!r} says only where to look: give words, or --image, --video or --pdf")
        raise InputError('the query is empty: give words, or "" beside --image, --video or --pdf')
    pictures = [Image(path) for path in unlike]
    if len(media) > 1 or pictures:
        alone = [Item(media=(medium,)) for medium in media]
        return Examples((*([words] if words else []), *alone), tuple(pictures))
    return Item(text=words, media=tuple(media)) if media else query


def _tell(library: Library, parsed: Parsed) -> None:
    """Say what was understood of a question that is more than words."""
    if not parsed.plain:
        note(parsed.understood)
    for folder in parsed.where.under:
        if not (library.folder / folder).is_dir():
            note(f"there is no folder {printable(folder)} in {library.folder}")


def _update(library: Library, *, introduce: bool) -> None:
    try:
        # Of a file that cannot be read, one search tells, and the next ones do not try it again.
        summary = bring_up_to_date(library, introduce=introduce, retry=False)
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


def _print_hits(library: Library, hits: Sequence[Hit], *, first: int, thumbnails: bool) -> None:
    console = _colour_console() if thumbnails else None
    with ExitStack() as stack:
        decoder = None
        for rank, hit in enumerate(hits, start=first):
            if hit.weak and (rank == first or not hits[rank - first - 1].weak):
                print(_BELOW if rank > first else _NOTHING)
            # Not through rich, which would wrap long paths and read brackets in them as markup.
            print(f"{rank:>3}  {hit.score:.3f}  {printable(hit.path)}  {hit.place}".rstrip())
            if hit.snippet:
                # In a terminal, what was found is bold.
                typer.echo(f"{_INDENT}{_FOUND.sub(lambda found: typer.style(found[1], bold=True), hit.snippet)}")
            if hit.copies:
                print(f"{_INDENT}also {', '.join(map(printable, hit.copies))}")
            if console is not None:
                from vlm2vec.media.sandbox import Sandbox
                from vlm2vec.media.thumbnails import thumbnail_text

                decoder = decoder or stack.enter_context(Sandbox())
                medium = library.medium(hit)
                picture = medium and thumbnail_text(medium, _COLUMNS, decoder)
                if picture:
                    console.print(picture)


def _colour_console() -> Console | None:
    from rich.console import Console

    console = Console()
    if console.is_terminal and console.color_system == "truecolor":
        return console
    note("no thumbnails: --show needs a terminal with 24-bit colour; --html FILE writes a page with them")
    return None


def bring_up_to_date(library: Library, *, introduce: bool = False, retry: bool = True) -> Summary:
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
    line += f" ({_endings(summary.left_out)})" if summary.left_out else ""
    return f"{line}, {summary.excluded} excluded" if summary.excluded else line


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
