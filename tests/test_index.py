"""What an index promises: only changes are embedded, nothing is lost or stale, nothing crashes it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PILImage

from golden_cases import MODEL
from vlm2vec.errors import IndexFolderError, InputError, MediaError, NotWritableError
from vlm2vec.items import Image, Item
from vlm2vec.model.embedder import Embedder
from vlm2vec.search.index import Hit, Index
from vlm2vec.search.indexing import Summary, is_current
from vlm2vec.search.lock import writing
from vlm2vec.search.searching import open_index, search
from vlm2vec.search.table import Row, StoredFile, UnitTable


def _picture(path: Path, number: int) -> Path:
    """A small picture like no other with another number."""
    path.parent.mkdir(parents=True, exist_ok=True)
    colour = (number % 256, number // 256 % 256, 77)
    PILImage.new("RGB", (28, 28), colour).save(path)
    return path


def _pdf(path: Path, *numbers: int) -> Path:
    pages = [PILImage.new("RGB", (56, 56), (number, 200, 10)) for number in numbers]
    pages[0].save(path, save_all=True, append_images=pages[1:])
    return path


def _summary(
    *,
    added: int = 0,
    changed: int = 0,
    removed: int = 0,
    unchanged: int = 0,
    embedded: int = 0,
    ignored: int = 0,
    failed: tuple[tuple[str, str], ...] = (),
) -> Summary:
    return Summary(added, changed, removed, unchanged, embedded, ignored, failed)


@pytest.fixture
def three(tmp_path: Path, own: Embedder) -> Index:
    """An index of three pictures."""
    for number in range(3):
        _picture(tmp_path / f"{number}.png", number)
    index = Index.create(tmp_path, embedder=own)
    assert index.add(embedder=own) == _summary(added=3, embedded=3)
    return index


def _grow_at_the_same_time(folder: Path) -> None:
    path = folder / "1.png"
    time_ns = path.stat().st_mtime_ns
    path.write_bytes(path.read_bytes() + b"more")
    os.utime(path, ns=(time_ns, time_ns))


def _paths(index: Index) -> list[str]:
    return sorted(index.table.files())


def _vector(index: Index, path: str) -> np.ndarray:
    (row,) = index.table.rows([path])
    return row.vector


# What is embedded


def test_of_two_thousand_files_only_the_changed_one_is_embedded(tmp_path: Path, own: Embedder) -> None:
    for number in range(2000):
        _picture(tmp_path / f"{number % 10}" / f"{number}.png", number)
    index = Index.create(tmp_path, embedder=own)
    assert index.add(embedder=own) == _summary(added=2000, embedded=2000)
    _picture(tmp_path / "7" / "1357.png", 5000)
    reopened = Index.open(tmp_path)
    assert reopened.add(embedder=own) == _summary(changed=1, unchanged=1999, embedded=1)
    np.testing.assert_allclose(
        _vector(reopened, "7/1357.png"), own.encode_document(Image(tmp_path / "7" / "1357.png")), atol=2e-6
    )


def test_new_files_join_and_deleted_ones_leave(three: Index, own: Embedder) -> None:
    _picture(three.folder / "new" / "3.png", 3)
    (three.folder / "0.png").unlink()
    assert three.add(embedder=own) == _summary(added=1, removed=1, unchanged=2, embedded=1)
    assert _paths(three) == ["1.png", "2.png", "new/3.png"]


def test_a_file_whose_time_alone_changed_is_unchanged_and_next_time_costs_no_read(three: Index, own: Embedder) -> None:
    path = three.folder / "1.png"
    os.utime(path, ns=(5, 5))
    assert three.add(embedder=own) == _summary(unchanged=3)
    assert three.table.files()["1.png"].mtime_ns == 5
    # Same size and time: other content goes unnoticed, which proves that the file was not opened.
    path.write_bytes(bytes(path.stat().st_size))
    os.utime(path, ns=(5, 5))
    assert three.add(embedder=own) == _summary(unchanged=3)


def test_equal_content_under_two_paths_is_embedded_once_and_found_twice(tmp_path: Path, own: Embedder) -> None:
    _picture(tmp_path / "b.png", 1)
    shutil.copy(tmp_path / "b.png", tmp_path / "a.png")
    index = Index.create(tmp_path, embedder=own)
    assert index.add(embedder=own) == _summary(added=2, embedded=1)
    shutil.copy(tmp_path / "b.png", tmp_path / "c.png")
    assert index.add(embedder=own) == _summary(added=1, unchanged=2)
    hits = index.search(_vector(index, "b.png"), 2)
    assert [hit.path for hit in hits] == ["a.png", "b.png"]
    assert hits[0].score == hits[1].score == pytest.approx(1, abs=1e-6)


def test_a_renamed_file_is_not_embedded_again(three: Index, own: Embedder) -> None:
    (three.folder / "0.png").rename(three.folder / "renamed.png")
    assert three.add(embedder=own) == _summary(added=1, removed=1, unchanged=2)
    assert _paths(three) == ["1.png", "2.png", "renamed.png"]


def test_two_files_that_trade_places_keep_their_own_vectors(three: Index, own: Embedder) -> None:
    before = {path: _vector(three, path) for path in ("0.png", "1.png")}
    for source, target in (("0.png", "x"), ("1.png", "0.png"), ("x", "1.png")):
        (three.folder / source).rename(three.folder / target)
    os.utime(three.folder / "0.png", ns=(1, 1))
    os.utime(three.folder / "1.png", ns=(2, 2))
    assert three.add(embedder=own) == _summary(changed=2, unchanged=1)
    np.testing.assert_array_equal(_vector(three, "0.png"), before["1.png"])
    np.testing.assert_array_equal(_vector(three, "1.png"), before["0.png"])


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: _picture(folder / "3.png", 3),
        lambda folder: (folder / "1.png").unlink(),
        lambda folder: os.utime(folder / "1.png", ns=(5, 5)),
        lambda folder: (folder / "1.png").rename(folder / "a.png"),
        lambda folder: (folder / "broken.png").symlink_to("nowhere"),
        _grow_at_the_same_time,
    ],
    ids=["new", "deleted", "another time", "renamed", "cannot be read", "another size"],
)
def test_an_index_is_up_to_date_until_anything_in_its_folder_changes(
    three: Index, change: Callable[[Path], object]
) -> None:
    (three.folder / "notes.txt").write_text("words")
    assert is_current(three)
    change(three.folder)
    assert not is_current(three)


def test_what_the_table_knows_of_files_is_told_by_path_with_the_number_of_their_rows(tmp_path: Path) -> None:
    half = np.array([0.6, 0.8], np.float32)
    odd = "a/\udcff's.pdf"
    index = _index_of_rows(
        tmp_path,
        Row(odd, "page", 1, None, 3, "hash1", 10, 20, half),
        Row("0.png", "image", None, None, 1, "hash2", 30, 2**62, half),
        Row(odd, "page", 3, None, 3, "hash1", 10, 20, half),
    )
    assert index.table.files() == {
        odd: StoredFile(10, 20, "hash1", num_units=3, num_rows=2),
        "0.png": StoredFile(30, 2**62, "hash2", num_units=1, num_rows=1),
    }


def test_a_pdf_is_found_by_page(tmp_path: Path, own: Embedder) -> None:
    path = _pdf(tmp_path / "three.pdf", 10, 120, 250)
    index = Index.create(tmp_path, embedder=own)
    assert index.add(embedder=own) == _summary(added=1, embedded=3)
    (hit,) = index.search(own.encode_document(Image(path, page=2)), 1)
    assert (hit.path, hit.kind, hit.page, hit.place) == ("three.pdf", "page", 2, "page 2")


def test_chosen_files_and_folders_are_brought_up_to_date_alone(three: Index, own: Embedder) -> None:
    _picture(three.folder / "a" / "3.png", 3)
    _picture(three.folder / "b" / "4.png", 4)
    _picture(three.folder / "5.png", 5)
    (three.folder / "0.png").unlink()
    summary = three.add([three.folder / "a", three.folder / "5.png", three.folder / "no.png"], embedder=own)
    assert summary == _summary(added=2, embedded=2, failed=(("no.png", "no such file or directory"),))
    assert _paths(three) == ["0.png", "1.png", "2.png", "5.png", "a/3.png"]
    with pytest.raises(IndexFolderError, match="is not inside"):
        three.add([three.folder / ".." / "other.png"], embedder=own)


def test_removed_files_and_folders_are_no_longer_found(three: Index, own: Embedder) -> None:
    _picture(three.folder / "a" / "3.png", 3)
    three.add(embedder=own)
    assert three.remove([three.folder / "a", three.folder / "1.png"]) == 2
    assert _paths(three) == ["0.png", "2.png"]


def test_names_with_quotes_stray_bytes_and_line_breaks_are_kept(tmp_path: Path, own: Embedder) -> None:
    names = ["it's; DROP TABLE--.png", os.fsdecode(b"caf\xe9.png"), "line\nbreak.png", "雪.png"]
    for number, name in enumerate(names):
        _picture(tmp_path / name, number)
    index = Index.create(tmp_path, embedder=own)
    index.add(embedder=own)
    assert _paths(index) == sorted(names)
    for number, name in enumerate(names):
        _picture(tmp_path / name, number + 50)
    assert index.add(embedder=own) == _summary(changed=4, embedded=4)
    assert [hit.path for hit in index.search(_vector(index, names[1]), 1)] == [names[1]]


# What cannot be read


def _bomb_png() -> bytes:
    """A few bytes that claim to be a picture of 60,000 x 60,000."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def test_bad_files_of_every_kind_are_listed_and_the_good_one_is_indexed(tmp_path: Path, own: Embedder) -> None:
    whole = _picture(tmp_path / "good.png", 1).read_bytes()
    noise = np.random.default_rng(0).bytes(3000)
    pdf = _pdf(tmp_path / "truncated.pdf", 1, 2).read_bytes()
    clip = (Path(__file__).parents[1] / "samples" / "clips" / "dog_left.mp4").read_bytes()
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
    index = Index.create(tmp_path, embedder=own)
    summary = index.add(embedder=own)
    assert [path for path, _ in summary.failed] == sorted([*bad, "dead.jpg", "pipe.pdf"])
    assert all(reason and "\n" not in reason for _, reason in summary.failed)
    assert (summary.added, summary.embedded, _paths(index)) == (1, 1, ["good.png"])
    # They are tried again, for a reader of the summary must not think them mended.
    assert index.add(embedder=own).failed == summary.failed


def test_reasons_name_the_cause(tmp_path: Path, own: Embedder) -> None:
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "bomb.png").write_bytes(_bomb_png())
    reasons = dict(Index.create(tmp_path, embedder=own).add(embedder=own).failed)
    assert "empty" in reasons["empty.jpg"]
    assert "60000 x 60000" in reasons["bomb.png"]


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="the superuser may read every file")
def test_a_file_without_permission_is_listed(tmp_path: Path, own: Embedder) -> None:
    _picture(tmp_path / "closed.png", 1).chmod(0)
    summary = Index.create(tmp_path, embedder=own).add(embedder=own)
    assert summary == _summary(failed=(("closed.png", "permission denied"),))


def test_a_file_that_breaks_leaves_the_index_and_comes_back_mended(three: Index, own: Embedder) -> None:
    good = (three.folder / "1.png").read_bytes()
    (three.folder / "1.png").write_bytes(b"broken")
    summary = three.add(embedder=own)
    assert ([path for path, _ in summary.failed], summary.removed, _paths(three)) == (["1.png"], 0, ["0.png", "2.png"])
    (three.folder / "1.png").write_bytes(good)
    assert three.add(embedder=own) == _summary(added=1, unchanged=2, embedded=1)


class _FailingOnce:
    """An embedder that cannot read page 2, until it can."""

    def __init__(self, real: Embedder) -> None:
        self.real, self.broken = real, True
        self.name, self.dim, self.fingerprint = real.name, real.dim, real.fingerprint

    def stream(self, items, **options):  # type: ignore[no-untyped-def]
        for position, item in enumerate(items):
            if self.broken and item.media[0].page == 2:
                yield position, MediaError("page 2 is damaged")
            else:
                yield position, self.real.encode_document(item)


def test_a_pdf_with_a_bad_page_is_searched_by_its_others_and_only_the_bad_one_is_tried_again(
    tmp_path: Path, own: Embedder
) -> None:
    _pdf(tmp_path / "a.pdf", 10, 120, 250)
    shutil.copy(tmp_path / "a.pdf", tmp_path / "b.pdf")
    embedder = _FailingOnce(own)
    index = Index.create(tmp_path, embedder=embedder)  # type: ignore[arg-type]
    reason = "page 2 is damaged (1 of its 3 parts failed)"
    failed = (("a.pdf", reason), ("b.pdf", reason))
    assert index.add(embedder=embedder) == _summary(embedded=2, failed=failed)  # type: ignore[arg-type]
    assert [(row.path, row.page) for row in index.table.rows(["a.pdf", "b.pdf"])] == [
        ("a.pdf", 1),
        ("a.pdf", 3),
        ("b.pdf", 1),
        ("b.pdf", 3),
    ]
    assert index.add(embedder=embedder) == _summary(failed=failed)  # type: ignore[arg-type]
    embedder.broken = False
    assert index.add(embedder=embedder) == _summary(changed=2, embedded=1)  # type: ignore[arg-type]
    assert index.counts() == {"page": 6}


# What survives


def test_a_killed_run_leaves_a_usable_index_and_the_next_one_continues(tmp_path: Path, own: Embedder) -> None:
    for number in range(600):
        _picture(tmp_path / f"{number}.png", number)
    script = f"""
from pathlib import Path
from vlm2vec import Embedder, Index
embedder = Embedder.load({str(MODEL)!r}, prompt_style="qwen2-vl", device="cpu")
index = Index.create(Path({str(tmp_path)!r}), embedder=embedder)
index.add(embedder=embedder, progress=lambda done, total: print(done, flush=True))
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if int(line) == 300:
                process.send_signal(signal.SIGKILL)
                break
    assert process.returncode == -signal.SIGKILL
    index = Index.open(tmp_path)
    done = index.counts()["image"]
    assert 256 <= done < 600
    assert len(index.search(_vector(index, _paths(index)[0]), 5)) == 5
    assert index.add(embedder=own) == _summary(added=600 - done, unchanged=done, embedded=600 - done)
    assert index.counts() == {"image": 600}


def test_an_interrupted_run_keeps_what_is_done(tmp_path: Path, own: Embedder) -> None:
    for number in range(40):
        _picture(tmp_path / f"{number}.png", number)
    index = Index.create(tmp_path, embedder=own)

    def stop(done: int, total: int) -> None:
        assert total == 40
        if done == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        index.add(embedder=own, progress=stop)
    assert index.counts() == {"image": 7}


def test_only_one_writer_at_a_time(three: Index, own: Embedder) -> None:
    with writing(three.path):
        with pytest.raises(NotWritableError, match=f"is being written by process {os.getpid()}; wait"):
            three.add(embedder=own)
        assert len(three.search(_vector(three, "0.png"), 3)) == 3
    assert three.add(embedder=own) == _summary(unchanged=3)


def test_another_process_sees_what_was_added_since_it_opened_the_index(three: Index, own: Embedder) -> None:
    reader = Index.open(three.folder)
    _picture(three.folder / "3.png", 3)
    three.add(embedder=own)
    assert reader.counts() == {"image": 4}


def test_many_commits_are_merged(tmp_path: Path) -> None:
    table = UnitTable.create(tmp_path, dim=2, fingerprint="f")
    for number in range(60):
        vector = np.array([1, 0], dtype=np.float32)
        table.replace([], [Row(f"{number}.png", "image", None, None, 1, "h", 1, 1, vector)])
    assert len(list((tmp_path / "units.lance" / "data").iterdir())) == 60
    table.tidy()
    reopened = UnitTable.open(tmp_path, dim=2, fingerprint="f")
    assert reopened.count("image") == 60
    reopened.tidy()
    assert len(reopened.files()) == 60


def test_a_folder_may_be_moved_with_its_index(
    three: Index, own: Embedder, tmp_path_factory: pytest.TempPathFactory
) -> None:
    moved = tmp_path_factory.mktemp("other") / "moved"
    three.folder.rename(moved)
    assert Index.open(moved).add(embedder=own) == _summary(unchanged=3)
    assert Index.open(path=moved / ".vlm2vec").folder == moved.resolve()


def test_an_index_elsewhere_belongs_to_its_folder(tmp_path: Path, own: Embedder) -> None:
    _picture(tmp_path / "a" / "0.png", 0)
    (tmp_path / "b").mkdir()
    place = tmp_path / "a" / "index"
    index = Index.create(tmp_path / "a", embedder=own, path=place)
    assert index.add(embedder=own) == _summary(added=1, embedded=1)
    assert Index.open(path=place).folder == (tmp_path / "a").resolve()
    with pytest.raises(IndexFolderError, match=r"was made for the folder .*/a, not for .*/b; "):
        Index.open(tmp_path / "b", path=place)


def test_a_folder_with_other_things_is_not_made_an_index(tmp_path: Path, own: Embedder) -> None:
    _picture(tmp_path / "0.png", 0)
    with pytest.raises(IndexFolderError, match="holds other things than an index"):
        Index.create(tmp_path, embedder=own, path=tmp_path)
    assert os.listdir(tmp_path) == ["0.png"]


# What is refused


def test_another_model_is_refused_with_the_ways_out(three: Index, published: Embedder) -> None:
    with pytest.raises(IndexFolderError) as caught:
        three.add(embedder=published)
    assert str(caught.value) == (
        f"the index {three.path} was made by the model '{MODEL}' ({three.fingerprint[:8]}), and this is "
        f"'{MODEL}' ({published.fingerprint[:8]}) (the same name, but its weights or settings have changed): their "
        "vectors cannot be compared. Make the index anew with 'vlm2vec index --rebuild', keep a second one elsewhere "
        f"with --index PATH, or use the first model with --model '{MODEL}'"
    )
    with pytest.raises(IndexFolderError, match="cannot be compared"):
        search(three, published, Item(text="x"))


def test_a_missing_index_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(IndexFolderError, match=r"there is no index at .*; 'vlm2vec index FOLDER' makes one"):
        Index.open(tmp_path)


@pytest.mark.parametrize("damage", ["json", "fields", "table", "manifests", "data"])
def test_a_damaged_index_says_how_to_mend_it_and_can_be_made_anew(three: Index, own: Embedder, damage: str) -> None:
    info, table = three.path / "index.json", three.path / "units.lance"
    if damage == "json":
        info.write_text("{")
    elif damage == "fields":
        info.write_text(json.dumps({"format": 1, "model": 3}))
    elif damage == "table":
        shutil.rmtree(table)
    else:
        for path in (table / {"manifests": "_versions", "data": "data"}[damage]).iterdir():
            os.truncate(path, 40)
    with pytest.raises(IndexFolderError, match=r"'vlm2vec index --rebuild' makes it anew$"):
        Index.open(three.folder).search(np.ones(three.dim, dtype=np.float32))
    assert Index.create(three.folder, embedder=own).add(embedder=own) == _summary(added=3, embedded=3)


def test_an_index_of_a_newer_format_is_refused(three: Index) -> None:
    info = json.loads((three.path / "index.json").read_text())
    (three.path / "index.json").write_text(json.dumps(info | {"format": 2}))
    with pytest.raises(IndexFolderError, match="has format 2, and this version of vlm2vec knows up to 1; use a newer"):
        Index.open(three.folder)


def test_wrong_questions_are_refused(three: Index) -> None:
    good = np.ones(three.dim, dtype=np.float32)
    for vector in (good[:-1], good * 0, good * np.nan):
        with pytest.raises(InputError, match=f"this index needs {three.dim} finite numbers"):
            three.search(vector)
    with pytest.raises(InputError, match="k is 0"):
        three.search(good, 0)
    with pytest.raises(InputError, match="no kind 'text': use image, video, page"):
        three.search(good, kind="text")  # type: ignore[arg-type]


# What is found


def test_scores_are_cosines_and_ties_go_by_path_page_and_span(tmp_path: Path) -> None:
    index = _index_of_rows(
        tmp_path,
        Row("b.pdf", "page", 2, None, 2, "h", 1, 1, np.array([0.6, 0.8], np.float32)),
        Row("b.pdf", "page", 1, None, 2, "h", 1, 1, np.array([0.6, 0.8], np.float32)),
        Row("c.mp4", "video", None, (30.0, 60.0), 2, "h", 1, 1, np.array([0.6, 0.8], np.float32)),
        Row("c.mp4", "video", None, (0.0, 30.0), 2, "h", 1, 1, np.array([0.6, 0.8], np.float32)),
        Row("a.png", "image", None, None, 1, "h", 1, 1, np.array([0, 1], np.float32)),
        Row("d.png", "image", None, None, 1, "h", 1, 1, np.array([1, 0], np.float32)),
    )
    hits = index.search(np.array([2, 0], np.float32), 6)
    assert [(hit.path, hit.page, hit.span_s, round(hit.score, 6)) for hit in hits] == [
        ("d.png", None, None, 1.0),
        ("b.pdf", 1, None, 0.6),
        ("b.pdf", 2, None, 0.6),
        ("c.mp4", None, (0.0, 30.0), 0.6),
        ("c.mp4", None, (30.0, 60.0), 0.6),
        ("a.png", None, None, 0.0),
    ]
    assert index.search(np.array([2, 0], np.float32), 2) == hits[:2]
    assert index.search(np.array([2, 0], np.float32), 1, kind="video") == hits[3:4]
    assert [hit.place for hit in hits] == ["", "page 1", "page 2", "0:00-0:30", "0:30-1:00", ""]


def test_ties_are_broken_by_path_among_any_number_of_equal_files(tmp_path: Path) -> None:
    vector = np.array([1, 0], np.float32)
    numbers = np.random.default_rng(1).permutation(200)
    index = _index_of_rows(
        tmp_path, *(Row(f"{number:03}.png", "image", None, None, 1, "h", 1, 1, vector) for number in numbers)
    )
    assert [hit.path for hit in index.search(vector, 3)] == ["000.png", "001.png", "002.png"]


def test_a_late_moment_of_a_film_shows_its_hours() -> None:
    assert Hit("a.mp4", "video", 1.0, None, (3690.0, 3719.6)).place == "1:01:30-1:02:00"


def test_a_question_without_a_kind_carries_no_instruction_and_one_with_a_kind_carries_its(
    tmp_path: Path, own: Embedder
) -> None:
    _picture(tmp_path / "0.png", 0)
    _pdf(tmp_path / "a.pdf", 100, 200)
    index = Index.create(tmp_path, embedder=own)
    index.add(embedder=own)
    query = Item(text="a red square")
    assert search(index, own, query) == index.search(own.encode(query))
    assert search(index, own, query, 1) == search(index, own, query)[:1]
    of_pages = index.search(own.encode_query(query, target="page"), kind="page")
    assert search(index, own, query, kind="page") == of_pages
    instructed = Item(text="a red square", instruction="Find a drawing:")
    assert search(index, own, instructed) == index.search(own.encode(instructed))


def test_a_picture_finds_itself(three: Index, own: Embedder) -> None:
    vector = own.encode_document(Image(three.folder / "2.png"))
    assert three.search(vector, 1)[0].path == "2.png"


def test_opening_makes_an_index_once_and_remembers_its_model(tmp_path: Path, own: Embedder) -> None:
    model = tmp_path / "model"
    shutil.copytree(MODEL, model)
    (model / "vlm2vec.json").write_text(json.dumps({"prompt_style": "qwen2-vl"}))
    folder = tmp_path / "folder"
    _picture(folder / "0.png", 0)
    index, embedder = open_index(folder, model=str(model))
    index.add(embedder=embedder)
    again, same = open_index(folder)
    assert (again.counts(), same.name, same.fingerprint) == ({"image": 1}, str(model), embedder.fingerprint)
    anew, _ = open_index(folder, rebuild=True)
    assert (anew.counts(), anew.model) == ({}, str(model))


def _index_of_rows(folder: Path, *rows: Row) -> Index:
    table = UnitTable.create(folder, dim=2, fingerprint="f")
    table.replace([], rows)
    return Index(folder, folder, model="m", fingerprint="f", dim=2, table=table)
