"""Which files are found in a folder, and into which parts they are taken."""

from __future__ import annotations

import io
import os
from collections import Counter
from pathlib import Path

import av
import pytest
from PIL import Image as PILImage

from support.document_files import stand_in_office, write_pptx
from support.places import DATA
from vlm2vec import extras
from vlm2vec.errors import IndexFolderError, MediaError
from vlm2vec.extras import extra_for
from vlm2vec.items import UNSURE_SUFFIXES, VIDEO_SUFFIXES, Image, Video, as_item
from vlm2vec.search.scan import Scan, file_kind, scan_folder, split_file
from vlm2vec.text import printable


def _touch(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def _paths(folder: Path) -> list[str]:
    return [file.path for file in scan_folder(folder).files]


def test_files_come_sorted_with_the_kind_their_ending_says(tmp_path: Path) -> None:
    _touch(tmp_path, "b.MP4", "a/z.pdf", "a.jpg", "a/note.TXT", "a.log", "Makefile")
    scan = scan_folder(tmp_path)
    assert [(file.path, file.kind, file.look.size) for file in scan.files] == [
        ("a.jpg", "image", 1),
        ("a/note.TXT", "document", 1),
        ("a/z.pdf", "pdf", 1),
        ("b.MP4", "video", 1),
    ]
    assert scan.failed == []
    assert scan.left_out == {".log": 1, "": 1}
    assert scan.files[0].look.mtime_ns == (tmp_path / "a.jpg").stat().st_mtime_ns


def test_hidden_files_and_folders_and_skipped_ones_are_left_out(tmp_path: Path) -> None:
    _touch(tmp_path, ".a.jpg", ".vlm2vec/b.jpg", "index/c.jpg", "d.jpg")
    assert [file.path for file in scan_folder(tmp_path, skip=[tmp_path / "index"]).files] == ["d.jpg"]


def test_a_loop_of_links_ends_and_every_real_folder_is_entered_once_by_its_own_name(tmp_path: Path) -> None:
    _touch(tmp_path, "real/a.jpg")
    (tmp_path / "also").symlink_to("real", target_is_directory=True)
    (tmp_path / "real" / "up").symlink_to(tmp_path, target_is_directory=True)
    assert _paths(tmp_path) == ["real/a.jpg"]


def test_a_link_to_a_folder_outside_is_followed(tmp_path: Path) -> None:
    _touch(tmp_path, "elsewhere/a.jpg", "folder/b.jpg")
    (tmp_path / "folder" / "more").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    assert _paths(tmp_path / "folder") == ["b.jpg", "more/a.jpg"]


def test_a_dead_link_a_link_to_itself_and_a_pipe_are_failures_that_nothing_waits_for(tmp_path: Path) -> None:
    (tmp_path / "dead.png").symlink_to("nowhere.png")
    (tmp_path / "self.png").symlink_to("self.png")
    os.mkfifo(tmp_path / "pipe.mp4")
    scan = scan_folder(tmp_path)
    assert scan.files == []
    assert scan.failed == [
        ("dead.png", "no such file or directory"),
        ("pipe.mp4", "not a regular file"),
        ("self.png", "too many levels of symbolic links"),
    ]


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="the superuser may list every folder")
def test_a_folder_that_cannot_be_listed_is_a_failure(tmp_path: Path) -> None:
    _touch(tmp_path, "closed/a.jpg", "b.jpg")
    (tmp_path / "closed").chmod(0)
    try:
        scan = scan_folder(tmp_path)
    finally:
        (tmp_path / "closed").chmod(0o700)
    assert ([file.path for file in scan.files], scan.failed) == (["b.jpg"], [("closed/", "permission denied")])


def test_a_missing_folder_is_the_users_mistake(tmp_path: Path) -> None:
    with pytest.raises(IndexFolderError, match="missing: no such file or directory; give the path of a folder"):
        scan_folder(tmp_path / "missing")


def test_a_time_centuries_ahead_is_as_late_as_databases_can_hold(tmp_path: Path) -> None:
    _touch(tmp_path, "0.png")
    os.utime(tmp_path / "0.png", (10**10, 10**10))
    if (tmp_path / "0.png").stat().st_mtime != 10**10:
        pytest.skip("this file system has no such times")
    assert scan_folder(tmp_path).files[0].look.mtime_ns == 2**63 - 1


def test_names_that_are_no_text_are_found_and_can_be_shown(tmp_path: Path) -> None:
    _touch(tmp_path, os.fsdecode(b"caf\xe9.jpg"), "line\nbreak.png")
    assert _paths(tmp_path) == ["caf\udce9.jpg", "line\nbreak.png"]
    assert [printable(path) for path in _paths(tmp_path)] == ["caf\ufffd.jpg", "line\ufffdbreak.png"]


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("a.JPEG", "image"),
        ("a.webp", "image"),
        ("a.mov", "video"),
        ("a.PDF", "pdf"),
        ("a.txt", "document"),
        ("a.log", None),
        ("jpg", None),
    ],
)
def test_the_ending_decides_in_any_case(path: str, kind: str | None) -> None:
    assert file_kind(path) == kind


FILMS = DATA / "films"


@pytest.mark.parametrize("name", ["v.mts", "v.wmv"])
def test_a_film_from_a_camcorder_or_an_old_computer_is_a_unit(name: str) -> None:
    (file,) = [file for file in scan_folder(FILMS).files if file.path == name]
    assert split_file(FILMS / name, file.kind) == [Video(FILMS / name)]


@pytest.mark.parametrize(
    ("ending", "muxer"),
    [
        *((ending, "mp4") for ending in (".mp4", ".m4v", ".mp4v", ".mov", ".qt", ".f4v", ".ismv", ".psp", ".insv")),
        *((ending, "mp4") for ending in (".lrv", ".3gp", ".3gpp", ".3g2", ".3gp2", ".3gpp2", ".mj2", ".mjp2")),
        *((ending, "matroska") for ending in (".mkv", ".mk3d", ".webm")),
        *((ending, "avi") for ending in (".avi", ".divx", ".xvid", ".AVI")),
        *((ending, "mpegts") for ending in (".ts", ".mts", ".m2t", ".m2ts", ".tp", ".trp", ".tod", ".TS")),
        *((ending, "vob") for ending in (".mpg", ".mpeg", ".mpe", ".mpv", ".m1v", ".m2v", ".m2p", ".vob", ".evo")),
        *((ending, "vob") for ending in (".vro", ".mod")),
        *((ending, "asf") for ending in (".asf", ".wmv", ".dvr-ms")),
        (".flv", "flv"),
        *((ending, "ogg") for ending in (".ogv", ".ogm", ".ogx", ".ogg")),
    ],
)
def test_a_film_is_a_unit_under_every_ending_of_its_format(tmp_path: Path, ending: str, muxer: str) -> None:
    path = tmp_path / f"film{ending}"
    path.write_bytes(_FILM_OF[muxer])
    scan = scan_folder(tmp_path)
    assert [(file.path, file.kind) for file in scan.files] == [(path.name, "video")]
    assert (scan.left_out, scan.failed) == ({}, [])
    assert split_file(path, "video") == [Video(path)]
    assert as_item(path) == as_item(Video(path))


def test_every_ending_of_a_film_is_tried() -> None:
    (tried,) = test_a_film_is_a_unit_under_every_ending_of_its_format.pytestmark  # type: ignore[attr-defined]
    assert {ending.lower() for ending, _ in tried.args[1]} == VIDEO_SUFFIXES


TEXT = b"import { Gallery } from './Gallery';\nexport const GGG: string[] = ['G'];\n" * 60


@pytest.mark.parametrize("ending", sorted(UNSURE_SUFFIXES))
@pytest.mark.parametrize(
    "content",
    [
        TEXT,
        b"",
        b"G",
        b"G" * 100,
        bytes(5000),
        b"OggS" + bytes(24) + b"\x01vorbis" + bytes(900),
        b"\0\0\1\xb3" + bytes(900),
    ],
    ids=["text", "empty", "letter", "letters", "zeros", "music", "raw"],
)
def test_what_is_no_film_under_an_ending_of_films_is_left_out(tmp_path: Path, ending: str, content: bytes) -> None:
    (tmp_path / f"a{ending}").write_bytes(content)
    assert scan_folder(tmp_path) == Scan([], [], Counter([ending]), [], [])


@pytest.mark.parametrize("size", [188, 192, 204])
@pytest.mark.parametrize("start", [0, 4, 150])
def test_a_transport_stream_may_begin_in_the_middle_of_a_packet(tmp_path: Path, size: int, start: int) -> None:
    packets = (b"\x47" + bytes(size - 1)) * 30
    (tmp_path / "a.ts").write_bytes(bytes(start) + packets)
    assert [file.path for file in scan_folder(tmp_path).files] == ["a.ts"]


def test_a_picture_is_one_unit_and_an_animated_one_a_video(tmp_path: Path) -> None:
    frames = [PILImage.new("RGB", (8, 8), colour) for colour in ("red", "green", "blue")]
    frames[0].save(tmp_path / "still.gif")
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    still, moving = tmp_path / "still.gif", tmp_path / "moving.gif"
    assert split_file(still, "image") == [Image(still)]
    assert split_file(moving, "image") == [Video(moving)]


def test_a_pdf_is_a_unit_a_page(tmp_path: Path) -> None:
    pages = [PILImage.new("RGB", (60, 80), colour) for colour in ("red", "green")]
    path = tmp_path / "two.pdf"
    pages[0].save(path, save_all=True, append_images=pages[1:])
    assert split_file(path, "pdf") == [Image(path, page=1), Image(path, page=2)]


@pytest.mark.parametrize(("seconds", "spans"), [(20, [None]), (90, [(0.0, 30.0), (30.0, 60.0), (60.0, 90.0)])])
def test_a_long_video_is_spans_of_thirty_seconds_and_a_short_one_is_whole(
    tmp_path: Path, seconds: int, spans: list[tuple[float, float] | None]
) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(_clip(seconds))
    assert split_file(path, "video") == [Video(path, span_s=span) for span in spans]


def test_a_pdf_that_is_none_cannot_be_expanded(tmp_path: Path) -> None:
    _touch(tmp_path, "a.pdf")
    with pytest.raises(MediaError):
        split_file(tmp_path / "a.pdf", "pdf")


def _clip(seconds: int, muxer: str = "mp4", codec: str = "mpeg4", rate: int = 1) -> bytes:
    """A grey video of so many frames, one a second if no other rate is given."""
    stream = io.BytesIO()
    with av.open(stream, "w", format=muxer) as container:
        video = container.add_stream(codec, rate=rate)
        video.width = video.height = 32
        video.pix_fmt = "yuv420p"
        for number in range(seconds):
            picture = PILImage.new("RGB", (32, 32), (number % 256, 99, 99))
            container.mux(video.encode(av.VideoFrame.from_image(picture)))
        container.mux(video.encode())
    return stream.getvalue()


_CODECS = {"mpegts": "mpeg2video", "vob": "mpeg2video", "asf": "wmv2", "flv": "flv", "ogg": "libvpx"}
_FILM_OF = {
    muxer: _clip(10, muxer, _CODECS.get(muxer, "mpeg4"), rate=25)
    for muxer in ("mp4", "matroska", "avi", "mpegts", "vob", "asf", "flv", "ogg")
}


def test_files_that_need_a_missing_extra_are_left_out_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.heic").write_bytes(b"")
    (tmp_path / "b.svg").write_bytes(b"")
    extra_for.cache_clear()
    monkeypatch.setattr(extras, "find_spec", lambda name: None)
    whole, named = scan_folder(tmp_path), scan_folder(tmp_path, ["a.heic"])
    extra_for.cache_clear()
    assert ([file.path for file in whole.files], whole.left_out) == (["b.svg"], {".heic": 1})
    assert named.failed == [("a.heic", "the ending '.heic' needs the extra 'heif', which is not installed")]


def test_a_document_has_the_pages_that_a_program_draws(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    talk, text = write_pptx(tmp_path / "a.pptx"), tmp_path / "a.txt"
    monkeypatch.setenv("PATH", "")
    assert (split_file(talk, "document"), split_file(text, "document")) == ([], [])
    monkeypatch.undo()
    stand_in_office(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert split_file(talk, "document") == [Image(talk, page=1), Image(talk, page=2)]
    (tmp_path / "b.pptx").write_bytes(b"words")
    stand_in_office(tmp_path, "exit 1")
    assert split_file(tmp_path / "b.pptx", "document") == []
    assert "b.pptx is found by its words alone: " in caplog.text
