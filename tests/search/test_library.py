"""What bringing an index up to date promises: only changes are embedded, and no bad file stops it."""

from __future__ import annotations

import os
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from support.index_folders import (
    is_up_to_date,
    make_pdf,
    make_picture,
    paths_of,
    stored_files,
    stored_rows,
    summary_of,
    vector_of,
)
from support.places import ROOT
from vlm2vec.errors import IndexFolderError, MediaError
from vlm2vec.items import Image
from vlm2vec.model.embedder import Embedder
from vlm2vec.search.library import Library


def _grow_at_the_same_time(folder: Path) -> None:
    path = folder / "1.png"
    time_ns = path.stat().st_mtime_ns
    path.write_bytes(path.read_bytes() + b"more")
    os.utime(path, ns=(time_ns, time_ns))


# What is embedded


@pytest.mark.slow
def test_of_two_thousand_files_only_the_changed_one_is_embedded(tmp_path: Path, own: Embedder) -> None:
    for number in range(2000):
        make_picture(tmp_path / f"{number % 10}" / f"{number}.png", number)
    library = Library.open(tmp_path, model=own)
    assert library.sync() == summary_of(added=2000, embedded=2000)
    make_picture(tmp_path / "7" / "1357.png", 5000)
    reopened = Library.open(tmp_path, model=own)
    assert reopened.sync() == summary_of(changed=1, unchanged=1999, embedded=1)
    np.testing.assert_allclose(
        vector_of(reopened, "7/1357.png"), own.encode_document(Image(tmp_path / "7" / "1357.png")), atol=2e-6
    )


def test_new_files_join_and_deleted_ones_leave(three: Library, own: Embedder) -> None:
    make_picture(three.folder / "new" / "3.png", 3)
    (three.folder / "0.png").unlink()
    assert three.sync() == summary_of(added=1, removed=1, unchanged=2, embedded=1)
    assert paths_of(three) == ["1.png", "2.png", "new/3.png"]


def test_a_file_whose_time_alone_changed_is_unchanged_and_next_time_costs_no_read(
    three: Library, own: Embedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.utime(three.folder / "1.png", ns=(5, 5))
    assert three.sync() == summary_of(unchanged=3)
    assert stored_files(three)["1.png"].look.mtime_ns == 5

    def read(path: Path) -> str:
        raise AssertionError(f"{path} is read")

    monkeypatch.setattr("vlm2vec.search.contents.content_hash", read)
    assert three.sync() == summary_of(unchanged=3)


def test_equal_content_under_several_paths_is_embedded_once_and_is_one_hit(tmp_path: Path, own: Embedder) -> None:
    make_picture(tmp_path / "b.png", 1)
    shutil.copy(tmp_path / "b.png", tmp_path / "a.png")
    library = Library.open(tmp_path, model=own)
    assert library.sync() == summary_of(added=2, embedded=1)
    shutil.copy(tmp_path / "b.png", tmp_path / "c.png")
    assert library.sync() == summary_of(added=1, unchanged=2)
    [hit] = library.search(vector_of(library, "b.png"), 2)
    assert (hit.path, hit.copies) == ("a.png", ("b.png", "c.png"))
    assert hit.score == pytest.approx(1, abs=1e-6)


def test_a_renamed_file_is_not_embedded_again(three: Library, own: Embedder) -> None:
    (three.folder / "0.png").rename(three.folder / "renamed.png")
    assert three.sync() == summary_of(added=1, removed=1, unchanged=2)
    assert paths_of(three) == ["1.png", "2.png", "renamed.png"]


def test_two_files_that_trade_places_keep_their_own_vectors(three: Library, own: Embedder) -> None:
    before = {path: vector_of(three, path) for path in ("0.png", "1.png")}
    for source, target in (("0.png", "x"), ("1.png", "0.png"), ("x", "1.png")):
        (three.folder / source).rename(three.folder / target)
    os.utime(three.folder / "0.png", ns=(1, 1))
    os.utime(three.folder / "1.png", ns=(2, 2))
    assert three.sync() == summary_of(changed=2, unchanged=1)
    np.testing.assert_array_equal(vector_of(three, "0.png"), before["1.png"])
    np.testing.assert_array_equal(vector_of(three, "1.png"), before["0.png"])


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: make_picture(folder / "3.png", 3),
        lambda folder: (folder / "1.png").unlink(),
        lambda folder: os.utime(folder / "1.png", ns=(5, 5)),
        lambda folder: (folder / "1.png").rename(folder / "a.png"),
        lambda folder: (folder / "broken.png").symlink_to("nowhere"),
        _grow_at_the_same_time,
    ],
    ids=["new", "deleted", "another time", "renamed", "cannot be read", "another size"],
)
def test_an_index_is_up_to_date_until_anything_in_its_folder_changes(
    three: Library, change: Callable[[Path], object]
) -> None:
    (three.folder / "notes.log").write_text("words")
    assert is_up_to_date(three)
    change(three.folder)
    assert not is_up_to_date(three)


def test_a_pdf_is_found_by_page(tmp_path: Path, own: Embedder) -> None:
    path = make_pdf(tmp_path / "three.pdf", 10, 120, 250)
    library = Library.open(tmp_path, model=own)
    assert library.sync() == summary_of(added=1, embedded=3)
    (hit,) = library.search(own.encode_document(Image(path, page=2)), 1)
    assert (hit.path, hit.kind, hit.page, hit.place) == ("three.pdf", "page", 2, "page 2")


def test_chosen_files_and_folders_are_brought_up_to_date_alone(three: Library, own: Embedder) -> None:
    make_picture(three.folder / "a" / "3.png", 3)
    make_picture(three.folder / "b" / "4.png", 4)
    make_picture(three.folder / "5.png", 5)
    (three.folder / "0.png").unlink()
    summary = three.sync([three.folder / "a", three.folder / "5.png", three.folder / "no.png"])
    assert summary == summary_of(added=2, embedded=2, failed=(("no.png", "no such file or directory"),))
    assert paths_of(three) == ["0.png", "1.png", "2.png", "5.png", "a/3.png"]
    (three.folder / "a" / "3.png").rename(three.folder / "6.png")
    assert three.sync(["a", "6.png", "0.png"]) == summary_of(added=1, removed=2)
    assert paths_of(three) == ["1.png", "2.png", "5.png", "6.png"]
    with pytest.raises(IndexFolderError, match="is not inside"):
        three.sync([three.folder / ".." / "other.png"])
    no_names = ("x" * 300 + ".png", "\0.png")
    assert [path for path, _ in three.sync(no_names).failed] == sorted(no_names)


def test_removed_files_and_folders_are_no_longer_found(three: Library, own: Embedder) -> None:
    make_picture(three.folder / "a" / "3.png", 3)
    three.sync()
    assert three.remove([three.folder / "a", three.folder / "1.png"]) == 2
    assert paths_of(three) == ["0.png", "2.png"]


def test_names_with_quotes_stray_bytes_and_line_breaks_are_kept(tmp_path: Path, own: Embedder) -> None:
    names = ["it's; DROP TABLE--.png", os.fsdecode(b"caf\xe9.png"), "line\nbreak.png", "雪.png"]
    for number, name in enumerate(names):
        make_picture(tmp_path / name, number)
    library = Library.open(tmp_path, model=own)
    library.sync()
    assert paths_of(library) == sorted(names)
    for number, name in enumerate(names):
        make_picture(tmp_path / name, number + 50)
    assert library.sync() == summary_of(changed=4, embedded=4)
    assert [hit.path for hit in library.search(vector_of(library, names[1]), 1)] == [names[1]]


# What cannot be read


def _bomb_png() -> bytes:
    """A few bytes that claim to be a picture of 60,000 x 60,000."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def test_bad_files_of_every_kind_are_listed_and_the_good_one_is_indexed(tmp_path: Path, own: Embedder) -> None:
    whole = make_picture(tmp_path / "good.png", 1).read_bytes()
    noise = np.random.default_rng(0).bytes(3000)
    pdf = make_pdf(tmp_path / "truncated.pdf", 1, 2).read_bytes()
    clip = (ROOT / "samples" / "clips" / "dog_left.mp4").read_bytes()
    bad = {
        "bomb.png": _bomb_png(),
        "truncated.png": whole[: len(whole) // 2],
        "truncated.pdf": pdf[: len(pdf) // 2],
        "truncated.mp4": clip[: len(clip) // 2],
    }
    for ending in ("jpg", "webp", "mp4", "mkv", "pdf"):
        bad |= {f"empty.{ending}": b"", f"noise.{ending}": noise, f"text.{ending}": b"only words\n"}
    for name, content in bad.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "dead.jpg").symlink_to("nowhere.jpg")
    os.mkfifo(tmp_path / "pipe.pdf")
    library = Library.open(tmp_path, model=own)
    summary = library.sync()
    assert [path for path, _ in summary.failed] == sorted([*bad, "dead.jpg", "pipe.pdf"])
    assert all(reason and "\n" not in reason for _, reason in summary.failed)
    assert (summary.added, summary.embedded, paths_of(library)) == (1, 1, ["good.png"])
    # They are tried again, for a reader of the summary must not think them mended.
    assert library.sync().failed == summary.failed


def test_reasons_name_the_cause(tmp_path: Path, own: Embedder) -> None:
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "bomb.png").write_bytes(_bomb_png())
    reasons = dict(Library.open(tmp_path, model=own).sync().failed)
    assert "empty" in reasons["empty.jpg"]
    assert "60000 x 60000" in reasons["bomb.png"]


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="the superuser may read every file")
def test_a_file_without_permission_is_listed(tmp_path: Path, own: Embedder) -> None:
    make_picture(tmp_path / "closed.png", 1).chmod(0)
    summary = Library.open(tmp_path, model=own).sync()
    assert summary == summary_of(failed=(("closed.png", "permission denied"),))


def test_a_file_that_breaks_leaves_the_index_and_comes_back_mended(three: Library, own: Embedder) -> None:
    good = (three.folder / "1.png").read_bytes()
    (three.folder / "1.png").write_bytes(b"broken")
    summary = three.sync()
    assert ([path for path, _ in summary.failed], summary.removed, paths_of(three)) == (
        ["1.png"],
        0,
        ["0.png", "2.png"],
    )
    (three.folder / "1.png").write_bytes(good)
    assert three.sync() == summary_of(added=1, unchanged=2, embedded=1)


class _FailingOnce:
    """An embedder that cannot read page 2, until it can."""

    def __init__(self, real: Embedder) -> None:
        self.real, self.broken = real, True
        self.name, self.dim, self.dtype, self.fingerprint = real.name, real.dim, real.dtype, real.fingerprint
        self.encode_query = real.encode_query

    def stream(self, items, ask, **options):  # type: ignore[no-untyped-def]
        for position, item in enumerate(items):
            if self.broken and item.media[0].page == 2:
                yield position, MediaError("page 2 is damaged")
            else:
                yield position, self.real.encode_document(item)


def test_a_pdf_with_a_bad_page_is_searched_by_its_others_and_only_the_bad_one_is_tried_again(
    tmp_path: Path, own: Embedder
) -> None:
    make_pdf(tmp_path / "a.pdf", 10, 120, 250)
    shutil.copy(tmp_path / "a.pdf", tmp_path / "b.pdf")
    embedder = _FailingOnce(own)
    library = Library.open(tmp_path, model=embedder)  # type: ignore[arg-type]
    reason = "page 2 is damaged (1 of its 3 parts failed)"
    failed = (("a.pdf", reason), ("b.pdf", reason))
    assert library.sync() == summary_of(embedded=2, failed=failed)
    stored = stored_rows(library, "a.pdf", "b.pdf")
    assert [[unit.page for unit in rows.units] for rows in stored] == [[1, 3], [1, 3]]
    assert library.sync() == summary_of(failed=failed)
    embedder.broken = False
    assert library.sync() == summary_of(changed=2, embedded=1)
    assert library.counts() == {"page": 6}
