"""`vlm2vec embed`: print or save the vectors of files and texts."""

from __future__ import annotations

import codecs
import json
import sys
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple, TextIO

import typer

from vlm2vec.cli.output import fail, note, told
from vlm2vec.errors import InputError, MediaError, VLM2VecError
from vlm2vec.files import writing
from vlm2vec.items import PDF_SUFFIXES, Image, Item, as_item

if TYPE_CHECKING:
    from vlm2vec.media.sandbox import Decoder
    from vlm2vec.model.backbone import Vectors
    from vlm2vec.model.embedder import Embedder


class _Input(NamedTuple):
    """One vector's origin: what the user wrote, the page of a PDF, and the item or why there is none."""

    name: str
    page: int | None
    item: Item | VLM2VecError


def embed(
    files: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[FILE]...", help='Images, videos, PDFs; "-" reads texts from stdin, one a line.'),
    ] = None,
    text: Annotated[list[str] | None, typer.Option(help="A text; may be given several times.")] = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE.npy", help="Write one float32 array instead.")] = None,
    model: Annotated[str, typer.Option(help="Name or folder of the model.")] = "bundled",
) -> None:
    """Print or save the vectors of files and texts, as `Embedder.encode` makes them: no instruction is added.

    Prints one JSON object a line, {"input", "vector"} and for the pages of a PDF "page", in the order given: files,
    then texts; what is read from stdin is answered after every 1,024 lines, and at its end. An input that cannot be
    embedded is reported, and the command exits with 1.
    """
    if not files and not text:
        raise InputError('nothing to embed: give files, --text TEXT, or "-" to read texts from stdin')
    if out is not None:
        _check_parent(out)
    from vlm2vec.media.sandbox import Sandbox
    from vlm2vec.model.embedder import Embedder

    embedder = Embedder.load(model)
    vectors: list[Vectors] = []
    num_failed = 0
    decoder = Sandbox()
    # The sandbox is closed first: threads wait for it.
    with closing(_embedded(embedder, _read_inputs(files or [], text or [], decoder), decoder)) as results, decoder:
        for source, result in results:
            if isinstance(result, VLM2VecError):
                # Most name their file themselves.
                reason = told(result).removeprefix(f"{source.name} ").removeprefix(f"{source.name}: ")
                fail(f"{source.name or 'an empty text'}: {reason}")
                num_failed += 1
            elif out is None:
                _print_vector(source, result)
            else:
                vectors.append(result)
    if out is not None and num_failed:
        note(f"{out} was not written, because its rows would not match the inputs")
    elif out is not None:
        _save(out, vectors, embedder.dim)
    if num_failed:
        raise typer.Exit(1)


def _print_vector(source: _Input, vector: Vectors) -> None:
    page = {} if source.page is None else {"page": source.page}
    numbers = [float(f"{x:.9g}") for x in vector]
    print(json.dumps({"input": source.name, **page, "vector": numbers}), flush=True)


def _save(out: Path, vectors: Sequence[Vectors], dim: int) -> None:
    import numpy as np

    array = np.stack(vectors) if vectors else np.empty((0, dim), np.float32)
    # An open file, because numpy would add ".npy" to any other name.
    with writing(out, "other_path"), out.open("wb") as stream:
        np.save(stream, array)
    note(f"wrote {array.shape[0]} vectors of {array.shape[1]} numbers to {out}")


def _check_parent(out: Path) -> None:
    parent = out.absolute().parent
    with writing(out, "other_path"):
        is_folder = parent.is_dir()
    if not is_folder:
        raise InputError(f"cannot write {out}: there is no folder {parent}")


def _read_inputs(files: Iterable[Path], texts: Iterable[str], decoder: Decoder) -> Iterator[_Input]:
    """Files, each page of a PDF by itself, then texts; the file "-" is the lines of stdin."""
    for file in files:
        if str(file) == "-":
            for line in _without_mark(sys.stdin):
                words = line.rstrip("\r\n")
                yield _Input(words, None, Item(text=words))
        else:
            yield from _inputs_of_file(file, decoder)
    for words in texts:
        yield _Input(words, None, Item(text=words))


def _without_mark(stream: TextIO) -> Iterator[str]:
    """The lines of a stream without the byte order mark that some programs put before text.

    Raises:
        InputError: the mark says that it is UTF-16 or UTF-32.
    """
    lines = iter(stream)
    try:
        first = next(lines, "")
    except UnicodeDecodeError as error:
        # A stream that does not take bytes as they are.
        raise InputError(f"stdin is no text in {error.encoding}: convert it to UTF-8") from error
    encoding = stream.encoding or "utf-8"
    for mark in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_BE):
        if first.startswith(mark.decode(encoding, "surrogateescape")):
            raise InputError("stdin is text in UTF-16 or UTF-32: convert it to UTF-8")
    if text := first.removeprefix(codecs.BOM_UTF8.decode(encoding, "surrogateescape")):
        yield text
    yield from lines


def _inputs_of_file(file: Path, decoder: Decoder) -> Iterator[_Input]:
    name = str(file)
    try:
        if file.suffix.lower() not in PDF_SUFFIXES:
            yield _Input(name, None, as_item(file))
            return
        for page in range(1, decoder.page_count(file) + 1):
            yield _Input(name, page, Item(media=(Image(file, page=page),)))
    except (InputError, MediaError) as error:
        yield _Input(name, None, error)


def _embedded(
    embedder: Embedder, inputs: Iterator[_Input], decoder: Decoder, *, num_at_once: int = 1024
) -> Generator[tuple[_Input, Vectors | VLM2VecError], None, None]:
    """The inputs in their order, each with its vector or why it has none."""
    # Taken here, not by the thread that prepares: one that waits for a line of stdin could not be stopped by Ctrl-C.
    while part := list(islice(inputs, num_at_once)):
        items: dict[int, Item] = {}
        done: dict[int, Vectors | VLM2VecError] = {}
        for place, source in enumerate(part):
            if isinstance(source.item, VLM2VecError):
                done[place] = source.item
            else:
                items[place] = source.item
        places, upcoming = list(items), 0
        for position, result in embedder.stream(items.values(), decoder=decoder):
            done[places[position]] = result
            # Only what overtook its predecessors waits.
            while upcoming in done:
                yield part[upcoming], done.pop(upcoming)
                upcoming += 1
        for place in sorted(done):
            yield part[place], done[place]
