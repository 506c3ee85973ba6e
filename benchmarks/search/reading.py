"""Which words does each file, page and slide of the corpus have? Read by code that shares nothing with the package."""

from __future__ import annotations

import re
import zipfile
from html.parser import HTMLParser
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import pypdfium2
from folder import files_of

_TEXT = "{http://schemas.openxmlformats.org/drawingml/2006/main}t"


class Part(NamedTuple):
    """A page of a PDF or a slide with its number, or a whole file; and its text, which is empty for pictures."""

    path: str
    page: int | None
    text: str


def read_parts(folder: Path) -> list[Part]:
    """Every part of every file, in order of paths and pages."""
    return [part for path in files_of(folder) for part in _parts(folder / path, path)]


def name_words(path: str) -> list[str]:
    """Lower-case words of a file's name without its ending: those of "Pictures/LadyBird_2.jpg" are lady, bird, 2."""
    stem = re.sub(r"\.\w+$", "", path.rpartition("/")[2])
    return [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", stem)]


def _parts(file: Path, path: str) -> list[Part]:
    match file.suffix:
        case ".pdf":
            with pypdfium2.PdfDocument(file) as document:
                texts = [page.get_textpage().get_text_range() for page in document]
        case ".pptx":
            with zipfile.ZipFile(file) as archive:
                names = [name for name in archive.namelist() if re.fullmatch(r"ppt/slides/slide\d+\.xml", name)]
                slides = [ElementTree.fromstring(archive.read(name)) for name in names]
            texts = ["\n".join(run.text or "" for run in slide.iter(_TEXT)) for slide in slides]
        case ".html":
            return [Part(path, None, _words_of_page(_decoded(file)))]
        case ".txt" | ".md":
            return [Part(path, None, _decoded(file))]
        case _:
            return [Part(path, None, "")]
    return [Part(path, number, text) for number, text in enumerate(texts, 1)]


def _decoded(file: Path) -> str:
    content = file.read_bytes()
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return content.decode("latin-1")


def _words_of_page(page: str) -> str:
    collector = _Collector()
    collector.feed(page)
    return "".join(collector.found)


class _Collector(HTMLParser):
    """What a web page shows: blocks end a line, scripts and styles are left out."""

    _HIDDEN = frozenset({"script", "style"})
    _INLINE = frozenset({"a", "b", "i", "em", "strong", "span", "code", "tt", "font", "acronym", "sup", "sub"})

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self._inside_hidden = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._inside_hidden += tag in self._HIDDEN
        if tag not in self._INLINE:
            self.found.append("\n\n")

    def handle_endtag(self, tag: str) -> None:
        self._inside_hidden -= tag in self._HIDDEN
        if tag not in self._INLINE:
            self.found.append("\n\n")

    def handle_data(self, data: str) -> None:
        if not self._inside_hidden:
            self.found.append(data)
