"""How an index knows that a file is as it was, remembers what cannot be read, and takes over older indexes."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from support.cli_runs import Result, write_model
from support.index_folders import make_pdf, make_picture, paths_of, summary_of, vector_of
from support.places import DATA
from vlm2vec.errors import MediaError
from vlm2vec.items import Image
from vlm2vec.media import document, image, video
from vlm2vec.model.embedder import Embedder
from vlm2vec.search.index import Index
from vlm2vec.search.indexing import is_current
from vlm2vec.search.renewing import renew
from vlm2vec.search.rows import StoredFile
from vlm2vec.search.scan import FoundFile, scan_folder
from vlm2vec.search.searching import search_near
from vlm2vec.search.standing import Failure, Standing, read_failures

OLD = DATA / "old_index"


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A folder with an index that was made before change times, inodes and checksums were stored."""
    folder = tmp_path / "old"
    folder.mkdir()
    for number in range(3):
        shutil.copy(OLD / f"{number}.png", folder)
        os.utime(folder / f"{number}.png", ns=(10**18 + number, 10**18 + number))
    shutil.copy(OLD / "two.pdf", folder)
    os.utime(folder / "two.pdf", ns=(10**18, 10**18))
    shutil.copytree(OLD / "dot_vlm2vec", folder / ".vlm2vec")
    return folder


# Files that were replaced


def test_a_file_replaced_under_its_old_size_and_time_is_seen_and_one_of_equal_content_is_not_embedded(
    three: Index, own: Embedder
) -> None:
    path = three.folder / "1.png"
    status = path.stat()
    other = make_picture(three.folder.parent / f"{three.folder.name}-other.png", 200)
    assert other.stat().st_size == status.st_size
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    os.replace(other, path)
    assert not is_current(three)
    assert search_near(three, Image(path)) is None
    assert three.add(embedder=own) == summary_of(changed=1, unchanged=2, embedded=1)
    np.testing.assert_allclose(vector_of(three, "1.png"), own.encode_document(Image(path)), atol=2e-6)
    shutil.copy2(path, other)
    os.replace(other, path)
    assert not is_current(three)
    assert three.add(embedder=own) == summary_of(unchanged=3)
    assert is_current(three)


def test_a_file_written_in_place_under_its_old_time_is_seen(three: Index, own: Embedder) -> None:
    path = three.folder / "1.png"
    status = path.stat()
    make_picture(path, 200)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert three.add(embedder=own) == summary_of(changed=1, unchanged=2, embedded=1)


def test_a_copied_folder_is_read_again_but_not_embedded(
    three: Index, own: Embedder, tmp_path_factory: pytest.TempPathFactory
) -> None:
    copied = Path(shutil.copytree(three.folder, tmp_path_factory.mktemp("other") / "copied"))
    index = Index.open(copied)
    assert index.add(embedder=own) == summary_of(unchanged=3)
    assert is_current(index)


@pytest.mark.parametrize(
    ("num_moved", "num_seen"), [(0, 0), (1, 1), (5, 5), (6, 0), (10, 0)], ids=lambda number: str(number)
)
def test_inodes_do_not_count_where_most_files_have_another_one(num_moved: int, num_seen: int) -> None:
    stored = {f"{n}.png": StoredFile(1, 2, "h", 1, 1, 3, n) for n in range(10)}
    found = [FoundFile(f"{n}.png", "image", 1, 2, 3, n + 100 * (n < num_moved)) for n in range(10)]
    standing = Standing(stored, {}, found)
    assert sum(not standing.is_current(file) for file in found) == num_seen


@pytest.mark.parametrize("changed", ["size", "mtime_ns", "ctime_ns", "inode"])
def test_a_file_is_current_only_if_all_of_its_look_is_as_it_was(changed: str) -> None:
    file = FoundFile("a.png", "image", 1, 2, 3, 4)
    standing = Standing({"a.png": StoredFile(1, 2, "h", 1, 1, 3, 4)}, {"a.png": Failure("", (1, 2, 3, 4))}, [file])
    assert (standing.is_current(file), standing.has_failed(file)) == (True, True)
    other = file._replace(**{changed: 9})
    standing = Standing({"a.png": StoredFile(1, 2, "h", 1, 1, 3, 4)}, {"a.png": Failure("", (1, 2, 3, 4))}, [other])
    assert (standing.is_current(other), standing.has_failed(other)) == (False, False)


# Files that cannot be read


def test_unreadable_files_are_told_once_and_cost_nothing_until_they_change(three: Index, own: Embedder) -> None:
    bad = three.folder / "bad.png"
    bad.write_bytes(b"words")
    (three.folder / "dead.jpg").symlink_to("nowhere")
    first = three.add(embedder=own, retry=False)
    assert [path for path, _ in first.failed] == ["bad.png", "dead.jpg"]
    assert is_current(three)
    assert three.add(embedder=own, retry=False) == summary_of(unchanged=3, failed_before=2)
    # Asked for by name, they are tried again.
    assert three.add(embedder=own) == summary_of(unchanged=3, failed=first.failed)
    os.chmod(bad, 0o600)
    assert not is_current(three)
    again = three.add(embedder=own, retry=False)
    assert again == summary_of(unchanged=3, failed=first.failed[:1], failed_before=1)
    make_picture(bad, 7)
    assert three.add(embedder=own, retry=False) == summary_of(added=1, unchanged=3, embedded=1, failed_before=1)
    (three.folder / "dead.jpg").unlink()
    assert three.add(embedder=own, retry=False) == summary_of(unchanged=4)
    assert read_failures(three.path) == {}


def test_what_failed_elsewhere_is_kept_when_only_some_files_are_looked_at(three: Index, own: Embedder) -> None:
    for name in ("a/bad.png", "b/bad.png"):
        (three.folder / name).parent.mkdir()
        (three.folder / name).write_bytes(b"words")
    three.add(embedder=own)
    make_picture(three.folder / "a" / "bad.png", 7)
    three.add([three.folder / "a"], embedder=own)
    assert list(read_failures(three.path)) == ["b/bad.png"]


def test_a_pdf_with_a_bad_page_is_told_once(tmp_path: Path, own: Embedder) -> None:
    class BadPage:
        """An embedder that cannot read page 2."""

        name, dim, dtype, fingerprint = own.name, own.dim, own.dtype, own.fingerprint

        def stream(self, items, ask, **options):  # type: ignore[no-untyped-def]
            for position, item in enumerate(items):
                bad = item.media[0].page == 2
                yield position, MediaError("page 2 is damaged") if bad else own.encode_document(item)

    make_pdf(tmp_path / "a.pdf", 10, 120)
    index = Index.create(tmp_path, embedder=own)
    embedder = BadPage()
    reason = "page 2 is damaged (1 of its 2 parts failed)"
    assert index.add(embedder=embedder) == summary_of(embedded=1, failed=(("a.pdf", reason),))  # type: ignore[arg-type]
    assert is_current(index)
    assert index.add(embedder=embedder, retry=False) == summary_of(failed_before=1)  # type: ignore[arg-type]


def test_trouble_of_the_system_is_no_lasting_failure(
    three: Index, own: Embedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(path: Path, file: object) -> str:
        raise OSError(5, "Input/output error")

    make_picture(three.folder / "3.png", 3)
    with monkeypatch.context() as patch:
        patch.setattr("vlm2vec.search.indexing._hash_file", broken)
        assert three.add(embedder=own).failed == (("3.png", "input/output error"),)
    assert three.add(embedder=own, retry=False) == summary_of(added=1, unchanged=3, embedded=1)


def test_each_of_two_equal_unreadable_files_has_its_own_name_in_its_reason(tmp_path: Path, own: Embedder) -> None:
    content = make_picture(tmp_path / "a.png", 1).read_bytes()[:60]
    for name in ("a.png", "b.png", "c d.png"):
        (tmp_path / name).write_bytes(content)
    failed = Index.create(tmp_path, embedder=own).add(embedder=own).failed
    assert [path for path, _ in failed] == ["a.png", "b.png", "c d.png"]
    (reason,) = {reason for _, reason in failed}
    assert reason.startswith("cannot be read as an image")
    assert str(tmp_path) not in reason


def test_a_search_tells_of_unreadable_files_once(tmp_path: Path) -> None:
    model = write_model(tmp_path / "tiny")
    folder = tmp_path / "files"
    make_picture(folder / "0.png", 0)
    (folder / "bad.png").write_bytes(b"words")
    first = Result("search", "a square", folder, "--model", model)
    note = f"1 file could not be read; 'vlm2vec index {folder}' says why\n"
    assert first.err == f"index: 1 added\n{note}"
    assert Result("search", "a square", folder).err == ""
    (folder / "worse.png").write_bytes(b"other words")
    assert Result("search", "a square", folder).err == note
    told = Result("index", folder)
    assert [line.split(": ")[1] for line in told.err.splitlines()] == ["bad.png", "worse.png"]


# Indexes of earlier releases


def test_an_older_index_is_opened_searched_and_updated_without_embedding_anything_anew(
    old: Path, own: Embedder
) -> None:
    vectors = np.load(OLD / "vectors.npy")
    index = Index.open(old)
    assert (index.decoding, paths_of(index)) == (1, ["0.png", "1.png", "2.png", "two.pdf"])
    assert [(hit.path, hit.page) for hit in index.search(vectors[4], 2)][:1] == [("two.pdf", 2)]
    near = search_near(index, Image(old / "1.png"), 1)
    assert near is not None
    assert near[0].path == "1.png"
    assert index.add(embedder=own) == summary_of(unchanged=4)
    reopened = Index.open(old)
    assert reopened.decoding == 2
    assert is_current(reopened)
    rows = sorted(reopened.table.rows(paths_of(reopened)), key=lambda row: (row.path, row.page or 0))
    np.testing.assert_array_equal(np.stack([row.vector for row in rows]), vectors)
    # From now on, what is not seen by size and time is seen.
    make_picture(old / "1.png", 200)
    os.utime(old / "1.png", ns=(10**18 + 1, 10**18 + 1))
    assert reopened.add(embedder=own) == summary_of(changed=1, unchanged=3, embedded=1)


def test_files_that_come_out_otherwise_now_are_embedded_anew_once_and_found_until_then(
    old: Path, own: Embedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def shown_otherwise(path: Path) -> bool:
        asked.append(path.name)
        return path.name in ("1.png", "two.pdf")

    for module in (image, video, document):
        monkeypatch.setattr(module, "shown_otherwise", shown_otherwise, raising=False)

    index = Index.open(old)
    renew(index, scan_folder(old))
    assert asked == ["0.png", "1.png", "2.png", "two.pdf"]
    reopened = Index.open(old)
    assert [hit.path for hit in reopened.search(np.load(OLD / "vectors.npy")[1], 1)] == ["1.png"]
    assert reopened.counts() == {"image": 3, "page": 2}
    assert not is_current(reopened)
    assert reopened.add(embedder=own) == summary_of(changed=2, unchanged=2, embedded=3)
    assert is_current(reopened)
    assert len(asked) == 4


def test_a_run_that_is_killed_while_it_asks_asks_again(
    old: Path, own: Embedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(path: Path) -> bool:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(image, "shown_otherwise", killed, raising=False)
        with pytest.raises(KeyboardInterrupt):
            Index.open(old).add(embedder=own)
    assert Index.open(old).decoding == 1
    for module in (image, video, document):
        monkeypatch.setattr(module, "shown_otherwise", lambda path: path.name == "0.png", raising=False)
    assert Index.open(old).add(embedder=own) == summary_of(changed=1, unchanged=3, embedded=1)
    assert Index.open(old).decoding == 2
