"""Which pages of free PDF manuals carry which section title? Outline entries that name exactly one page."""

from __future__ import annotations

import gzip
import re
from collections import Counter
from pathlib import Path

import pypdfium2
from fetch import UNPACKED
from PIL import Image

DOCS = UNPACKED / "texlive" / "usr" / "share" / "doc"
FREE = re.compile(r"^((lppl[0-9.a-c]*|pd|mit|cc0)\s*)+$")
"""Licences that may be used; a package that lists any other is left out whole."""

_FOREIGN = ("polyglossia",)


MOST_OF_A_MANUAL = 40


def read_titles() -> list[tuple[Path, int, str]]:
    """(PDF, page counted from 0, title) of the first pages of each manual, in order of their names."""
    found = [entry for path in _free_manuals() for entry in titles_of(path)[:MOST_OF_A_MANUAL]]
    # `Introduction` or `Documentation` names a page of every manual, and so none.
    repeats = Counter(title.lower() for _, _, title in found)
    return [entry for entry in found if repeats[entry[2].lower()] == 1]


def _free_manuals() -> list[Path]:
    """The PDFs of English manuals whose licence lets them be used, in order of their names."""
    licences = _licences()
    packages = {path: path.relative_to(DOCS / "texlive-doc").parts[1] for path in (DOCS / "texlive-doc").rglob("*.pdf")}
    return sorted(
        path
        for path, package in packages.items()
        if package not in _FOREIGN and FREE.match(licences.get(package, "none"))
    )


def render_page(path: Path, page: int, box: tuple[int, int]) -> Image.Image:
    """The page, RGB, as large as fits into `box`."""
    with pypdfium2.PdfDocument(path) as document:
        sheet = document[page]
        scale = min(box[0] / sheet.get_width(), box[1] / sheet.get_height())
        # Drawn twice as large first: small letters stay darker than when drawn small.
        image: Image.Image = sheet.render(scale=2 * scale).to_pil().convert("RGB")
        return image.resize((image.width // 2, image.height // 2), Image.Resampling.BOX)


def titles_of(path: Path) -> list[tuple[Path, int, str]]:
    """(PDF, page counted from 0, title) of the outline's entries, one a page, whose title occurs once."""
    with pypdfium2.PdfDocument(path) as document:
        entries = []
        for bookmark in document.get_toc(max_depth=15):
            target = bookmark.get_dest()
            title = " ".join(re.sub(r"[^\w ,.:()'-]", " ", bookmark.get_title()).split())
            title = re.sub(r"^([0-9]+(\.[0-9]+)*|[IVXLC]+|[A-Z](\.[0-9]+)+)\.? ", "", title)
            if target is not None and target.get_index() is not None and 8 <= len(title) <= 60 and " " in title:
                entries.append((target.get_index(), title))
    titles = Counter(title.lower() for _, title in entries)
    pages: set[int] = set()
    kept = []
    for page, title in entries:
        if titles[title.lower()] == 1 and page not in pages:
            pages.add(page)
            kept.append((path, page, title))
    return kept


def _licences() -> dict[str, str]:
    text = gzip.decompress((DOCS / "texlive-latex-recommended-doc" / "Licenses.gz").read_bytes()).decode()
    return dict(re.findall(r"^([\w-]+): (\S.*)$", text, re.MULTILINE))
