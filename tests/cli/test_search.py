"""What `vlm2vec search` finds and prints, and what it refuses."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from PIL import Image as PILImage

from support.cli_runs import Result, save_picture, write_files, write_model, write_pictures
from support.places import DATA
from vlm2vec.items import Image
from vlm2vec.media.thumbnails import thumbnail_text
from vlm2vec.model.embedder import Embedder
from vlm2vec.search.examples import Examples
from vlm2vec.search.library import Library
from vlm2vec.search.store import IndexInfo
from vlm2vec.search.stores.sqlite import SqliteStore


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("checkpoint") / "tiny")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_files(tmp_path / "files")


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    return write_pictures(tmp_path / "files")


def test_search_indexes_first_and_prints_rank_score_path_and_page(folder: Path, model: Path) -> None:
    result = Result("search", "a square", folder, "--model", model)
    assert result.code == 0
    assert result.err == "index: 3 added\n"
    lines = [re.fullmatch(r" {2}(\d)  (-?0\.\d{3})  (\S+)(?:  (.*))?", line) for line in result.out.splitlines()]
    assert [line[1] for line in lines if line] == ["1", "2", "3", "4"]
    assert sorted((line[3], line[4]) for line in lines if line) == [
        ("blue.png", None),
        ("doc.pdf", "page 1"),
        ("doc.pdf", "page 2"),
        ("red.png", None),
    ]
    scores = [float(line[2]) for line in lines if line]
    assert scores == sorted(scores, reverse=True)


def test_search_prints_json_that_matches_the_python_search(folder: Path, model: Path) -> None:
    result = Result("search", "a square", folder, "--model", model, "--kind", "page", "-k", "1", "--json")
    (hit,) = Library.open(folder).search("a square", 1, kind="page")
    said = {**asdict(hit), "why": list(hit.why), "copies": list(hit.copies)}
    assert json.loads(result.out) == {"understood": "words: a square; pages", "hits": [said]}


def test_search_picks_up_what_has_changed_since(pictures: Path, model: Path) -> None:
    Result("index", pictures, "--model", model)
    save_picture(pictures / "new.png", "white")
    (pictures / "red.png").unlink()
    result = Result("search", "a square", pictures, "--json")
    assert result.err == "index: 1 added, 1 removed\n"
    assert {hit["path"] for hit in json.loads(result.out)["hits"]} == {"blue.png", "new.png"}


def test_search_by_page_and_by_video(folder: Path, model: Path) -> None:
    page = Result("search", "", folder, "--pdf", f"{folder / 'doc.pdf'}:2", "--model", model, "--json")
    assert len(json.loads(page.out)["hits"]) == 4
    frames = folder.parent / "frames"
    frames.mkdir()
    for number in range(3):
        save_picture(frames / f"{number}.png", "red")
    video = Result("search", "words too", folder, "--video", frames, "--json")
    assert len(json.loads(video.out)["hits"]) == 4


_NO_PATTERN = "'a[' is no pattern of files: write it as for git, such as '*.tmp', 'drafts/' or '!kept.png'"
_NO_REGION = "'all' is no region: write x,y,width,height, as 100,50,300,200 or 10%,20%,50%,50%"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([""], 'the query is empty: give words, or "" beside --image, --video or --pdf'),
        (["kind:page"], "'kind:page' says only where to look: give words, or --image, --video or --pdf"),
        (["x", "--words", "--meaning"], "give --words or --meaning, or none of them for both"),
        (
            ["x", "--image", "a.png", "--words"],
            "--words and --meaning are for a question of words alone, not for examples",
        ),
        (["x", "--since", "soon"], "--since: 'soon' is no date such as 2024, 2024-03 or 2024-03-15"),
        (["x", "--until", "2024-13"], "--until: '2024-13' is no date such as 2024, 2024-03 or 2024-03-15"),
        (["x", "--type", "*"], "--type: '*' is no ending of file names such as jpg"),
        (["x", "--exclude", "a["], _NO_PATTERN),
        (["", "--not-image", "a.png"], 'the query is empty: give words, or "" beside --image, --video or --pdf'),
        (["x", "--crop", "0,0,1,1"], "--crop is a part of one picture: give it beside one --image or --pdf"),
        (["", "--image", "a.png", "--crop", "all"], _NO_REGION),
        (["", "--pdf", "a.pdf"], "--pdf a.pdf: give the file and the number of its page, such as --pdf report.pdf:3"),
    ],
)
def test_a_query_that_makes_no_sense_is_refused(arguments: list[str], message: str) -> None:
    result = Result("search", *arguments)
    assert (result.code, result.out, result.err) == (2, "", f"error: {message}\n")


def _paths(result: Result) -> list[str]:
    return [hit["path"] for hit in json.loads(result.out)["hits"]]


def test_a_question_with_operators_is_told_as_it_was_understood(folder: Path, model: Path) -> None:
    Result("index", folder, "--model", model)
    asked = ("search", 'kind:page "a square" in:drafts after:soon', folder)
    result = Result(*asked)
    assert (result.code, result.out) == (0, "")
    assert result.err == (
        'words: after:soon "a square"; pages; in drafts; after:soon is a word, because '
        "'soon' is no date such as 2024, 2024-03 or 2024-03-15\n"
        f"there is no folder drafts in {folder}\n"
    )
    assert Result(*asked, "-q").err == ""
    as_json = Result(*asked, "--json")
    assert (as_json.err, json.loads(as_json.out)["understood"]) == ("", result.err.split("\n")[0])
    assert _paths(Result("search", "a square kind:page", folder, "--json")) == ["doc.pdf", "doc.pdf"]


def test_options_say_the_same_as_operators(folder: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "in").mkdir()
    save_picture(folder / "in" / "old.png", "green")
    os.utime(folder / "in" / "old.png", (0, 86400 * 365))
    Result("index", folder, "--model", model)
    asked = {
        ("in:in",): ("--under", "in"),
        ("before:1972",): ("--until", "1972"),
        ("after:1972", "type:png"): ("--since", "1972", "--type", "png"),
        ("kind:page",): ("--kind", "page"),
    }
    found = []
    for operators, options in asked.items():
        by_operators = Result("search", f"a square {' '.join(operators)}", folder, "--json")
        assert Result("search", "a square", folder, *options, "--json").out == by_operators.out
        found.append(sorted(set(_paths(by_operators))))
    assert found == [["in/old.png"], ["in/old.png"], ["blue.png", "red.png"], ["doc.pdf"]]
    monkeypatch.chdir(folder.parent)
    from_here = Result("search", "a square", folder.name, "--under", f"{folder.name}/in", "--json")
    assert _paths(from_here) == ["in/old.png"]


def _ranked(output: str) -> list[str]:
    """The lines of hits."""
    return [line for line in output.splitlines() if re.match(r" *\d+  ", line)]


def test_the_next_page_of_hits_continues_their_numbers(folder: Path, model: Path) -> None:
    every = _ranked(Result("search", "a square", folder, "--model", model).out)
    assert _ranked(Result("search", "a square", folder, "-k", "2", "--offset", "1").out) == every[1:3]


def test_hits_that_do_not_match_stand_below_a_line_that_says_so(folder: Path, model: Path) -> None:
    below = Result("search", "blue", folder, "--model", model).out.splitlines()
    assert below[1] == "     what follows is only nearest:"
    assert below[0].endswith("  blue.png")
    nothing = Result("search", "xkcvb", folder).out.splitlines()
    assert nothing[0] == "     nothing matches well; the nearest are:"


def test_copies_are_named_below_the_hit(pictures: Path, model: Path) -> None:
    (pictures / "again.png").write_bytes((pictures / "red.png").read_bytes())
    lines = Result("search", "", pictures, "--image", pictures / "red.png", "--model", model).out.splitlines()
    assert lines[:2] == ["  1  1.000  again.png", "            also red.png"]


def test_several_examples_and_what_is_not_wanted_are_one_question(pictures: Path, model: Path) -> None:
    save_picture(pictures / "purple.png", (128, 0, 128))
    Result("index", pictures, "--model", model)
    files = {name: pictures / f"{name}.png" for name in ("red", "blue", "purple")}
    likes = ("--image", files["red"], "--image", files["purple"])
    result = Result("search", "", pictures, *likes, "--not-image", files["blue"], "--json")
    with Library.open(pictures) as library:
        examples = Examples((files["red"], files["purple"]), (files["blue"],))
        assert _paths(result) == [hit.path for hit in library.search(examples)]
        worded = library.search(Examples(("a square", files["red"], files["purple"])))
    assert _paths(Result("search", "a square", pictures, *likes, "--json")) == [hit.path for hit in worded]


def test_a_part_of_a_picture_is_looked_for(pictures: Path, model: Path) -> None:
    picture = PILImage.new("RGB", (56, 28), "blue")
    picture.paste("red", (28, 0, 56, 28))
    picture.save(pictures.parent / "both.png")
    save_picture(pictures.parent / "part.png", "red")
    by_part = Result("search", "", pictures, "--model", model, "--image", pictures.parent / "part.png")
    options = ("--model", model, "--image", pictures.parent / "both.png")
    assert Result("search", "", pictures, *options, "--crop", "50%,0,50%,100%").out == by_part.out
    assert Result("search", "", pictures, *options).out != by_part.out
    outside = Result("search", "", pictures, *options, "--crop", "28,0,29,28")
    assert (outside.code, outside.err) == (
        2,
        f"error: the region 28,0,29,28 reaches out of {pictures.parent / 'both.png'}, which has 56 x 28 pixels\n",
    )


def test_what_a_search_excludes_leaves_the_index_for_good(pictures: Path, model: Path) -> None:
    Result("index", pictures, "--model", model)
    excluded = Result("search", "a square", pictures, "--exclude", "red.*", "--json")
    assert (excluded.err, _paths(excluded)) == ("index: 1 removed\n", ["blue.png"])
    assert _paths(Result("search", "a square", pictures, "--json")) == ["blue.png"]
    assert Result("index", pictures).out == (
        "0 added, 0 changed, 0 removed, 1 unchanged, 0 failed, 0 embedded, 1 ignored (1 .xyz), 1 excluded\n"
    )
    assert Result("index", pictures, "--exclude", "!red.*").out.startswith("1 added, ")


def test_a_query_image_that_cannot_be_read_is_refused(pictures: Path, model: Path) -> None:
    result = Result("search", "", pictures, "--image", pictures / "no.png", "--model", model)
    assert (result.code, result.out) == (2, "")
    assert f"error: {pictures / 'no.png'}" in result.err


def test_the_page_of_results_is_one_file_with_everything_in_it(folder: Path, model: Path, tmp_path: Path) -> None:
    save_picture(folder / "<b>&.png", "white")
    page = tmp_path / "out.html"
    result = Result("search", "<script>alert(1)</script>", folder, "--model", model, "--html", page)
    html = page.read_text("utf-8")
    assert result.err == f"index: 4 added\nwrote {page}\n"
    assert html.count('src="data:image/jpeg;base64,') == 5
    assert "<h1>&lt;script&gt;alert(1)&lt;/script&gt;</h1>" in html
    assert "&lt;b&gt;&amp;.png" in html
    assert "prefers-color-scheme: dark" in html
    for absent in ("<script", "<b>", "http://", "https://", "<link"):
        assert absent not in html


def test_thumbnails_need_a_terminal_with_colour(pictures: Path, model: Path) -> None:
    result = Result("search", "a square", pictures, "--model", model, "--show", "-k", "1")
    assert result.err == (
        "index: 2 added\n"
        "no thumbnails: --show needs a terminal with 24-bit colour; --html FILE writes a page with them\n"
    )
    assert len(_ranked(result.out)) == 1


def test_a_thumbnail_in_the_terminal_is_two_pixels_a_character() -> None:
    picture = PILImage.new("RGB", (2, 2))
    picture.putdata([(255, 0, 0), (0, 255, 0), (0, 0, 255), (9, 9, 9)])
    text = thumbnail_text(Image(picture), 2)
    assert text is not None
    assert text.plain == "▀▀\n"
    assert [str(span.style) for span in text.spans] == ["#ff0000 on #0000ff", "#00ff00 on #090909"]


def test_a_tall_picture_takes_no_more_lines_in_the_terminal_than_a_square() -> None:
    tall, square = (thumbnail_text(Image(PILImage.new("RGB", size)), 32) for size in ((10, 1000), (100, 100)))
    assert tall is not None
    assert tall.plain == 16 * "▀\n"
    assert square is not None
    assert square.plain == 16 * ("▀" * 32 + "\n")


def test_a_name_that_is_no_text_is_printed_with_a_replacement(pictures: Path, model: Path) -> None:
    save_picture(pictures / os.fsdecode(b"caf\xe9.png"), "white")
    arguments = ("search", "", pictures, "--image", pictures / os.fsdecode(b"caf\xe9.png"), "--kind", "image")
    assert "caf\ufffd.png" in Result(*arguments, "--model", model).out
    paths = [hit["path"] for hit in json.loads(Result(*arguments, "--json").out)["hits"]]
    assert sorted(os.fsencode(path) for path in paths) == [b"blue.png", b"caf\xe9.png", b"red.png"]


def test_a_search_on_a_full_disk_searches_the_index_as_it_is(folder: Path, model: Path) -> None:
    Result("index", folder, "--model", model)
    for number in range(40):
        save_picture(folder / f"new{number}.png", (number, 0, 0))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    # As on a full disk, files do not take what is written.
    resource.setrlimit(resource.RLIMIT_FSIZE, (2048, before[1]))
    try:
        result = Result("search", "a square", folder, "--json")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert result.code == 0
    assert result.err.startswith(f"searching the index as it is: cannot write the index {folder / '.vlm2vec'}: ")
    assert result.err.endswith("; make room on its disk; give another folder with --index\n")
    assert {hit["path"] for hit in json.loads(result.out)["hits"]} == {"blue.png", "doc.pdf", "red.png"}
    assert Result("search", "a square", folder).err == "index: 40 added\n"


def test_a_search_waits_for_another_process_that_makes_the_first_index(pictures: Path, model: Path) -> None:
    place = pictures / ".vlm2vec"
    place.mkdir()
    embedder = Embedder.load(model)
    descriptor = os.open(place / "lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(descriptor, fcntl.LOCK_EX)

    def make() -> None:
        # It has the lock, and now comes the file; afterwards it goes on to add files.
        time.sleep(0.3)
        info = IndexInfo(embedder.name, embedder.fingerprint, embedder.dim, embedder.dtype, "..")
        SqliteStore.create(place, info).close()

    with ThreadPoolExecutor(1) as pool:
        making = pool.submit(make)
        result = Result("search", "a square", pictures, "--model", model)
        making.result()
    os.close(descriptor)
    assert (result.code, result.out) == (0, "")
    assert result.err.startswith("searching the index as it is: the index ")
    assert Result("search", "a square", pictures).err == "index: 2 added\n"


def test_a_question_longer_than_any_name_is_a_question(
    pictures: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(pictures)
    assert Result("search", "a long question " * 300, "--model", model).code == 0


def test_a_folder_that_may_not_be_looked_at_is_not_called_missing(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stat = os.stat

    def forbidden(path: Any, *arguments: Any, **options: Any) -> os.stat_result:
        if str(path).startswith(str(folder)):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return stat(path, *arguments, **options)

    monkeypatch.setattr(os, "stat", forbidden)
    for command in (["index", folder], ["search", "x", folder]):
        result = Result(*command)
        assert (result.code, result.err) == (
            2,
            f"error: cannot search the folder {folder}: permission denied; give the path of a folder that you can "
            "read\n",
        )


@pytest.mark.torture
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere arguments and names of files are characters")
def test_arguments_that_are_no_characters_end_in_our_own_words(tmp_path: Path) -> None:
    odd = b"x\xff\xfey"
    (tmp_path / "pictures").mkdir()
    shutil.copyfile(DATA / "old_index" / "0.png", os.fsencode(tmp_path / "pictures") + b"/" + odd + b".png")
    commands: dict[tuple[bytes, ...], tuple[int, bytes]] = {
        (b"search", odd, b"pictures"): (2, b"error: a text holds '\\udcff', no character: 'x\\udcff\\udcfey'"),
        (b"search", b"cat", b"pictures"): (0, b"x\xef\xbf\xbd\xef\xbf\xbdy.png"),
        (b"index", odd): (2, b"error: there is no folder x??y"),
        (b"doctor", odd): (2, b"error: there is no folder x??y"),
        (b"report", odd): (2, b"error: cannot read x??y"),
        (b"search", b"cat", b"pictures", b"--model", odd): (2, b"error: no checkpoint folder x??y"),
    }
    for arguments, (status, words) in commands.items():
        done = subprocess.run([sys.executable, "-m", "vlm2vec", *arguments], cwd=tmp_path, capture_output=True)
        said = done.stdout + done.stderr
        assert (done.returncode, words in said, b"Traceback" in said) == (status, True, False), (arguments, said)
