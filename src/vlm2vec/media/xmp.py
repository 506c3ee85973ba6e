"""Which properties does an XMP packet hold, the XML in which programs write titles, keywords and places into files?"""

from __future__ import annotations

from collections.abc import Collection
from xml.parsers import expat

_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
# Between the namespace of a name and the name.
_SEPARATOR = " "


class _RefusedError(Exception):
    """A packet declares a document type, which could make entities of it that grow without end."""


def parse_xmp(packet: bytes, names: Collection[str]) -> dict[str, list[str]]:
    """The values of some properties of an XMP packet, each in the order of the packet.

    A property may be an attribute, an element with a text, or one with a list of texts; its name counts without the
    namespace. A packet that is damaged is read up to the damage. No entity is expanded and nothing is fetched.

    Args:
        names: of properties, such as "description" for dc:description.

    Raises:
        ValueError: it is no XML from its beginning, or declares a document type.
    """
    reader = _Reader(names)
    parser = expat.ParserCreate(namespace_separator=_SEPARATOR)
    parser.buffer_text = True
    parser.StartDoctypeDeclHandler = reader.refuse
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.add
    try:
        parser.Parse(packet.strip(b"\0 \r\n\t"), True)
    except expat.ExpatError as error:
        if not reader.has_begun:
            raise ValueError(f"its XMP is no XML: {error}") from None
    except _RefusedError:
        raise ValueError("its XMP declares a document type") from None
    return reader.values


class _Reader:
    """Takes what expat finds, and keeps the values of wanted properties."""

    def __init__(self, names: Collection[str]) -> None:
        self.values: dict[str, list[str]] = {}
        self.has_begun = False
        self._names = names
        # Of the elements that are open: the wanted property that each is or lies in.
        self._inside: list[str | None] = []
        self._text: list[str] = []

    def refuse(self, *declared: object) -> None:
        raise _RefusedError

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        self.has_begun = True
        self._keep()
        name = tag.rpartition(_SEPARATOR)[2]
        outer = self._inside[-1] if self._inside else None
        self._inside.append(name if name in self._names else outer)
        for attribute, value in attributes.items():
            namespace, _, short = attribute.rpartition(_SEPARATOR)
            if short in self._names and namespace not in ("", _RDF):
                self.values.setdefault(short, []).append(value)

    def end(self, tag: str) -> None:
        self._keep()
        self._inside.pop()

    def add(self, text: str) -> None:
        if self._inside and self._inside[-1] is not None:
            self._text.append(text)

    def _keep(self) -> None:
        """Take what has been written since the last tag as a value."""
        text, self._text = "".join(self._text), []
        name = self._inside[-1] if self._inside else None
        if name is not None and text.strip():
            self.values.setdefault(name, []).append(text)
