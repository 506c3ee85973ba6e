"""`vlm2vec embed`: print or save the vectors of files and texts."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from vlm2vec.cli.hints import told
from vlm2vec.cli.output import fail, note
from vlm2vec.cli.reading import without_mark
from vlm2vec.errors import InputError, MediaError, VLM2VecError
from vlm2vec.items import PDF_SUFFIXES, Image, Item, as_item

if TYPE_CHECKING:
    from vlm2vec.media.sandbox import Decoder
    from vlm2vec.model.embedder import Embedder, Vectors


_INPUTS_AT_ONCE = 1024


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
    out: Annotated[
        Path | None, typer.Option(metavar="FILE.npy", help="Write one float32 array instead.", show_default=False)
    ] = None,
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
    import numpy as np

    from vlm2vec.media.sandbox import Sandbox
    from vlm2vec.model.embedder import Embedder

    embedder = Embedder.load(model)
    vectors = []
    num_failed = 0
    decoder = Sandbox()
    inputs = _inputs(files or [], text or [], decoder)
    # Taken here, not by the thread that prepares: one that waits for a line of stdin could not be stopped by Ctrl-C.
    parts = iter(lambda: list(islice(inputs, _INPUTS_AT_ONCE)), [])
    results = (pair for part in parts for pair in _in_order(embedder, part, decoder))
    # The sandbox first: threads wait for it.
    with closing(results), decoder:
        for source, result in results:
            if isinstance(result, VLM2VecError):
                # Most name their file themselves.
                reason = told(result).removeprefix(f"{source.name} ").removeprefix(f"{source.name}: ")
                fail(f"{source.name or 'an empty text'}: {reason}")
                num_failed += 1
                continue
            if out is None:
                page = {} if source.page is None else {"page": source.page}
                numbers = [float(f"{x:.9g}") for x in result]
                print(json.dumps({"input": source.name, **page, "vector": numbers}), flush=True)
            else:
                vectors.append(result)
    if num_failed:
        if out is not None:
            note(f"{out} was not written, because its rows would not match the inputs")
        raise typer.Exit(1)
    if out is not None:
        array = np.stack(vectors) if vectors else np.empty((0, embedder.dim), np.float32)
        try:
            # An open file, because numpy would add ".npy" to any other name.
            with out.open("wb") as stream:
                np.save(stream, array)
        except OSError as error:
            raise InputError(f"cannot write {out}: {error.strerror}; give another path with --out") from error
        note(f"wrote {array.shape[0]} vectors of {array.shape[1]} numbers to {out}")


def _check_parent(out: Path) -> None:
    parent = out.absolute().parent
    try:
        is_folder = parent.is_dir()
    except OSError as error:
        raise InputError(f"cannot write {out}: {error.strerror}; give another path with --out") from error
    if not is_folder:
        raise InputError(f"cannot write {out}: there is no folder {parent}")


def _inputs(files: Iterable[Path], texts: Iterable[str], decoder: Decoder) -> Iterator[_Input]:
    for file in files:
        if str(file) == "-":
            for line in without_mark(sys.stdin):
                words = line.rstrip("\r\n")
                yield _Input(words, None, Item(text=words))
        else:
            yield from _inputs_of_file(file, decoder)
    for words in texts:
        yield _Input(words, None, Item(text=words))


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


def _in_order(
    embedder: Embedder, inputs: Iterable[_Input], decoder: Decoder
) -> Iterator[tuple[_Input, Vectors | VLM2VecError]]:
    """Embed as a stream, but hand on in the order given; only what overtook its predecessors waits in memory."""
    numbers: list[int] = []
    given: dict[int, _Input] = {}
    done: dict[int, Vectors | VLM2VecError] = {}

    def items() -> Iterator[Item]:
        for number, source in enumerate(inputs):
            given[number] = source
            if isinstance(source.item, VLM2VecError):
                done[number] = source.item
            else:
                numbers.append(number)
                yield source.item

    upcoming = 0
    for position, result in embedder.stream(items(), decoder=decoder):
        done[numbers[position]] = result
        while upcoming in done:
            yield given.pop(upcoming), done.pop(upcoming)
            upcoming += 1
    for number in sorted(done):
        yield given[number], done[number]
