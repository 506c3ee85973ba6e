"""An index over files whose decoder dies: they are listed, and all others are found."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.bombs import gif_bomb, pdf_bomb
from support.index_folders import make_pdf, make_picture, stored_rows, summary_of
from vlm2vec.errors import LimitError
from vlm2vec.items import Image, Item
from vlm2vec.media import Limits
from vlm2vec.model.embedder import Embedder
from vlm2vec.search.library import Library
from vlm2vec.search.page import hits_page
from vlm2vec.search.store import Hit

SMALL = Limits(decode_bytes=64 << 20)


@pytest.mark.slow
def test_what_kills_its_decoder_is_listed_and_all_else_is_indexed(tmp_path: Path, own: Embedder) -> None:
    make_pdf(tmp_path / "a.pdf", 10, 120)
    two_pages = (
        pdf_bomb(70_000_000)
        .replace(b"/Kids [3 0 R] /Count 1", b"/Kids [3 0 R 6 0 R] /Count 2")
        .replace(b"trailer", b"6 0 obj << /Type /Page /Parent 2 0 R /MediaBox [0 0 72 36] >> endobj\ntrailer")
    )
    (tmp_path / "b.pdf").write_bytes(two_pages)
    (tmp_path / "c.gif").write_bytes(gif_bomb(1500, 1500, 9))
    make_picture(tmp_path / "d.png", 1)
    library = Library.open(tmp_path, model=own, limits=SMALL)
    found = library.sync()
    # The path stands beside the reason.
    memory = "decoding used more than 64 MB of memory (Limits.decode_bytes)"
    (pdf, of_page), (gif, of_gif) = found.failed
    assert (pdf, gif, of_gif) == ("b.pdf", "c.gif", f"cannot be read: {memory}")
    assert of_page.startswith("cannot be read at page 1: ")
    assert of_page.endswith(f"{memory} (1 of its 2 parts failed)")
    assert found == summary_of(added=2, embedded=4, failed=found.failed)
    stored = stored_rows(library, "a.pdf", "b.pdf", "c.gif", "d.png")
    assert [(rows.path, [unit.page for unit in rows.units]) for rows in stored] == [
        ("a.pdf", [1, 2]),
        ("b.pdf", [2]),
        ("d.png", [None]),
    ]


def test_a_search_that_asks_for_or_shows_what_kills_its_decoder_goes_on(three: Library, own: Embedder) -> None:
    (three.folder / "b.pdf").write_bytes(pdf_bomb(70_000_000))
    library = Library.open(three.folder, model=own, limits=SMALL)
    hits = [Hit(path="b.pdf", kind="page", page=1, score=0.5)]
    assert "cannot be shown" in hits_page(library, Item(text="a"), hits, SMALL)
    with pytest.raises(LimitError, match="decoding used more than 64 MB"):
        library.search(Image(three.folder / "b.pdf", page=1))
