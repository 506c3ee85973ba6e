"""What files say is in the index, in step with them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from support.index_folders import stored_rows, summary_of
from support.word_files import text_pdf, write_film
from vlm2vec.model.embedder import Embedder
from vlm2vec.search.library import Library
from vlm2vec.search.store import Hit, Words


def _first(library: Library, question: str) -> tuple[str, int | None]:
    [hit] = library.search(question, 1, mode="words")
    return hit.path, hit.page


def test_pages_sections_and_names_are_found_by_their_words(tmp_path: Path, own: Embedder) -> None:
    (tmp_path / "a.pdf").write_bytes(text_pdf(["The fox is red", "Geese are grey"]))
    (tmp_path / "b.md").write_text("# Owls\n\nThey hunt at night.\n")
    shutil.copy(tmp_path / "a.pdf", tmp_path / "HolidayPlan.pdf")
    with Library.open(tmp_path, model=own) as library:
        assert library.sync() == summary_of(added=3, embedded=2)
        assert _first(library, "grey geese") == ("HolidayPlan.pdf", 2)
        assert _first(library, "hunt at night") == ("b.md", 1)
        assert _first(library, "holiday plan") == ("HolidayPlan.pdf", 1)
        [hit] = library.search('"hunt at night"', 1)
        assert hit == Hit("b.md", "text", hit.score, 1, None, why=hit.why, snippet=hit.snippet, weak=False)
        assert hit.snippet == "They \x02hunt at night\x03."


def test_changed_words_are_read_again_and_old_ones_are_gone(tmp_path: Path, own: Embedder) -> None:
    note = tmp_path / "note.txt"
    note.write_text("buy apples")
    with Library.open(tmp_path, model=own) as library:
        library.sync()
        note.write_text("buy pears instead")
        assert library.sync() == summary_of(changed=1)
        assert library.search("apples", 1, mode="words") == []
        assert _first(library, "pears") == ("note.txt", 1)


def test_subtitles_beside_a_film_belong_to_it(tmp_path: Path, own: Embedder) -> None:
    write_film(tmp_path / "a.mkv", [], codec="subrip")
    with Library.open(tmp_path, model=own) as library:
        library.sync()
        (tmp_path / "a.srt").write_text("1\n00:00:00,000 --> 00:00:01,000\nthe goose\n")
        assert library.sync() == summary_of(changed=1, embedded=1)
        assert _first(library, "goose") == ("a.mkv", None)
        assert library.sync() == summary_of(unchanged=1)
        (tmp_path / "a.srt").unlink()
        assert library.sync() == summary_of(changed=1, embedded=1)
        assert library.search("goose", 1, mode="words") == []


def test_an_index_without_text_vectors_has_words_alone(tmp_path: Path, own: Embedder) -> None:
    (tmp_path / "a.pdf").write_bytes(text_pdf(["The fox is red"]))
    with Library.open(tmp_path, model=own, text_vectors=False) as library:
        library.sync()
        [rows] = stored_rows(library, "a.pdf")
        assert [(unit.words, unit.passages) for unit in rows.units] == [(Words("The fox is red"), ())]
    os.utime(tmp_path / "a.pdf", ns=(1, 1))
    (tmp_path / "b.txt").write_text("The goose is grey")
    with Library.open(tmp_path, model=own) as library:
        # What an index was made with holds for all of it.
        library.sync()
        [rows] = stored_rows(library, "b.txt")
        assert [len(unit.passages) for unit in rows.units] == [0]
