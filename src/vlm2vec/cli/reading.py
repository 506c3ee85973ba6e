"""How are lines of text read from a pipe?"""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from typing import TextIO

from vlm2vec.errors import InputError


def without_mark(stream: TextIO) -> Iterator[str]:
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
