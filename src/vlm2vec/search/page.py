"""How do hits look as a page that needs nothing but itself?"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from vlm2vec.items import Item
from vlm2vec.media import DEFAULT_LIMITS, Limits
from vlm2vec.media.sandbox import Sandbox
from vlm2vec.media.thumbnails import thumbnail_uri
from vlm2vec.pages import page
from vlm2vec.search.library import Library
from vlm2vec.search.store import Hit
from vlm2vec.text import counted

_TEMPLATES = Path(__file__).with_name("pages")
# Twice the size that the page shows, for screens with two pixels a point.
_THUMBNAIL_PX = 480


def hits_page(library: Library, query: Item, hits: Sequence[Hit], limits: Limits = DEFAULT_LIMITS) -> str:
    """One HTML page with a thumbnail of every hit, light or dark as the reader's system is, without scripts.

    Thumbnails are inside the page; each links to the file where it lay when the page was written.
    """
    with Sandbox(limits) as decoder:
        return page(
            _TEMPLATES,
            "hits.html",
            title=query.text or "Search by example",
            example=thumbnail_uri(query.media[0], _THUMBNAIL_PX, decoder) if query.media else None,
            count=counted(len(hits), "hit"),
            folder=str(library.folder.resolve()),
            model=library.info.model,
            hits=[
                {
                    "link": _link(library.folder / hit.path, hit),
                    "picture": medium and thumbnail_uri(medium, _THUMBNAIL_PX, decoder),
                    "words": list(_pieces(hit.snippet)),
                    "weak": hit.weak,
                    "path": hit.path,
                    "place": hit.place or hit.kind,
                    "score": f"{hit.score:.3f}",
                }
                for hit, medium in zip(hits, map(library.medium, hits), strict=True)
            ],
        )


def _pieces(snippet: str) -> Iterator[tuple[str, bool]]:
    """The snippet of a hit in pieces, each with whether it was looked for."""
    for piece in re.split("(\x02[^\x03]*\x03)", snippet):
        if piece:
            yield piece.strip("\x02\x03"), piece.startswith("\x02")


def _link(path: Path, hit: Hit) -> str:
    moment = "" if hit.span_s is None else f"#t={hit.span_s[0]:g}"
    return path.resolve().as_uri() + (f"#page={hit.page}" if hit.page else moment)
