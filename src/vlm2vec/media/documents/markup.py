"""How is XML from outside read safely: nothing is fetched, and nothing grows?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple, TypeAlias
from xml.parsers import expat

from vlm2vec.errors import MediaError

_RELATIONSHIPS = "/relationships"


class Start(NamedTuple):
    """An element begins. Names are without their namespaces, but `r:id` points to another part of an Office file."""

    name: str
    attributes: dict[str, str]


class End(NamedTuple):
    """An element ends."""

    name: str


Event: TypeAlias = "Start | End | str"
"""A str is text between tags; it may come in several pieces."""


def xml_events(chunks: Iterable[bytes], name: str) -> Iterator[Event]:
    """Read XML piece by piece; nothing of it stays in memory.

    External entities and document types are never read. A document that declares entities is refused: no program writes
    any into the formats read here, and they can make a few bytes into gigabytes.

    Args:
        name: of the file, for messages.

    Raises:
        MediaError: it declares entities.
        expat.ExpatError: it is not well-formed.
    """
    events: list[Event] = []
    parser = expat.ParserCreate(namespace_separator=" ")
    parser.buffer_text = True

    def start(element: str, attributes: dict[str, str]) -> None:
        events.append(Start(_local(element), {_attribute(key): value for key, value in attributes.items()}))

    def refuse(entity: str, *_: object) -> None:
        raise MediaError(f"{name} cannot be read as a document: it declares the XML entity {entity!r}")

    parser.StartElementHandler = start
    parser.EndElementHandler = lambda element: events.append(End(_local(element)))
    parser.CharacterDataHandler = events.append
    parser.EntityDeclHandler = refuse
    for chunk in chunks:
        parser.Parse(chunk, False)
        yield from events
        events.clear()
    parser.Parse(b"", True)
    yield from events


def skip(events: Iterator[Event]) -> None:
    """Pass over the rest of the element that has just begun."""
    for _ in _inside(events):
        pass


def text_of(events: Iterator[Event]) -> str:
    """The text of the element that has just begun, with that of the elements in it."""
    return "".join(event for event in _inside(events) if isinstance(event, str))


def _inside(events: Iterator[Event]) -> Iterator[Event]:
    depth = 1
    for event in events:
        if isinstance(event, Start):
            depth += 1
        elif isinstance(event, End):
            depth -= 1
            if not depth:
                return
        yield event


def _local(name: str) -> str:
    return name.rpartition(" ")[2]


def _attribute(name: str) -> str:
    namespace, _, local = name.rpartition(" ")
    # Both are called `id` where one element has them.
    return f"r:{local}" if namespace.endswith(_RELATIONSHIPS) else local
