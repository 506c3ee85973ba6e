"""What patterns leave out of a folder, and that they leave out the same as git's."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.index_folders import make_picture, paths_of, summary_of
from vlm2vec.errors import InputError
from vlm2vec.model.embedder import Embedder
from vlm2vec.search.ignore import Exclusion, Pattern, read_patterns, with_patterns, write_patterns
from vlm2vec.search.library import Library
from vlm2vec.search.scan import scan_folder

_PARTS = [
    "a", "b", "ab", "*", "**", "***", "?", "[ab]", "[!a]", "[^b]", "a*", "*b", r"\a", r"\*", "[a-b]", "[b-a]", "[]a]",
    "[!]]", r"[\]a]", "[a-]", "[[:alpha:]]", "[[:no:]]", "[a", "\\", "[a/b]", "?[ab]*", "[[]",
]  # fmt: skip
_NAMES = ["a", "b", "ab", "ba", "*", "]", "-", "a b "]


def _touch(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def _found(folder: Path, *exclude: str) -> list[str]:
    return [file.path for file in scan_folder(folder, exclude=exclude).files]


# The patterns of git


def _random_pattern(draw: random.Random) -> str:
    parts = "/".join(draw.choices(_PARTS, k=draw.choice([1, 1, 1, 2, 2, 3])))
    before = draw.choice(["", "", "", "!"]) + draw.choice(["", "", "", "/"])
    return (
        draw.choice(["", "", "", "", "#"]) * (draw.random() < 0.1)
        + before
        + parts
        + draw.choice(["", "", "", "", "/", "/", " ", r"\ ", "\r"])
    )


def _grow(folder: Path, draw: random.Random, depth: int = 0) -> list[Path]:
    """Files and folders of odd names; the folders."""
    folders = [folder]
    for name in _NAMES:
        if depth < 3 and draw.random() < 0.4:
            (folder / name).mkdir()
            folders += _grow(folder / name, draw, depth + 1)
        elif draw.random() < 0.6:
            (folder / name).touch()
    return folders


def _left_out(exclusion: Exclusion, prefix: str = "", *, all_of_it: bool = False) -> dict[str, bool]:
    """Whether each path in a folder is left out."""
    here = exclusion if all_of_it else exclusion.inside(prefix)
    found = {}
    for entry in sorted(os.scandir(exclusion.folder / prefix), key=lambda entry: entry.name):
        if not entry.name.startswith("."):
            path = prefix + entry.name
            found[path] = all_of_it or here.excludes(path, is_folder=entry.is_dir())
            if entry.is_dir():
                found |= _left_out(here, f"{path}/", all_of_it=found[path])
    return found


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
@pytest.mark.parametrize("seed", range(8))
def test_ignore_files_leave_out_what_git_ignores(tmp_path: Path, seed: int) -> None:
    draw = random.Random(seed)
    folders = _grow(tmp_path, draw)
    for folder in [tmp_path, *draw.sample(folders, 2)]:
        text = "\n".join(_random_pattern(draw) for _ in range(6))
        (folder / ".gitignore").write_text(text, newline="")
        (folder / ".vlm2vecignore").write_text(text, newline="")
    found = _left_out(Exclusion.of(tmp_path))
    environment = os.environ | {"GIT_CONFIG_NOSYSTEM": "1", "HOME": str(tmp_path / "nowhere")}
    subprocess.run(["git", "init", "-q", tmp_path], env=environment, check=True)
    command = ["git", "-C", str(tmp_path), "check-ignore", "--no-index", "-z", "--stdin"]
    asked = "\0".join(found)
    ignored = subprocess.run(command, input=asked, env=environment, capture_output=True, text=True).stdout
    assert len(found) > 30
    assert [path for path in found if found[path]] == ignored.split("\0")[:-1]


@given(st.lists(st.sampled_from([*_PARTS, "/", "!", " ", "#", "é", "\udcff"])).map("".join))
def test_every_line_is_a_pattern_or_refused(line: str) -> None:
    try:
        pattern = Pattern.parse(line)
    except InputError:
        return
    assert (pattern is None) == (not line.strip(" ") or line.startswith("#"))
    assert pattern is None or pattern.excludes == (not line.startswith("!"))


def test_a_letter_of_several_bytes_is_one_letter(tmp_path: Path) -> None:
    _touch(tmp_path, "é.png", "éé.png", "数.png")
    assert _found(tmp_path, "[!a].png") == ["éé.png"]


# Which of them hold


def test_the_nearest_ignore_file_decides_and_what_is_given_goes_before_all(tmp_path: Path) -> None:
    _touch(tmp_path, "a/1.png", "a/2.jpg", "a/b/3.png", "a/b/4.jpg", "5.png")
    (tmp_path / ".vlm2vecignore").write_text("*.png\n!/5.png\n")
    (tmp_path / "a" / "b" / ".vlm2vecignore").write_text("!3.png\n4.*\n")
    assert _found(tmp_path) == ["5.png", "a/2.jpg", "a/b/3.png"]
    assert _found(tmp_path, "a/b/", "!1.png", "5*") == ["a/1.png", "a/2.jpg"]
    assert scan_folder(tmp_path, exclude=["b/"]).excluded == ["a/1.png", "a/b/"]


def test_nothing_of_a_folder_that_is_left_out_comes_back(tmp_path: Path) -> None:
    _touch(tmp_path, "a/kept.png")
    (tmp_path / "a" / ".vlm2vecignore").write_text("!kept.png\n")
    assert _found(tmp_path, "/a/", "!kept.png") == []
    assert _found(tmp_path, "/a/*", "!kept.png") == ["a/kept.png"]


@pytest.mark.parametrize(
    "folder",
    ["node_modules", "x/Cache", "Code Cache", "__pycache__", "Thumbnails", "x/@eaDir", "Photos.lrdata", "tagged"],
)
def test_caches_and_thumbnails_are_left_out_unless_a_pattern_wants_them(tmp_path: Path, folder: str) -> None:
    _touch(tmp_path, f"{folder}/1.png", "caches.png", "recipes/cached/2.png")
    (tmp_path / folder / "CACHEDIR.TAG").write_text("Signature: 8a477f597d28d172789f06886806bc55\n# by a test\n")
    if folder != "tagged":
        (tmp_path / folder / "CACHEDIR.TAG").unlink()
    others = ["caches.png", "recipes/cached/2.png"]
    assert (_found(tmp_path), scan_folder(tmp_path).excluded) == (others, [f"{folder}/"])
    assert _found(tmp_path, f"!/{folder}/") == sorted([f"{folder}/1.png", *others])


def test_a_file_of_the_name_of_a_tag_alone_makes_no_cache(tmp_path: Path) -> None:
    _touch(tmp_path, "a/1.png", "a/CACHEDIR.TAG")
    assert _found(tmp_path) == ["a/1.png"]


def test_the_searched_folder_itself_is_never_left_out(tmp_path: Path) -> None:
    _touch(tmp_path, "cache/1.png")
    assert _found(tmp_path / "cache") == ["1.png"]
    assert _found(tmp_path / "cache", "cache/") == ["1.png"]


def test_what_is_named_is_left_out_as_well(tmp_path: Path) -> None:
    _touch(tmp_path, "a/drafts/1.png", "a/2.png", "cache/3.png", "4.png")
    (tmp_path / "a" / ".vlm2vecignore").write_text("drafts\n")
    names = ["a/drafts/1.png", "a/drafts", "a", "cache/3.png", "4.png"]
    files, *others = scan_folder(tmp_path, names, exclude=["4.*"])
    assert [file.path for file in files] == ["a/2.png"]
    excluded = ["a/drafts/1.png", "a/drafts/", "a/drafts/", "cache/3.png", "4.png"]
    assert others == [[], Counter(), [], excluded]


# Files of patterns


def test_a_line_that_is_no_pattern_is_named_and_the_others_hold(tmp_path: Path) -> None:
    _touch(tmp_path, "a/1.png", "a/2.jpg")
    (tmp_path / "a" / ".vlm2vecignore").write_text("# drafts\n[a\n*.png\n")
    scan = scan_folder(tmp_path)
    why = "line 2: '[a' is no pattern of files: write it as for git, such as '*.tmp', 'drafts/' or '!kept.png'"
    assert ([file.path for file in scan.files], scan.failed) == (["a/2.jpg"], [("a/.vlm2vecignore", why)])


def test_a_folder_whose_ignore_file_cannot_be_read_is_not_entered(tmp_path: Path) -> None:
    _touch(tmp_path, "a/1.png", "2.png")
    (tmp_path / "a" / ".vlm2vecignore").mkdir()
    scan = scan_folder(tmp_path)
    assert [file.path for file in scan.files] == ["2.png"]
    assert scan.failed == [("a/", ".vlm2vecignore: is a directory")]


def test_names_that_are_no_text_can_be_patterns(tmp_path: Path) -> None:
    odd = os.fsdecode(b"caf\xe9.png")
    _touch(tmp_path, odd, "a.png")
    (tmp_path / ".vlm2vecignore").write_bytes(b"\xef\xbb\xbfcaf\xe9.*\r\n")
    assert _found(tmp_path) == ["a.png"]
    write_patterns(tmp_path, [odd])
    assert read_patterns(tmp_path)[1:] == [odd]


# What an index remembers


def test_what_is_excluded_leaves_the_index_and_stays_out_of_it(three: Library, own: Embedder) -> None:
    with Library.open(three.folder, model=own, exclude=["/1.*", "2.png"]) as library:
        assert library.sync() == summary_of(removed=2, unchanged=1, excluded=2)
    with Library.open(three.folder, model=own) as library:
        assert library.sync() == summary_of(unchanged=1, excluded=2)
        assert library.sync("1.png") == summary_of(excluded=1)
        (three.folder / "0.png").rename(three.folder / "2.png")
        assert library.sync(["0.png", "2.png"]) == summary_of(removed=1, excluded=1)
        assert paths_of(library) == []


def test_a_pattern_is_taken_back_and_an_index_made_anew_remembers_the_others(three: Library, own: Embedder) -> None:
    Library.open(three.folder, model=own, exclude=["*.png"]).sync()
    with Library.open(three.folder, model=own, exclude=["!2.png"]) as library:
        assert library.sync() == summary_of(added=1, embedded=1, excluded=2)
        remembered = (library.path / "exclude").read_text()
        assert remembered.splitlines()[1:] == ["*.png", "!2.png"]
        # What is remembered is not written again.
        os.utime(library.path / "exclude", (5, 5))
        library.sync()
        assert (library.path / "exclude").stat().st_mtime == 5
    anew = Library.open(three.folder, model=own, rebuild=True)
    assert anew.sync() == summary_of(added=1, embedded=1, excluded=2)


def test_patterns_are_remembered_where_nothing_is_left_out_yet(three: Library, own: Embedder) -> None:
    Library.open(three.folder, model=own, exclude=["new*"]).sync()
    make_picture(three.folder / "new.png", 5)
    assert Library.open(three.folder, model=own).sync() == summary_of(unchanged=3, excluded=1)


def test_an_ignore_file_that_is_changed_holds_at_the_next_update(three: Library, own: Embedder) -> None:
    (three.folder / ".vlm2vecignore").write_text("0.png\n")
    assert three.sync() == summary_of(removed=1, unchanged=2, excluded=1)
    (three.folder / ".vlm2vecignore").unlink()
    assert three.sync() == summary_of(added=1, unchanged=2, embedded=1)


def test_a_pattern_that_is_given_again_becomes_the_last() -> None:
    assert with_patterns(["# why", "a", "b"], ["!a", "a", "!a"]) == ["# why", "b", "!a", "a"]
    assert with_patterns(["b", "a"], ["a"]) == ["b", "a"]


@pytest.mark.parametrize(
    ("patterns", "message"),
    [
        (["a", "[a"], r"'\[a' is no pattern of files: write it as for git, such as '\*.tmp'"),
        ([""], "'' is no pattern of files, but an empty line, a comment, or several lines"),
        (["a\nb"], r"'a\\nb' is no pattern of files, but an empty line"),
        ("*.png", r"one pattern '\*.png' is given where several are expected: put it into a list"),
    ],
)
def test_what_is_no_pattern_is_refused_before_anything_is_done(
    tmp_path: Path, patterns: list[str], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        Library.open(tmp_path, exclude=patterns)


def test_a_remembered_line_that_is_no_pattern_is_named_with_its_file(three: Library) -> None:
    (three.path / "exclude").write_text("a\n!\n")
    with pytest.raises(InputError, match=r"exclude, line 2: '!' is no pattern of files"):
        three.sync()
