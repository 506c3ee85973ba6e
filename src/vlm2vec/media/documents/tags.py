"""Where are the tags and the texts of a web page, however broken it is?

`html.parser` and lexbor are not safe here: the time of the first grows with the square of the number of unclosed tags,
that of the second with the square of the depth. This reads each letter once or twice, and builds no tree, which words
do not need.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from typing import NamedTuple, TypeAlias

_NAME = re.compile(r"/?+([A-Za-z][^\s/>]*+)")
_ATTRIBUTE = re.compile(r"""[\s/]*+([^\s/>=][^\s/>=]*+)(?:\s*+=\s*+(?:"([^"]*+)"|'([^']*+)'|([^\s>]*+)))?+""")
_TO_END = re.compile(r"[\s/=]*+")
# Elements whose content has no tags, up to their own end.
_RAW = frozenset({"script", "style", "textarea", "title", "iframe", "noembed", "noframes", "xmp"})


class Tag(NamedTuple):
    """Begins or ends an element.

    Args:
        name: in lower case.
        attributes: of one that begins; the first of a name counts, in lower case.
        is_end: it ends the element; one that is empty in itself (`<br/>` in XHTML) has both.
    """

    name: str
    attributes: dict[str, str]
    is_end: bool = False


Token: TypeAlias = "Tag | str"
"""A str is text, with its entities replaced."""


def scan_tags(text: str, *, is_xml: bool = False) -> Iterator[Token]:
    """Read a page from its beginning to its end, as browsers part tags from text; comments are left out.

    Args:
        is_xml: "/>" ends an element, which it does not in HTML.
    """
    position = 0
    while (start := text.find("<", position)) >= 0:
        if start > position:
            yield unescaped(text[position:start])
        if text.startswith(("<!", "<?"), start):
            is_comment = text.startswith("<!--", start)
            close = text.find("-->" if is_comment else ">", start + 2)
            if close < 0:
                return
            position = close + (3 if is_comment else 1)
        elif match := _NAME.match(text, start + 1):
            name = match.group(1).lower()
            attributes, position = _attributes(text, match.end())
            if position > len(text):
                return
            is_end = text[start + 1] == "/"
            yield Tag(name, {} if is_end else attributes, is_end)
            if is_xml and not is_end and text[position - 2] == "/":
                yield Tag(name, {}, is_end=True)
            elif name in _RAW and not is_end:
                end = re.compile(rf"</{name}(?=[\s/>])", re.IGNORECASE).search(text, position)
                stop = end.start() if end else len(text)
                yield unescaped(text[position:stop])
                position = stop
        else:
            yield "<"
            position = start + 1
    if position < len(text):
        yield unescaped(text[position:])


def unescaped(text: str) -> str:
    """Text with its entities replaced."""
    try:
        return html.unescape(text)
    except ValueError:
        # Of a character's number with thousands of digits.
        return text


def _attributes(text: str, position: int) -> tuple[dict[str, str], int]:
    """The attributes of a tag from here on, and where it ends; beyond the text if it does not."""
    found: dict[str, str] = {}
    while match := _ATTRIBUTE.match(text, position):
        name, *values = match.groups()
        found.setdefault(name.lower(), unescaped(next((value for value in values if value is not None), "")))
        position = match.end()
        if position == len(text):
            break
    position = _skipped(text, position)
    return found, position + 1 if text[position : position + 1] == ">" else len(text) + 1


def _skipped(text: str, position: int) -> int:
    match = _TO_END.match(text, position)
    return match.end() if match else position
