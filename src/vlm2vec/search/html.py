"""How does a page of results look that needs nothing but itself?"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from vlm2vec.items import Image, Item, Video
from vlm2vec.media.sandbox import Decoder, Sandbox
from vlm2vec.media.thumbnails import data_uri, thumbnail
from vlm2vec.search.index import Index
from vlm2vec.search.table import Hit
from vlm2vec.text import printable

if TYPE_CHECKING:
    import PIL.Image

# Twice the size that the page shows, for screens with two pixels a point.
_THUMBNAIL_PX = 480

_STYLE = """
:root { color-scheme: light dark; --line: #d8d8de; --soft: #62626c; --paper: #f5f5f7; --card: #ffffff; --bar: #3b6fd4; }
@media (prefers-color-scheme: dark) {
  :root { --line: #36363e; --soft: #a2a2ae; --paper: #17171a; --card: #212126; --bar: #7ba3f0; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2rem 1.25rem 4rem; max-width: 72rem; background: var(--paper);
  font: 1rem/1.45 system-ui, sans-serif; }
header { display: flex; gap: 1.25rem; align-items: center; margin-bottom: 1.75rem; }
header img { max-width: 9rem; max-height: 9rem; border-radius: .5rem; }
h1 { margin: 0; font-size: 1.6rem; font-weight: 600; overflow-wrap: anywhere; }
header p { margin: .25rem 0 0; color: var(--soft); overflow-wrap: anywhere; }
ol { list-style: none; margin: 0; padding: 0; display: grid; gap: 1rem;
  grid-template-columns: repeat(auto-fill, minmax(15rem, 1fr)); }
li { background: var(--card); border: 1px solid var(--line); border-radius: .75rem; overflow: hidden; }
li a { display: flex; flex-direction: column; height: 100%; color: inherit; text-decoration: none; }
li a:focus-visible { outline: 3px solid var(--bar); outline-offset: -3px; }
.picture { height: 15rem; display: grid; place-items: center; background: var(--paper); color: var(--soft); }
.picture img { max-width: 100%; max-height: 15rem; display: block; }
.facts { padding: .7rem .9rem .9rem; }
.path { font-weight: 600; overflow-wrap: anywhere; }
.about { display: flex; justify-content: space-between; color: var(--soft); font-size: .9rem;
  font-variant-numeric: tabular-nums; }
"""


def results_page(index: Index, query: Item, hits: Sequence[Hit]) -> str:
    """One HTML page with a thumbnail of every hit, light or dark as the reader's system is, without scripts.

    Thumbnails are inside the page; each links to the file where it lay when the page was written.
    """
    title = query.text or "Search by example"
    with Sandbox() as decoder:
        pictures = [thumbnail(medium, _THUMBNAIL_PX, decoder) for medium in query.media[:1]]
        items = "\n".join(_hit(index.folder, rank, hit, decoder) for rank, hit in enumerate(hits, start=1))
    example = "".join(_picture(picture, "the query's picture") for picture in pictures)
    count = f"{len(hits)} {'hit' if len(hits) == 1 else 'hits'}"
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{_text(title)}</title>
<style>{_STYLE}</style>
</head>
<body>
<header>{example}<div><h1>{_text(title)}</h1>
<p>{count} in {_text(str(index.folder.resolve()))}, model {_text(index.model)}</p></div></header>
<ol>
{items}
</ol>
</body>
</html>
"""


def hit_medium(folder: Path, hit: Hit) -> Image | Video:
    """The picture, page, video or span that a hit in `folder` stands for."""
    path = folder / hit.path
    return Video(path, span_s=hit.span_s) if hit.kind == "video" else Image(path, page=hit.page)


def _hit(folder: Path, rank: int, hit: Hit, decoder: Decoder) -> str:
    picture = _picture(thumbnail(hit_medium(folder, hit), _THUMBNAIL_PX, decoder), "") or "cannot be shown"
    fragment = f"#page={hit.page}" if hit.page else f"#t={hit.span_s[0]:g}" if hit.span_s else ""
    link = (folder / hit.path).resolve().as_uri() + fragment
    return (
        f'<li><a href="{_text(link)}"><div class="picture">{picture}</div><div class="facts">'
        f'<div class="path">{_text(hit.path)}</div>'
        f'<div class="about"><span>{rank}. {_text(hit.place or hit.kind)}</span><span>{hit.score:.3f}</span></div>'
        "</div></a></li>"
    )


def _picture(picture: PIL.Image.Image | None, alternative: str) -> str:
    if picture is None:
        return ""
    return f'<img src="{data_uri(picture)}" alt="{_text(alternative)}">'


def _text(text: str) -> str:
    return escape(printable(text))
