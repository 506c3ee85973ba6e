"""The words of a film are its tags, its chapters, and what is said in it, each at its time."""

from __future__ import annotations

import json
from pathlib import Path

import av
import pytest

from support.media_files import encoded, picture, write_sound, write_video
from support.word_files import write_film
from vlm2vec.errors import MediaError
from vlm2vec.media import FileWords, Limits, PartWords
from vlm2vec.media.film_words import read_film_words

SAID = [(0.0, 1.0, "Hello {\\i1}there{\\i0}\\Nfox"), (1.0, 1.9, "Second")]


@pytest.mark.parametrize(
    ("name", "codec", "video_codec"),
    [
        ("a.mp4", "mov_text", "libx264"),
        ("a.mov", "mov_text", "libx264"),
        ("a.mkv", "subrip", "libx264"),
        ("a.mkv", "ass", "libx264"),
        ("a.mkv", "webvtt", "libx264"),
        ("a.webm", "webvtt", "libvpx"),
    ],
)
def test_subtitles_and_chapters_inside_a_film_come_with_their_times(
    name: str, codec: str, video_codec: str, tmp_path: Path
) -> None:
    path = write_film(
        tmp_path / name, SAID, codec=codec, video_codec=video_codec, chapters=[(0, 1, "Mörning"), (1, 2, "Noon")]
    )
    assert read_film_words(path) == FileWords(
        "",
        (
            PartWords("", "Mörning", span_s=(0.0, 1.0)),
            PartWords("Hello there\nfox\nSecond", span_s=(0.0, 1.9)),
            PartWords("", "Noon", span_s=(1.0, 2.0)),
        ),
    )


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_tags_of_a_film_describe_it(name: str, tmp_path: Path) -> None:
    tags = {
        "title": "Of foxes",
        "artist": "A. Filmer",
        "comment": "seen\nat dawn",
        "description": "Two foxes",
        "creation_time": "2024-03-15T06:00:00.000000Z",
    }
    path = write_film(tmp_path / name, tags=tags)
    assert read_film_words(path) == FileWords(
        "Of foxes\nA. Filmer\nTwo foxes\nseen\nat dawn\n2024-03-15 March 2024", ()
    )


def test_a_clock_that_was_never_set_is_no_date(tmp_path: Path) -> None:
    path = write_film(tmp_path / "a.mp4", tags={"title": "Of foxes", "creation_time": "1970-01-01T00:00:00.000000Z"})
    assert read_film_words(path).about == "Of foxes"


def test_a_film_without_words_has_none(tmp_path: Path) -> None:
    assert read_film_words(write_video(tmp_path / "a.mp4", num_frames=3)) == FileWords("", ())


def test_words_inside_and_beside_a_film_come_together(tmp_path: Path) -> None:
    path = write_film(tmp_path / "a.mp4", SAID, tags={"title": "Of foxes"})
    (tmp_path / "a.description").write_text("Two foxes", "utf-8")
    # The same subtitles, and others.
    (tmp_path / "a.en.srt").write_text(
        "1\n00:00:00,000 --> 00:00:01,000\nHello there\nfox\n\n2\n00:00:01,000 --> 00:00:01,900\nSecond\n", "utf-8"
    )
    (tmp_path / "a.de.vtt").write_text("WEBVTT\n\n00:00.500 --> 00:01.500\nHallo Fuchs\n", "utf-8")
    assert read_film_words(path) == FileWords(
        "Of foxes\nTwo foxes",
        (
            PartWords("Hello there\nfox\nSecond", span_s=(0.0, 1.9)),
            PartWords("Hallo Fuchs", span_s=(0.5, 1.5)),
        ),
    )


def test_chapters_beside_a_film_are_taken_where_it_has_none(tmp_path: Path) -> None:
    info = {"chapters": [{"start_time": 0, "end_time": 2, "title": "Beside"}]}
    for name, chapters in (("bare", []), ("own", [(0, 2, "Inside")])):
        write_film(tmp_path / f"{name}.mp4", chapters=chapters)
        (tmp_path / f"{name}.info.json").write_text(json.dumps(info), "utf-8")
    titles = [[part.about for part in read_film_words(tmp_path / f"{name}.mp4").parts] for name in ("bare", "own")]
    assert titles == [["Beside"], ["Inside"]]


def test_a_file_beside_that_cannot_be_read_is_a_note(tmp_path: Path) -> None:
    path = write_film(tmp_path / "a.mp4", SAID)
    (tmp_path / "a.info.json").write_text("[]", "utf-8")
    words = read_film_words(path)
    assert words.parts == (PartWords("Hello there\nfox\nSecond", span_s=(0.0, 1.9)),)
    assert words.notes == ("a.info.json is left out: it is not an object",)


def test_words_beyond_the_limit_are_left_out_with_a_note_that_says_from_when(tmp_path: Path) -> None:
    path = write_film(tmp_path / "a.mp4", [(0, 1, "1234567890"), (40, 41, "abcdefghij"), (80, 81, "klmnopqrst")])
    limits = "the file has more than the {} characters of text allowed (Limits.text_chars)"
    assert read_film_words(path, Limits(text_chars=20)) == FileWords(
        "",
        (PartWords("1234567890", span_s=(0.0, 1.0)), PartWords("abcdefghij", span_s=(40.0, 41.0))),
        (f"the subtitles from 80 s on are left out: {limits.format(20)}",),
    )
    (tmp_path / "a.srt").write_text("1\n00:00:20,000 --> 00:00:21,000\nbeside\n", "utf-8")
    assert read_film_words(path, Limits(text_chars=30)) == FileWords(
        "",
        (
            PartWords("1234567890", span_s=(0.0, 1.0)),
            PartWords("beside", span_s=(20.0, 21.0)),
            PartWords("abcdefghij", span_s=(40.0, 41.0)),
        ),
        (f"the words from 80 s on are left out: {limits.format(30)}",),
    )


def test_times_count_on_the_clock_of_a_player(tmp_path: Path) -> None:
    path = write_film(tmp_path / "a.mkv", SAID, codec="subrip")
    moved = tmp_path / "moved.mkv"
    with av.open(str(path)) as source, av.open(str(moved), "w") as target:
        streams = {one.index: target.add_stream_from_template(one) for one in source.streams}
        for packet in source.demux():
            if packet.dts is not None and packet.pts is not None:
                packet.pts, packet.dts = packet.pts + 5000, packet.dts + 5000
                packet.stream = streams[packet.stream_index]
                target.mux(packet)
    # The picture begins late, and so do the words.
    assert [part.span_s for part in read_film_words(moved).parts] == [(5.0, 6.9)]


def test_a_film_whose_end_is_missing_has_the_words_before_it(tmp_path: Path) -> None:
    path = write_film(tmp_path / "a.mkv", [(0, 1, "first"), (60, 61, "last")], codec="subrip")
    data = path.read_bytes()
    path.write_bytes(data[: data.index(b"last") - 8])
    assert read_film_words(path).parts == (PartWords("first", span_s=(0.0, 1.0)),)


def test_what_is_no_film_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"no film at all")
    with pytest.raises(MediaError, match="cannot be read as a video"):
        read_film_words(tmp_path / "a.mp4")
    write_sound(tmp_path / "b.mp4", encoded(picture()))
    with pytest.raises(MediaError, match="has no video stream"):
        read_film_words(tmp_path / "b.mp4")
