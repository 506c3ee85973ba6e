"""Which words does a plain text hold: which encoding, which headings?"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from vlm2vec.errors import LimitError, MediaError
from vlm2vec.media.documents.sections import Block, sections
from vlm2vec.media.plain_text import decoded_text
from vlm2vec.media.source import Limits, open_source
from vlm2vec.media.words import FileWords

_MARKS = (codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_BE)
# All but those of terminals, blanks and line ends.
_CONTROLS = re.compile("[\x01-\x07\x0e-\x1a\x1c-\x1f]")
_HEAD_LETTERS = 1 << 16
# The letter that begins a heading, by the ending; as often as the heading lies deep.
_HEADING_MARKS = {".md": "#", ".markdown": "#", ".adoc": "=", ".org": r"\*"}
# How lines under headings look, with the level where the format gives it.
_UNDERLINES = {"=": 1, "-": 2}
_UNDERLINED = frozenset({".md", ".markdown", ".rst"})
_RULE = re.compile(r"([=\-~^\"'`#*+.:_])\1{2,}")
_FENCE = re.compile(r"\s{0,3}(```+|~~~+)")
_LINK = re.compile(r"!?\[([^\[\]]*)\]\([^()\s]*(?:\s+\"[^\"]*\")?\)")
_TAG = re.compile(r"</?[A-Za-z][^<>]*>|<!--.*?-->", re.DOTALL)
_MOST_HEADER_LETTERS = 1_000


def read_text(path: Path, limits: Limits) -> str:
    """The text of a file, as `decoded` finds it.

    Raises:
        MediaError: missing, empty or no text. LimitError: larger than `Limits.text_bytes`.
    """
    return decoded(read_bytes(path, limits), str(path))


def read_bytes(path: Path, limits: Limits) -> bytes:
    """The bytes of a file of text. Raises as `read_text`."""
    with open_source(path, "a document", limits) as stream:
        data = stream.read(limits.text_bytes + 1)
    if len(data) > limits.text_bytes:
        raise LimitError(f"{path} has more than the {limits.text_bytes:,} bytes of text allowed; split it into parts")
    return data


def decoded(data: bytes, name: str, declared: str | None = None) -> str:
    """Text by its byte order mark, as it is declared, as UTF-8, or as Western European (Windows-1252) if it is none.

    Args:
        declared: an encoding that the file names; one that is unknown or does not fit is passed over.

    Raises:
        MediaError: the bytes are no text: there is a NUL, or many other control characters.
    """
    text = ""
    if declared and not data.startswith(_MARKS):
        with suppress(UnicodeError, LookupError):
            text = data.decode(declared)
    text = text or decoded_text(data)
    head = text[:_HEAD_LETTERS]
    if "\0" in text or 100 * len(_CONTROLS.findall(head)) > len(head):
        raise MediaError(f"{name} is no text: it has control characters; check that the file is what its name says")
    return text


def read_plain(path: Path, limits: Limits) -> FileWords:
    """Text without headings; blank lines end paragraphs. Raises as `read_text`."""
    paragraphs = re.split(r"\n\s*\n", _lines(read_text(path, limits)))
    return FileWords("", sections(map(Block, paragraphs), limits, str(path)))


def read_table(path: Path, limits: Limits) -> FileWords:
    """Lines of values; the first line names the columns and describes every section. Raises as `read_text`."""
    header, _, rows = _lines(read_text(path, limits)).partition("\n")
    if len(header) > _MOST_HEADER_LETTERS:
        header, rows = "", f"{header}\n{rows}"
    return FileWords("", sections(map(Block, rows.split("\n")), limits, str(path), header.strip()))


def read_marked(path: Path, limits: Limits) -> FileWords:
    """Text with headings: Markdown, reStructuredText, AsciiDoc or Org, by the ending. Raises as `read_text`.

    Of Markdown, links are taken by their words and HTML tags are left out. Lines between two lines "---" at its
    beginning describe the file; "title:" among them is its title.
    """
    about, text = _front_matter(_lines(read_text(path, limits)))
    title = re.search(r"(?im)^#?\+?title:\s*(.+)$", about or text[:_MOST_HEADER_LETTERS])
    named = title.group(1).strip().strip("\"'") if title else ""
    return FileWords(about, sections(_marked(text, path.suffix.lower()), limits, str(path), named))


def _lines(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _front_matter(text: str) -> tuple[str, str]:
    match = re.match(r"---[ \t]*\n(.*?)\n(?:---|\.\.\.)[ \t]*(?:\n|\Z)", text, re.DOTALL)
    return (match.group(1), text[match.end() :]) if match else ("", text)


def _marked(text: str, suffix: str) -> Iterator[Block]:
    """Headings and paragraphs; code between fences is a paragraph as it stands."""
    mark = _HEADING_MARKS.get(suffix)
    heading = re.compile(rf"({mark}{{1,6}})\s+(.*?)\s*{'#*' if mark == '#' else ''}\Z") if mark else None
    levels = dict(_UNDERLINES) if suffix != ".rst" else {}
    fence = ""
    paragraph: list[str] = []
    for line in text.split("\n"):
        opening = _FENCE.match(line) if mark == "#" else None
        if fence or opening:
            if opening and not fence:
                yield from _paragraph(paragraph, mark)
                paragraph, fence = [], opening.group(1)
            elif line.strip().startswith(fence):
                yield Block("\n".join(paragraph))
                paragraph, fence = [], ""
            else:
                paragraph.append(line)
            continue
        if heading and (match := heading.match(line)):
            yield from _paragraph(paragraph, mark)
            paragraph = []
            yield Block(_shown(match.group(2)) if mark == "#" else match.group(2), len(match.group(1)))
        elif suffix in _UNDERLINED and (level := _underlined(line, paragraph, levels, suffix)):
            yield from _paragraph(paragraph[:-1], mark)
            yield Block(paragraph[-1], level)
            paragraph = []
        elif line.strip():
            paragraph.append(line)
        else:
            yield from _paragraph(paragraph, mark)
            paragraph = []
    yield from _paragraph(paragraph, mark)


def _underlined(line: str, above: list[str], levels: dict[str, int], suffix: str) -> int:
    """The level of the heading that the last line above is if this line underlines it; 0 if it does not."""
    rule = line.strip()
    if not above or not _RULE.fullmatch(rule):
        return 0
    if suffix != ".rst":
        return levels.get(rule[0], 0)
    # In reStructuredText levels are given by the order in which the signs come, and a heading may have a line above.
    if len(rule) < len(above[-1].strip()) or _RULE.fullmatch(above[-1].strip()):
        return 0
    if len(above) > 1 and above[-2].strip() == rule:
        del above[-2]
    return levels.setdefault(rule[0], len(levels) + 1)


def _paragraph(lines: list[str], mark: str | None) -> Iterator[Block]:
    text = "\n".join(lines)
    yield Block(_shown(text) if mark == "#" else text)


def _shown(text: str) -> str:
    """Markdown as a reader sees it, in words."""
    return _TAG.sub("", _LINK.sub(r"\1", text))
