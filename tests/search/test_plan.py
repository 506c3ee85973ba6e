"""How it is known what has to be done: files that are as they were, that failed, or that come out otherwise now."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from support.cli_runs import Result, write_model
from support.index_folders import (
    is_up_to_date,
    make_pdf,
    make_picture,
    stored_files,
    summary_of,
    vector_of,
)
from vlm2vec.errors import MediaError
from vlm2vec.files import content_hash
from vlm2vec.items import Image
from vlm2vec.media import document, image, video
from vlm2vec.model.embedder import Embedder
from vlm2vec.search.contents import ContentHolders, content_of
from vlm2vec.search.library import Library
from vlm2vec.search.plan import UpdatePlan, as_stored, make_plan
from vlm2vec.search.scan import FoundFile, Scan
from vlm2vec.search.store import DEFAULT_NAME, UNKNOWN, Failure, FileRows, IndexInfo, Look, StoredFile, StoredUnit
from vlm2vec.search.stores import create_store

LOOK = Look(1, 2, 3, 4)


def _stored(look: Look = LOOK, content_hash: str = "h", num_stored: int = 1) -> StoredFile:
    return StoredFile(look, content_hash, 1, num_stored)


def _found(path: str, look: Look = LOOK) -> FoundFile:
    return FoundFile(path, "image", look)


def _scan(*files: FoundFile, failed: list[tuple[str, str]] | None = None, missing: list[str] | None = None) -> Scan:
    return Scan(list(files), failed or [], Counter(), missing or [], [])


# The plan


def test_a_plan_says_what_to_read_remove_and_leave_alone() -> None:
    stored = {
        "as it was.png": _stored(),
        "changed.png": _stored(Look(9, 2, 3, 4)),
        "gone.png": _stored(),
        "in part.png": _stored(num_stored=0),
    }
    found = _scan(*map(_found, ["as it was.png", "changed.png", "in part.png", "new.png"]))
    assert make_plan(found, stored, {}) == UpdatePlan(
        read=(_found("changed.png"), _found("in part.png"), _found("new.png")),
        remove=("gone.png",),
        missing=(),
        refused={},
        looks={},
        keep={},
        num_current=1,
        num_skipped=0,
        idle=False,
    )


def test_of_chosen_files_alone_what_failed_elsewhere_stays_noted() -> None:
    failures = {"a/bad.png": Failure("is bad", Look(5, 5, 5, 5)), "b/bad.png": Failure("is bad", LOOK)}
    plan = make_plan(_scan(_found("a/bad.png")), {"b/0.png": _stored()}, failures, names=["a/bad.png"])
    assert (plan.read, plan.remove, plan.keep) == ((_found("a/bad.png"),), (), {"b/bad.png": failures["b/bad.png"]})


@pytest.mark.parametrize(
    ("names", "removed"),
    [
        (["a"], {"a/1.png", "a/b/2.png"}),
        (["a/b"], {"a/b/2.png"}),
        (["a/1.png", "a/b/2.png", "a/b", "a/1.png"], {"a/1.png", "a/b/2.png"}),
        (["a/0.png"], set()),
        (["a.png/x", "b"], set()),
        ([""], {"a/1.png", "a/b/2.png", "a.png"}),
        (None, {"a/1.png", "a/b/2.png", "a.png"}),
        ([], set()),
    ],
)
def test_stored_files_are_gone_that_lie_under_a_name_and_are_no_longer_there(
    names: list[str] | None, removed: set[str]
) -> None:
    stored = {path: _stored() for path in ("a/0.png", "a/1.png", "a/b/2.png", "a.png")}
    plan = make_plan(_scan(_found("a/0.png")), stored, {}, names=names)
    assert sorted(plan.remove) == sorted(removed)


def test_a_name_is_missing_only_if_it_stands_for_nothing_that_is_stored() -> None:
    stored = {"a/b/0.png": _stored(), "c.png": _stored()}
    names = ["a", "c.png", "typo.png"]
    plan = make_plan(_scan(missing=names), stored, {}, names=names)
    assert (plan.missing, plan.remove) == (("typo.png",), ("c.png", "a/b/0.png"))
    # Nothing has to be done or noted about it.
    assert make_plan(_scan(missing=["typo.png"]), stored, {}, names=["typo.png"]).idle


def test_what_failed_is_tried_again_if_it_has_changed_or_is_asked_for() -> None:
    failures = {
        "same.png": Failure("is bad", LOOK),
        "changed.png": Failure("is bad", Look(9, 2, 3, 4)),
        "link.png": Failure("no such file", None),
        "other reason.png": Failure("no such file", None),
        "gone.png": Failure("is bad", LOOK),
    }
    refused = [("link.png", "no such file"), ("other reason.png", "permission denied")]
    scan = _scan(_found("changed.png"), _found("same.png"), failed=refused)
    plan = make_plan(scan, {}, failures)
    assert plan.read == (_found("changed.png"),)
    assert plan.refused == {"other reason.png": "permission denied"}
    assert plan.keep == {"same.png": failures["same.png"], "link.png": failures["link.png"]}
    assert (plan.num_skipped, plan.idle) == (2, False)
    again = make_plan(scan, {}, failures, retry=True)
    assert (again.read, again.refused, again.keep, again.num_skipped) == (tuple(scan.files), dict(refused), {}, 0)


def test_a_plan_is_idle_only_if_there_is_nothing_to_do_or_to_note() -> None:
    failures = {"bad.png": Failure("is bad", LOOK)}
    stored = {"0.png": _stored()}
    assert make_plan(_scan(_found("0.png"), _found("bad.png")), stored, failures).idle
    # That it is no longer there is to be noted.
    assert not make_plan(_scan(_found("0.png")), stored, failures).idle
    assert not make_plan(_scan(_found("0.png")), {"0.png": _stored(Look(1, 2))}, {}).idle


def test_a_file_in_a_folder_that_cannot_be_listed_is_not_known_to_be_gone() -> None:
    stored = {"away/0.png": _stored(), "away.png": _stored()}
    assert make_plan(_scan(failed=[("away/", "no such file")]), stored, {}).remove == ("away.png",)


# Files that are as they were


@pytest.mark.parametrize(
    ("num_moved", "num_seen"), [(0, 0), (1, 1), (5, 5), (6, 0), (10, 0)], ids=lambda number: str(number)
)
def test_inodes_do_not_count_where_most_files_have_another_one(num_moved: int, num_seen: int) -> None:
    stored = {f"{n}.png": _stored(Look(1, 2, 3, n)) for n in range(10)}
    found = [_found(f"{n}.png", Look(1, 2, 3, n + 100 * (n < num_moved))) for n in range(10)]
    assert len(stored.keys() - as_stored(found, stored)) == num_seen


@pytest.mark.parametrize("changed", ["size", "mtime_ns", "ctime_ns", "inode"])
def test_a_file_is_as_it_was_only_if_all_of_its_look_is(changed: str) -> None:
    stored, failures = {"a.png": _stored()}, {"a.png": Failure("", LOOK)}
    assert as_stored([_found("a.png")], stored) == stored
    assert make_plan(_scan(_found("a.png")), {}, failures).read == ()
    other = _found("a.png", LOOK._replace(**{changed: 9}))
    assert as_stored([other], stored) == {}
    assert make_plan(_scan(other), {}, failures).read == (other,)


def test_what_an_older_index_does_not_know_of_a_file_does_not_count_and_is_noted() -> None:
    stored = {"a.png": _stored(Look(1, 2, UNKNOWN, UNKNOWN)), "b.png": _stored(Look(9, 2, UNKNOWN, UNKNOWN))}
    plan = make_plan(_scan(_found("a.png"), _found("b.png")), stored, {})
    assert (plan.read, plan.looks, plan.num_current) == ((_found("b.png"),), {"a.png": LOOK}, 1)


def test_the_holder_of_a_content_is_the_file_itself_or_else_the_first_that_still_has_it() -> None:
    stored = {name: _stored(content_hash="h") for name in ("c.png", "b.png", "b.jpg", "a.png")}
    stored["part.png"] = _stored(content_hash="h", num_stored=0)
    holders = ContentHolders(stored, ())
    content = content_of("x.png", "image", "h")
    assert (holders.find(content, "c.png"), holders.find(content, "x.png")) == ("c.png", "a.png")
    # A JPEG never moves: what is in it may come out otherwise than under the name of a PNG.
    assert holders.find(content_of("x.jpg", "image", "h"), "x.jpg") == "b.jpg"
    del stored["a.png"]
    stored["b.png"] = _stored(content_hash="other")
    assert holders.find(content, "x.png") == "c.png"
    del stored["c.png"]
    assert holders.find(content, "x.png") is None
    stored["d.png"] = _stored(content_hash="h")
    holders.add("d.png")
    assert holders.find(content, "x.png") == "d.png"


def test_a_file_replaced_under_its_old_size_and_time_is_seen_and_one_of_equal_content_is_not_embedded(
    three: Library, own: Embedder
) -> None:
    path = three.folder / "1.png"
    status = path.stat()
    other = make_picture(three.folder.parent / f"{three.folder.name}-other.png", 200)
    assert other.stat().st_size == status.st_size
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    before = vector_of(three, "1.png")
    os.replace(other, path)
    assert not is_up_to_date(three)
    # It is asked for as it is now.
    assert three.search(path, 3) == three.search(own.encode(path), 3) != three.search(before, 3)
    assert three.sync() == summary_of(changed=1, unchanged=2, embedded=1)
    np.testing.assert_allclose(vector_of(three, "1.png"), own.encode_document(Image(path)), atol=2e-6)
    shutil.copy2(path, other)
    os.replace(other, path)
    assert not is_up_to_date(three)
    assert three.sync() == summary_of(unchanged=3)
    assert is_up_to_date(three)


def test_a_file_written_in_place_under_its_old_time_is_seen(three: Library) -> None:
    path = three.folder / "1.png"
    status = path.stat()
    make_picture(path, 200)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert three.sync() == summary_of(changed=1, unchanged=2, embedded=1)


def test_a_copied_folder_is_read_again_but_not_embedded(
    three: Library, tmp_path_factory: pytest.TempPathFactory
) -> None:
    copied = Path(shutil.copytree(three.folder, tmp_path_factory.mktemp("other") / "copied"))
    library = Library.open(copied)
    assert library.sync() == summary_of(unchanged=3)
    assert is_up_to_date(library)


# Files that cannot be read


def test_unreadable_files_are_told_once_and_cost_nothing_until_they_change(three: Library) -> None:
    bad = three.folder / "bad.png"
    bad.write_bytes(b"words")
    (three.folder / "dead.jpg").symlink_to("nowhere")
    first = three.sync(retry=False)
    assert [path for path, _ in first.failed] == ["bad.png", "dead.jpg"]
    assert is_up_to_date(three)
    assert three.sync(retry=False) == summary_of(unchanged=3, failed_before=2)
    # Asked for by name, they are tried again.
    assert three.sync() == summary_of(unchanged=3, failed=first.failed)
    os.chmod(bad, 0o600)
    assert not is_up_to_date(three)
    again = three.sync(retry=False)
    assert again == summary_of(unchanged=3, failed=first.failed[:1], failed_before=1)
    make_picture(bad, 7)
    assert three.sync(retry=False) == summary_of(added=1, unchanged=3, embedded=1, failed_before=1)
    (three.folder / "dead.jpg").unlink()
    assert three.sync(retry=False) == summary_of(unchanged=4)
    assert three.failures() == {}


def test_what_failed_elsewhere_is_kept_when_only_some_files_are_looked_at(three: Library) -> None:
    for name in ("a/bad.png", "b/bad.png"):
        (three.folder / name).parent.mkdir()
        (three.folder / name).write_bytes(b"words")
    three.sync()
    make_picture(three.folder / "a" / "bad.png", 7)
    three.sync([three.folder / "a"])
    assert list(three.failures()) == ["b/bad.png"]


def test_a_pdf_with_a_bad_page_is_told_once(tmp_path: Path, own: Embedder) -> None:
    class BadPage:
        """An embedder that cannot read page 2."""

        name, dim, dtype, fingerprint = own.name, own.dim, own.dtype, own.fingerprint
        encode_query = own.encode_query

        def stream(self, items, ask, **options):  # type: ignore[no-untyped-def]
            for position, item in enumerate(items):
                bad = item.media[0].page == 2
                yield position, MediaError("page 2 is damaged") if bad else own.encode_document(item)

    make_pdf(tmp_path / "a.pdf", 10, 120)
    library = Library.open(tmp_path, model=BadPage())  # type: ignore[arg-type]
    reason = "page 2 is damaged (1 of its 2 parts failed)"
    assert library.sync() == summary_of(embedded=1, failed=(("a.pdf", reason),))
    assert is_up_to_date(library)
    assert library.sync(retry=False) == summary_of(failed_before=1)


def test_trouble_of_the_system_is_no_lasting_failure(three: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(path: Path) -> str:
        raise OSError(5, "Input/output error")

    make_picture(three.folder / "3.png", 3)
    with monkeypatch.context() as patch:
        patch.setattr("vlm2vec.search.contents.content_hash", broken)
        assert three.sync().failed == (("3.png", "input/output error"),)
    assert three.sync(retry=False) == summary_of(added=1, unchanged=3, embedded=1)


def test_each_of_two_equal_unreadable_files_has_its_own_name_in_its_reason(tmp_path: Path, own: Embedder) -> None:
    content = make_picture(tmp_path / "a.png", 1).read_bytes()[:60]
    for name in ("a.png", "b.png", "c d.png"):
        (tmp_path / name).write_bytes(content)
    failed = Library.open(tmp_path, model=own).sync().failed
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


# Files that come out of decoding otherwise than when their vectors were made


@pytest.fixture
def old(tmp_path: Path, own: Embedder) -> Library:
    """A library whose index was made when files were decoded otherwise."""
    pages = [Image(make_pdf(tmp_path / "two.pdf", 10, 120), page=page) for page in (1, 2)]
    media = [[Image(make_picture(tmp_path / f"{number}.png", number))] for number in range(3)]
    rows = []
    for parts in (*media, pages):
        path = Path(str(parts[0].source))
        units = [
            StoredUnit("page" if part.page else "image", part.page, None, own.encode_document(part)) for part in parts
        ]
        rows.append(FileRows(path.name, Look.of(path.stat()), content_hash(path), len(units), tuple(units)))
    info = IndexInfo(own.name, own.fingerprint, own.dim, own.dtype, "..", decoding=1)
    with closing(create_store(tmp_path / DEFAULT_NAME, info)) as store, store.writing():
        store.commit([], rows)
    return Library.open(tmp_path, model=own)


def test_files_that_come_out_otherwise_now_are_embedded_anew_once_and_found_until_then(
    old: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def shown_otherwise(path: Path) -> bool:
        asked.append(path.name)
        return path.name in ("1.png", "two.pdf")

    for module in (image, video, document):
        monkeypatch.setattr(module, "shown_otherwise", shown_otherwise, raising=False)

    def no_model(self: object) -> Embedder:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Library, "load_model", no_model)
        with pytest.raises(KeyboardInterrupt):
            old.sync(retry=False)
    assert asked == ["0.png", "1.png", "2.png", "two.pdf"]
    assert [hit.path for hit in old.search(vector_of(old, "1.png"), 1)] == ["1.png"]
    assert old.counts() == {"image": 3, "page": 2}
    assert old.info.decoding == 2
    assert not is_up_to_date(old)
    assert old.sync() == summary_of(changed=2, unchanged=2, embedded=3)
    assert is_up_to_date(old)
    assert len(asked) == 4


def test_a_run_that_is_killed_while_it_asks_asks_again(old: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(path: Path) -> bool:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(image, "shown_otherwise", killed, raising=False)
        with pytest.raises(KeyboardInterrupt):
            old.sync()
    assert (old.info.decoding, len(stored_files(old))) == (1, 4)
    for module in (image, video, document):
        monkeypatch.setattr(module, "shown_otherwise", lambda path: path.name == "0.png", raising=False)
    assert old.sync() == summary_of(changed=1, unchanged=3, embedded=1)
    assert old.info.decoding == 2
