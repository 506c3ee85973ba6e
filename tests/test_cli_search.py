"""What `vlm2vec search` finds and prints, and what it refuses."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest
from PIL import Image as PILImage

from cli_runs import Result, save_picture, write_files, write_model
from vlm2vec.media.thumbnails import half_blocks
from vlm2vec.model.embedder import Embedder
from vlm2vec.search.index import Index


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("checkpoint") / "tiny")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_files(tmp_path / "files")


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
    embedder = Embedder.load(model)
    (hit,) = Index.open(folder).search(embedder.encode_query("a square", target="page"), 1, kind="page")
    assert json.loads(result.out) == {
        "hits": [{"path": "doc.pdf", "kind": "page", "score": hit.score, "page": hit.page, "span_s": None}]
    }


def test_search_picks_up_what_has_changed_since(folder: Path, model: Path) -> None:
    Result("index", folder, "--model", model)
    save_picture(folder / "new.png", "white")
    (folder / "red.png").unlink()
    result = Result("search", "a square", folder, "--json")
    assert result.err == "index: 1 added, 1 removed\n"
    assert {hit["path"] for hit in json.loads(result.out)["hits"]} == {"blue.png", "doc.pdf", "new.png"}


def test_search_by_page_and_by_video(folder: Path, model: Path) -> None:
    page = Result("search", "", folder, "--pdf", f"{folder / 'doc.pdf'}:2", "--model", model, "--json")
    assert len(json.loads(page.out)["hits"]) == 4
    frames = folder.parent / "frames"
    frames.mkdir()
    for number in range(3):
        save_picture(frames / f"{number}.png", "red")
    video = Result("search", "words too", folder, "--video", frames, "--json")
    assert len(json.loads(video.out)["hits"]) == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([""], 'the query is empty: give words, or "" beside --image, --video or --pdf'),
        (["", "--image", "a.png", "--video", "b.mp4"], "give one of --image, --video and --pdf, not several"),
        (["", "--pdf", "a.pdf"], "--pdf a.pdf: give the file and the number of its page, such as --pdf report.pdf:3"),
    ],
)
def test_a_query_that_makes_no_sense_is_refused(arguments: list[str], message: str) -> None:
    result = Result("search", *arguments)
    assert (result.code, result.out, result.err) == (2, "", f"error: {message}\n")


def test_a_query_image_that_cannot_be_read_is_refused(folder: Path, model: Path) -> None:
    result = Result("search", "", folder, "--image", folder / "no.png", "--model", model)
    assert (result.code, result.out) == (2, "")
    assert f"error: {folder / 'no.png'}" in result.err


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


def test_thumbnails_need_a_terminal_with_colour(folder: Path, model: Path) -> None:
    result = Result("search", "a square", folder, "--model", model, "--show", "-k", "1")
    assert result.err == (
        "index: 3 added\n"
        "no thumbnails: --show needs a terminal with 24-bit colour; --html FILE writes a page with them\n"
    )
    assert len(result.out.splitlines()) == 1


def test_a_thumbnail_in_the_terminal_is_two_pixels_a_character() -> None:
    picture = PILImage.new("RGB", (2, 2))
    picture.putdata([(255, 0, 0), (0, 255, 0), (0, 0, 255), (9, 9, 9)])
    text = half_blocks(picture, 2)
    assert text.plain == "▀▀\n"
    assert [str(span.style) for span in text.spans] == ["#ff0000 on #0000ff", "#00ff00 on #090909"]


def test_a_tall_picture_takes_no_more_lines_in_the_terminal_than_a_square() -> None:
    lines = half_blocks(PILImage.new("RGB", (10, 1000)), 32).plain.splitlines()
    assert (len(lines), {len(line) for line in lines}) == (16, {1})
    assert half_blocks(PILImage.new("RGB", (100, 100)), 32).plain == 16 * ("▀" * 32 + "\n")


def test_a_name_that_is_no_text_is_printed_with_a_replacement(folder: Path, model: Path) -> None:
    save_picture(folder / os.fsdecode(b"caf\xe9.png"), "white")
    arguments = ("search", "", folder, "--image", folder / os.fsdecode(b"caf\xe9.png"), "--kind", "image")
    assert "caf\ufffd.png" in Result(*arguments, "--model", model).out
    paths = [hit["path"] for hit in json.loads(Result(*arguments, "--json").out)["hits"]]
    assert sorted(os.fsencode(path) for path in paths) == [b"blue.png", b"caf\xe9.png", b"red.png"]
