"""Which words does a web page show?"""

from __future__ import annotations

import email
import email.policy
import re
from collections.abc import Mapping
from email.message import EmailMessage
from pathlib import Path
from typing import NamedTuple

from vlm2vec.errors import MediaError
from vlm2vec.media.documents.plain import decoded, read_bytes
from vlm2vec.media.documents.sections import Block, sections
from vlm2vec.media.documents.tags import Tag, Token, scan_tags
from vlm2vec.media.source import Limits
from vlm2vec.media.words import FileWords

_BLOCKS = frozenset({
    "address", "article", "aside", "blockquote", "body", "caption", "dd", "details", "dialog", "div", "dl", "dt",
    "fieldset", "figcaption", "figure", "footer", "form", "h1", "h2", "h3", "h4", "h5", "h6", "head", "header", "hr",
    "html", "legend", "li", "main", "nav", "ol", "option", "p", "pre", "section", "summary", "table", "tbody",
    "tfoot", "thead", "title", "tr", "ul",
})  # fmt: skip
_HEADINGS = {f"h{level}": level for level in range(1, 7)}
# Of these nothing is shown, or not as words of the page.
_UNSEEN = frozenset({"script", "style", "template", "noscript", "svg", "iframe", "select", "textarea"})
_DESCRIBING = frozenset({"description", "keywords", "author", "date", "article:published_time", "og:description"})
_CHARSET = re.compile(
    rb"<meta[^>]{0,200}charset\s*=\s*[\"']?\s*([\w.:-]+)|<\?xml[^>]{0,100}encoding=[\"']([\w.-]+)", re.IGNORECASE
)
_CHARSET_BYTES = 4096


class WebPage(NamedTuple):
    """The words of a page: its title, what describes it, and what it shows."""

    title: str
    about: str
    blocks: list[Block]


def read_html(path: Path, limits: Limits) -> FileWords:
    """The words of a web page as a browser shows it without running scripts; images by their alternative text.

    Nothing that the page refers to is read. Raises as `plain.read_text`.
    """
    return _file_words(parse_html(read_bytes(path, limits), str(path)), path, limits)


def read_mhtml(path: Path, limits: Limits) -> FileWords:
    """The words of a page that a browser has saved whole (.mhtml, .mht). Raises as `plain.read_text`."""
    message = email.message_from_bytes(read_bytes(path, limits), policy=email.policy.default)
    for part in message.walk():
        if isinstance(part, EmailMessage) and part.get_content_type() in ("text/html", "application/xhtml+xml"):
            data = part.get_payload(decode=True)
            if isinstance(data, bytes):
                page = parse_html(data, str(path), part.get_content_charset())
                return _file_words(page, path, limits)
    raise MediaError(f"{path} cannot be read as a document: it holds no web page")


def parse_html(data: bytes, name: str, declared: str | None = None) -> WebPage:
    """Read a page, however broken its tags are.

    Args:
        declared: the encoding that is told with it; otherwise the page itself is looked at.

    Raises:
        MediaError: the bytes are no text.
    """
    if declared is None and (match := _CHARSET.search(data[:_CHARSET_BYTES])):
        declared = (match.group(1) or match.group(2)).decode("ascii")
    text = decoded(data, name, declared)
    reader = _Reader()
    for token in scan_tags(text, is_xml=text.lstrip("\ufeff").startswith("<?xml")):
        reader.take(token)
    return reader.page()


def _file_words(page: WebPage, path: Path, limits: Limits) -> FileWords:
    about = "\n".join(filter(None, (page.title, page.about)))
    return FileWords(about, sections(page.blocks, limits, str(path), page.title))


class _Reader:
    """Gathers the words of a page; tags may be missing, crossed and nested to any depth."""

    def __init__(self) -> None:
        self._title = ""
        self._about: dict[str, None] = {}
        self._blocks: list[Block] = []
        self._text: list[str] = []
        self._level = 0
        self._is_title = False
        self._num_pre = 0
        # The element of which nothing is shown, and how many of its name are open.
        self._unseen = ("", 0)

    def page(self) -> WebPage:
        self._end_block()
        return WebPage(self._title, "\n".join(self._about), self._blocks)

    def take(self, token: Token) -> None:
        """Add the next tag or text."""
        name, depth = self._unseen
        if depth:
            if isinstance(token, Tag) and token.name == name:
                self._unseen = (name, depth + (-1 if token.is_end else 1))
        elif isinstance(token, str):
            # Line ends are shown only where they are marked, by a NUL until the block is whole.
            self._text.append(token.replace("\n", "\0") if self._num_pre else token)
        elif token.is_end:
            self._end(token.name)
        else:
            self._begin(token.name, token.attributes)

    def _begin(self, name: str, attributes: Mapping[str, str]) -> None:
        if name in _UNSEEN:
            self._unseen = (name, 1)
        elif name in _BLOCKS:
            self._end_block()
            self._level = _HEADINGS.get(name, 0)
            self._is_title = name == "title"
            self._num_pre += name == "pre"
        elif name == "br":
            self._text.append("\0")
        elif name in ("td", "th"):
            self._text.append(" ")
        elif name == "img":
            self._text.append(f" {attributes.get('alt', '')} ")
        elif name == "meta":
            described = (attributes.get("name") or attributes.get("property") or "").lower()
            content = " ".join(attributes.get("content", "").split())
            if described in _DESCRIBING and content:
                self._about[content] = None

    def _end(self, name: str) -> None:
        if name in _BLOCKS:
            self._end_block()
            self._num_pre = max(0, self._num_pre - (name == "pre"))

    def _end_block(self) -> None:
        lines = "".join(self._text).split("\0")
        text = "\n".join(filter(None, (" ".join(line.split()) for line in lines)))
        if self._is_title:
            self._title = self._title or text.replace("\n", " ")
        elif text:
            self._blocks.append(Block(text, self._level))
        self._text, self._level, self._is_title = [], 0, False
