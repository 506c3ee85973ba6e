"""The files beside a film are found by their names, and damage in one of them costs its words only."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from vlm2vec.media import DEFAULT_LIMITS, Limits
from vlm2vec.media.sidecars import BesideWords, read_sidecars, sidecars
from vlm2vec.media.subtitles import Cue


@pytest.mark.parametrize(
    ("film", "names", "beside"),
    [
        ("talk.mp4", ["talk.mp4", "talk.srt", "talk.vtt", "walk.srt"], ["talk.srt", "talk.vtt"]),
        ("talk.mp4", ["talk.en.vtt", "talk.en-US.SRT", "talk.English.forced.ass"], None),
        ("talk.mp4", ["talk.zh-Hans.ssa", "talk.info.json", "talk.description"], None),
        ("talk.mp4", ["talk 2.srt", "talk.part2.srt", "talk.json", "talk.jpg", "talk", "talks.srt"], []),
        ("talk.mp4", ["talk.final.mkv", "talk.final.srt", "talk.srt"], ["talk.srt"]),
        ("talk.final.mkv", ["talk.final.mkv", "talk.final.srt", "talk.srt"], ["talk.final.srt"]),
        ("a.b.mp4", ["a.b.en.srt", "a.srt"], ["a.b.en.srt"]),
        ("talk.pdf", ["talk.srt"], []),
        ("photo.jpg", ["photo.description"], []),
    ],
)
def test_which_files_are_beside_a_film(film: str, names: list[str], beside: list[str] | None) -> None:
    expected = sorted(names) if beside is None else beside
    assert [path.name for path in sidecars(Path("films") / film, sorted(names))] == expected


def test_without_names_the_folder_is_listed(tmp_path: Path) -> None:
    for name in ("talk.mp4", "talk.srt", "other.srt"):
        (tmp_path / name).touch()
    assert sidecars(tmp_path / "talk.mp4") == (tmp_path / "talk.srt",)


INFO = {
    "title": "Of foxes",
    "uploader": "Nature films",
    "channel": None,
    "upload_date": "20240315",
    "tags": ["fox", "forest"],
    "categories": ["Animals"],
    "description": "A fox\nin its den.",
    "chapters": [{"start_time": 0, "end_time": 12.5, "title": "Morning"}],
    "formats": [{"url": "https://example.org"}],
}


def test_what_download_tools_write_down_is_taken(tmp_path: Path) -> None:
    (tmp_path / "talk.info.json").write_text(json.dumps(INFO), "utf-8")
    (tmp_path / "talk.description").write_text("A fox\nin its den.", "utf-8")
    (tmp_path / "talk.de.srt").write_bytes("1\n00:00:01,000 --> 00:00:02,000\nFüchse\n".encode("utf-16"))
    assert read_sidecars(tmp_path / "talk.mp4", DEFAULT_LIMITS) == BesideWords(
        "A fox\nin its den.\nOf foxes\nNature films\n2024-03-15 March 2024\nAnimals\nfox, forest",
        (Cue(0.0, 12.5, "Morning"),),
        ([Cue(1.0, 2.0, "\nFüchse\n")],),
        (),
    )


@pytest.mark.parametrize(
    ("content", "note"),
    [
        (b"{", "talk.info.json is left out: Expecting property name enclosed in double quotes"),
        (b'{"title": 5}', "talk.info.json is left out: title is 5: input should be a valid string"),
        (b"[]", "talk.info.json is left out: it is not an object"),
        (b"[" * 100_000, "talk.info.json is left out: its brackets lie too deep in one another"),
        (b"\xff\xfe", "talk.info.json is left out: 'utf-8' codec can't decode byte 0xff"),
    ],
    ids=["no JSON", "another type", "a list", "deep", "no UTF-8"],
)
def test_a_file_beside_that_cannot_be_read_is_a_note(content: bytes, note: str, tmp_path: Path) -> None:
    (tmp_path / "talk.info.json").write_bytes(content)
    (tmp_path / "talk.description").write_text("A fox", "utf-8")
    words = read_sidecars(tmp_path / "talk.mp4", DEFAULT_LIMITS)
    assert words[:3] == ("A fox", (), ())
    assert [one[: len(note)] for one in words.notes] == [note]


def test_a_file_beside_that_is_too_large_is_a_note(tmp_path: Path) -> None:
    (tmp_path / "talk.srt").write_bytes(b"x" * 41)
    assert read_sidecars(tmp_path / "talk.mp4", Limits(text_chars=10)) == BesideWords(
        "", (), (), ("talk.srt is left out: it has more than 40 bytes",)
    )


def test_a_pipe_beside_is_a_note(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "talk.srt")
    assert read_sidecars(tmp_path / "talk.mp4", DEFAULT_LIMITS).notes == (
        "talk.srt is left out: it is not a regular file",
    )


def test_a_folder_that_is_missing_is_a_note(tmp_path: Path) -> None:
    assert read_sidecars(tmp_path / "no" / "talk.mp4", DEFAULT_LIMITS).notes == (
        "the files beside it are left out: no such file or directory",
    )
