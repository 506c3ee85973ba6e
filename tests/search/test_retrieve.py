"""What is found in an index, in which order, and by which question."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from support.index_folders import library_of_rows, make_pdf, make_picture, rows_of, vector_of
from vlm2vec import Filter, Hit, Image, Item, Library, Question, Video
from vlm2vec.errors import InputError, MediaError
from vlm2vec.items import ItemLike, Kind, Target
from vlm2vec.model.embedder import Embedder
from vlm2vec.search.store import StoredUnit, Vector


def _picture(x: float, y: float) -> StoredUnit:
    return StoredUnit("image", None, None, np.array([x, y], np.float32))


def _page(number: int, x: float, y: float) -> StoredUnit:
    return StoredUnit("page", number, None, np.array([x, y], np.float32))


def _span(start_s: float, x: float, y: float) -> StoredUnit:
    return StoredUnit("video", None, (float(start_s), start_s + 30.0), np.array([x, y], np.float32))


# What is found


def test_scores_are_cosines_and_ties_go_by_path_page_and_span(tmp_path: Path) -> None:
    library = library_of_rows(
        tmp_path,
        rows_of("b.pdf", _page(2, 0.6, 0.8), _page(1, 0.6, 0.8)),
        rows_of("c.mp4", _span(30, 0.6, 0.8), _span(0, 0.6, 0.8)),
        rows_of("a.png", _picture(0, 1)),
        rows_of("d.png", _picture(1, 0)),
    )
    hits = library.search(np.array([2, 0], np.float32), 6)
    assert [(hit.path, hit.page, hit.span_s, round(hit.score, 6)) for hit in hits] == [
        ("d.png", None, None, 1.0),
        ("b.pdf", 1, None, 0.6),
        ("b.pdf", 2, None, 0.6),
        ("c.mp4", None, (0.0, 30.0), 0.6),
        ("c.mp4", None, (30.0, 60.0), 0.6),
        ("a.png", None, None, 0.0),
    ]
    assert library.search(np.array([2, 0], np.float32), 2) == hits[:2]
    assert library.search(np.array([2, 0], np.float32), 1, kind="video") == hits[3:4]
    assert [hit.place for hit in hits] == ["", "page 1", "page 2", "0:00-0:30", "0:30-1:00", ""]


def test_the_pages_of_hits_by_offset_are_all_hits_in_order_ties_included(tmp_path: Path) -> None:
    numbers = np.random.default_rng(1).permutation(20)
    library = library_of_rows(tmp_path, *(rows_of(f"{number:02}.png", _picture(1, 0)) for number in numbers))
    vector = np.array([1, 0], np.float32)
    shown = [hit.path for offset in (0, 8, 16, 24) for hit in library.search(vector, 8, offset=offset)]
    assert shown == [f"{number:02}.png" for number in range(20)]


def test_a_filter_chooses_by_kind_folder_time_and_ending(tmp_path: Path) -> None:
    library = library_of_rows(
        tmp_path,
        rows_of("a/0.png", _picture(1, 0)),
        rows_of("a/1.jpg", _picture(0.8, 0.6)),
        rows_of("b.pdf", _page(1, 0.6, 0.8)),
    )

    def found(where: Filter) -> list[str]:
        return [hit.path for hit in library.search(Question(np.array([1, 0], np.float32), where=where))]

    assert found(Filter(kinds=frozenset({"image", "page"}))) == ["a/0.png", "a/1.jpg", "b.pdf"]
    assert found(Filter(kinds=frozenset({"page"}))) == ["b.pdf"]
    assert found(Filter(under="a", types=frozenset({".jpg"}))) == ["a/1.jpg"]
    assert Filter(under="./a/", types=frozenset({"JPG"})) == Filter(under="a", types=frozenset({".jpg"}))
    assert Filter(under=".") == Filter()
    # Their modification time is the first nanosecond of 1970.
    assert found(Filter(since=1.0)) == []
    assert found(Filter(until=1.0)) == ["a/0.png", "a/1.jpg", "b.pdf"]


def test_a_late_moment_of_a_film_shows_its_hours() -> None:
    assert Hit("a.mp4", "video", 1.0, None, (3690.0, 3719.6)).place == "1:01:30-1:02:00"


def test_a_question_without_a_kind_carries_no_instruction_and_one_with_a_kind_carries_its(
    tmp_path: Path, own: Embedder
) -> None:
    make_picture(tmp_path / "0.png", 0)
    make_pdf(tmp_path / "a.pdf", 100, 200)
    library = Library.open(tmp_path, model=own)
    library.sync()
    words = "a red square"

    def order(what: ItemLike | Question | Vector, kind: Kind | None = None) -> list[tuple[str, int | None]]:
        return [(hit.path, hit.page) for hit in library.search(what, kind=kind, mode="meaning")]

    assert order(words) == order(own.encode(words))
    assert library.search(words, 1) == library.search(words)[:1]
    of_pages = order(own.encode_query(words, target="page"), kind="page")
    assert order(words, kind="page") == order(f"{words} kind:page") == of_pages
    assert order(Question(words, where=Filter(kinds=frozenset({"page"})), mode="meaning")) == of_pages
    of_both = Question(words, where=Filter(kinds=frozenset({"image", "page"})), mode="meaning")
    assert order(of_both) == order(own.encode(words))
    instructed = Item(text=words, instruction="Find a drawing:")
    assert order(instructed) == order(own.encode(instructed))


@pytest.mark.parametrize("kind", [None, "image", "page", "video"])
@pytest.mark.parametrize("k", [4, 5, 6, 2**31, 2**32 - 1, 2**32, 2**63, 10**30])
def test_more_hits_than_there_are_may_be_asked_for(tmp_path: Path, k: int, kind: Target | None) -> None:
    library = library_of_rows(
        tmp_path,
        *(rows_of(f"{number}.png", _picture(1, 0)) for number in range(3)),
        rows_of("a.pdf", _page(1, 1, 0), _page(2, 1, 0)),
    )
    images, pages = ["0.png", "1.png", "2.png"], ["a.pdf", "a.pdf"]
    found = {None: [*images, *pages], "image": images, "page": pages, "video": []}[kind]
    assert [hit.path for hit in library.search(np.array([1, 0], np.float32), k, kind=kind)] == found[:k]


# What may be asked


def _open_picture(path: Path) -> PIL.Image.Image:
    with PIL.Image.open(path) as picture:
        return picture.copy()


@pytest.mark.parametrize(
    "form",
    [
        Path,
        Image,
        lambda path: Image(path.read_bytes()),
        lambda path: Item(media=(Image(path),)),
        lambda path: {"image": str(path)},
        _open_picture,
        Question,
        lambda path: Question(Image(path), k=1),
    ],
    ids=["Path", "Image", "of bytes", "Item", "mapping", "PIL image", "Question", "Question of an Image"],
)
def test_a_picture_finds_itself_in_every_form(three: Library, form: Callable[[Path], ItemLike | Question]) -> None:
    assert three.search(form(three.folder / "2.png"))[0].path == "2.png"


def test_words_are_words_even_where_a_file_has_their_name(three: Library) -> None:
    hits = three.search("2.png", mode="words")
    assert [(hit.path, hit.why, hit.weak) for hit in hits[:1]] == [("2.png", ("name",), False)]
    assert three.search({"text": "a square"}) == three.search("a square") == three.search(Question(Item("a square")))


def test_a_file_is_asked_for_by_its_stored_vector_only_as_it_lies_there(
    tmp_path: Path, own: Embedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    red, doc = make_picture(tmp_path / "red.png", 1), make_pdf(tmp_path / "doc.pdf", 100, 200)
    make_pdf(tmp_path / "single.pdf", 7)
    Library.open(tmp_path, model=own).sync()
    asked: list[Item] = []

    class Model:
        """Says what it is asked."""

        name, dim, dtype, fingerprint = own.name, own.dim, own.dtype, own.fingerprint

        def encode_query(self, item: Item, **options: object) -> Vector:
            asked.append(item)
            vector: Vector = own.encode_document("words")
            return vector

    library = Library.open(tmp_path, model=Model())  # type: ignore[arg-type]
    assert library.search(red, 1)[0].path == "red.png"
    assert [(hit.path, hit.page) for hit in library.search(Image(doc, page=2), 1)] == [("doc.pdf", 2)]
    assert asked == []
    others: list[ItemLike] = [
        Video(red),
        Image(red, as_stored=True),
        Image(tmp_path / "single.pdf"),
        Image(tmp_path / "elsewhere.png"),
        Image(tmp_path.parent / "red.png"),
        Item("words", (Image(red),)),
        Item(media=(Image(red),), instruction="Find a drawing:"),
        Item(media=(Image(red), Image(red))),
    ]
    for one in others:
        library.search(one)
    library.search(red, kind="image")
    make_picture(red, 9)
    library.search(red)
    assert len(asked) == len(others) + 2


def test_a_file_that_is_not_there_or_is_many_items_is_no_question(three: Library) -> None:
    with pytest.raises(MediaError, match=r"no\.png"):
        three.search(three.folder / "no.png")
    with pytest.raises(InputError, match=r"is a PDF, which is many items: pass Image\(path, page=1\)"):
        three.search(three.folder / "a.pdf")


# What is similar


def test_similar_files_leave_the_file_itself_out_but_not_its_copies(tmp_path: Path) -> None:
    library = library_of_rows(
        tmp_path,
        rows_of("a.png", _picture(1, 0)),
        rows_of("copy.png", _picture(1, 0)),
        rows_of("b.pdf", _page(1, 0.8, 0.6), _page(2, 0, 1)),
    )
    assert [(hit.path, hit.page) for hit in library.similar("a.png", 2)] == [("copy.png", None), ("b.pdf", 1)]
    assert [hit.page for hit in library.similar(tmp_path / "b.pdf", page=2) if hit.path == "b.pdf"] == [1]


def test_a_file_that_has_no_single_vector_is_refused(tmp_path: Path) -> None:
    library = library_of_rows(tmp_path, rows_of("b.pdf", _page(1, 1, 0), _page(3, 0, 1), num_units=3))
    with pytest.raises(InputError, match=r"b\.pdf has 3 parts, each with its own vector: name a page"):
        library.similar("b.pdf")
    with pytest.raises(InputError, match=r"b\.pdf has no page 2"):
        library.similar("b.pdf", page=2)
    library = library_of_rows(tmp_path / "films", rows_of("c.mp4", _span(0, 1, 0), _span(30, 0, 1)))
    with pytest.raises(InputError, match=r"c\.mp4 has 2 parts, .*: search for Video\(path, span_s=\.\.\.\)"):
        library.similar("c.mp4")
    with pytest.raises(InputError, match=r"other\.png is not in the index"):
        library.similar("other.png")


def test_the_medium_of_a_hit_can_be_embedded(three: Library, own: Embedder) -> None:
    [hit] = three.search(three.folder / "1.png", 1)
    medium = three.medium(hit)
    assert medium is not None
    np.testing.assert_allclose(own.encode_document(medium), vector_of(three, "1.png"), atol=2e-6)
    assert three.medium(Hit("a.md", "text", 1.0, 2)) is None
    assert three.medium(Hit("a.mp4", "video", 1.0, None, (0.0, 30.0))) == Video(three.folder / "a.mp4", (0.0, 30.0))
    assert three.medium(Hit("a.pdf", "page", 1.0, 2)) == Image(three.folder / "a.pdf", page=2)
