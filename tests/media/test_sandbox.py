"""A decoder that dies, hangs or takes all memory costs one file; all else is as if decoded here."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import PIL.Image
import pytest

from support.bombs import gif_bomb, pdf_bomb
from support.media_files import animation, bare_pdf, encoded, encrypted_pdf, pdf, picture, write_video
from support.places import ROOT
from support.word_files import text_pdf, write_film, xmp_packet
from vlm2vec import media
from vlm2vec.errors import InputError, LimitError, MediaError
from vlm2vec.items import Image, Video
from vlm2vec.media import Frames, Limits, PartWords
from vlm2vec.media.sandbox import SANDBOXED, Decoder, Sandbox

ALL = dict.fromkeys(SANDBOXED, True)


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(kinds=ALL) as everything:
        yield everything


@pytest.fixture(scope="module")
def small() -> Iterator[Sandbox]:
    with Sandbox(Limits(decode_bytes=64 << 20)) as little_memory:
        yield little_memory


def _children() -> set[int]:
    done = subprocess.run(["ps", "--ppid", str(os.getpid()), "-o", "pid="], capture_output=True, text=True, check=True)
    return {int(pid) for pid in done.stdout.split() if Path(f"/proc/{pid}").exists()}


def _seen(frames: Frames) -> tuple[object, ...]:
    return frames.is_video, [
        (one.mode, one.size, one.tobytes(), one.getpalette(), one.info.get("transparency")) for one in frames.images
    ]


def _good(folder: Path) -> dict[str, Image | Video]:
    path, clip = folder / "ä b.pdf", write_video(folder / "a.mp4")
    path.write_bytes(pdf(["red", "lime"]))
    (folder / "frames").mkdir()
    for number in (1, 2, 10):
        picture(shift=number).save(folder / "frames" / f"{number}.png")
    moving = {kind: animation(kind, ["red", "lime", "blue"], [100, 200, 300]) for kind in ("GIF", "WEBP", "PNG")}
    (folder / "a.gif").write_bytes(moving["GIF"])
    colors = picture().quantize(16)
    turned = PIL.Image.Exif()
    turned[0x0112] = 6
    stills = {
        "jpeg": encoded(picture(), "JPEG", exif=turned),
        "rgba": encoded(picture().convert("RGBA")),
        "la": encoded(picture().convert("LA")),
        "bits": encoded(picture().convert("1")),
        "cmyk": encoded(picture().convert("CMYK"), "TIFF"),
        "palette": encoded(colors),
        "transparent": encoded(colors, transparency=3),
        "tRNS": encoded(picture(), transparency=(3, 5, 1)),
    }
    return {
        "page": Image(path, page=2),
        "page of bytes": Image(path.read_bytes(), page=1),
        "film": Video(clip),
        "span": Video(clip, span_s=(1.0, 2.5)),
        "film of bytes": Video(clip.read_bytes()),
        "folder": Video(folder / "frames"),
        "frames": Video((folder / "frames" / "1.png", stills["jpeg"])),
        "gif": Video(folder / "a.gif"),
        **{kind: Video(data) for kind, data in moving.items()},
        **{kind: Image(data) for kind, data in stills.items()},
        **{f"{kind} as stored": Image(data, as_stored=True) for kind, data in stills.items()},
    }


def test_good_files_of_every_kind_decode_as_without_a_sandbox(sandbox: Sandbox, tmp_path: Path) -> None:
    for name, medium in _good(tmp_path).items():
        assert _seen(sandbox.load_frames(medium, num_frames=4)) == _seen(media.load_frames(medium, num_frames=4)), name
        parts: list[Image | Video] = [medium]
        if isinstance(medium, Video) and not isinstance(medium.source, tuple):
            parts.append(Image(medium.source))
        for part in parts:
            assert sandbox.resolve(part) == media.resolve(part), name
        assert sandbox.decoded_bytes(medium, num_frames=4) == media.decoded_bytes(medium, num_frames=4) > 0, name
    for path in (tmp_path / "a.mp4", tmp_path / "a.gif", tmp_path / "frames"):
        assert sandbox.probe(path) == media.probe(path)
    path = tmp_path / "ä b.pdf"
    assert (sandbox.page_count(path), sandbox.page_count(path.read_bytes())) == (2, 2)


def test_words_of_every_kind_of_file_are_those_without_a_sandbox(sandbox: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "ä b.pdf").write_bytes(text_pdf(["Ein Fuchs", ""], info={"Title": "Füchse"}, outline=[("1", 2)]))
    (tmp_path / "a.jpg").write_bytes(encoded(picture(), "JPEG", xmp=xmp_packet("<dc:title>Füchse</dc:title>")))
    write_film(tmp_path / "a.mkv", [(0, 1, "A fox")], codec="subrip", chapters=[(0, 1, "One")])
    (tmp_path / "a.srt").write_text("00:00:00,500 --> 00:00:01,000\nEin Fuchs", "utf-8")
    read = {path.name: (sandbox.read_words(path), media.read_words(path)) for path in sorted(tmp_path.glob("*.[jmp]*"))}
    assert [name for name, (apart, here) in read.items() if apart != here] == []
    assert [len(here.parts) for _, here in read.values()] == [0, 3, 2]


def test_what_is_left_out_of_words_in_a_worker_is_logged_here(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "a.pdf"
    path.write_bytes(text_pdf(["Ein Fuchs"]))
    with Sandbox(Limits(text_chars=3)) as one, caplog.at_level("WARNING", "vlm2vec"):
        assert one.read_words(path).parts == (PartWords("Ein", page=1),)
    assert [message.split(": ")[:2] for message in caplog.messages] == [
        [str(path), "the words from page 1 on are left out"]
    ]


def test_a_page_whose_words_take_too_much_memory_costs_its_file(small: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "bomb.pdf").write_bytes(pdf_bomb(70_000_000))
    (tmp_path / "good.pdf").write_bytes(text_pdf(["Ein Fuchs"]))
    with pytest.raises(LimitError) as caught:
        small.read_words(tmp_path / "bomb.pdf")
    assert str(caught.value).startswith(f"{tmp_path / 'bomb.pdf'} cannot be read: ")
    assert str(caught.value).endswith("decoding used more than 64 MB of memory (Limits.decode_bytes)")
    assert small.read_words(tmp_path / "good.pdf").parts == (PartWords("Ein Fuchs", page=1),)


def test_one_worker_decodes_film_after_film() -> None:
    clips = sorted((ROOT / "samples" / "clips").glob("*.mp4"))
    with Sandbox() as one:
        workers = set()
        for clip in (*clips, clips[0]):
            one.load_frames(Video(clip), num_frames=8)
            workers |= set(one._idle)
        assert len(workers) == 1


def test_pil_images_and_kinds_that_are_not_in_the_table_start_no_process(tmp_path: Path) -> None:
    before = _children()
    with Sandbox() as one:
        assert one.load_frames(Image(still := picture()), num_frames=1).images == (still,)
        assert one.load_frames(Video((picture(), encoded(picture()))), num_frames=1).is_video
        assert one.load_frames(Image(encoded(picture())), num_frames=1).images[0].size == (40, 30)
        assert one.resolve(Image(encoded(picture()))) == Image(encoded(picture()))
    assert _children() == before


def test_an_error_of_a_file_is_the_same_as_without_a_sandbox(
    sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("locked.pdf").write_bytes(encrypted_pdf())
    Path("two.pdf").write_bytes(pdf(["red", "lime"]))
    Path("no.mp4").write_bytes(b"no film at all")
    Path("no.gif").write_bytes(b"GIF89a but no more")
    calls: list[Callable[[Decoder], object]] = [
        lambda decoder: decoder.page_count(Path("locked.pdf")),
        lambda decoder: decoder.page_count(Path("missing.pdf")),
        lambda decoder: decoder.page_count(picture()),
        lambda decoder: decoder.load_frames(Image(Path("two.pdf"), page=3), num_frames=8),
        lambda decoder: decoder.load_frames(Image(b"", page=1), num_frames=8),
        lambda decoder: decoder.load_frames(Video(Path("no.mp4")), num_frames=8),
        lambda decoder: decoder.load_frames(Video(Path("no.gif")), num_frames=8),
        lambda decoder: decoder.load_frames(Image(Path("no.gif")), num_frames=8),
        lambda decoder: decoder.load_frames(Video(animation("GIF", ["red", "lime"], [9, 9])), num_frames=0),
        lambda decoder: decoder.probe(Path("nowhere")),
        lambda decoder: decoder.read_words(Path("locked.pdf")),
        lambda decoder: decoder.read_words(Path("missing.pdf")),
        lambda decoder: decoder.read_words(Path("no.mp4")),
        lambda decoder: decoder.read_words(Path("no.gif")),
        lambda decoder: decoder.read_words(Path("no.words")),
    ]
    for call in calls:
        told = []
        for decoder in (media, sandbox):
            with pytest.raises((MediaError, InputError)) as caught:
                call(decoder)
            told.append((type(caught.value), str(caught.value)))
        assert told[0] == told[1]
    assert sandbox.resolve(Image(Path("no.gif"))) == Image(Path("no.gif"))


def test_a_page_that_takes_too_much_memory_is_refused_and_the_next_is_drawn(small: Sandbox, tmp_path: Path) -> None:
    path = tmp_path / "a.pdf"
    path.write_bytes(pdf_bomb(70_000_000))
    assert path.stat().st_size < 1000
    with pytest.raises(LimitError) as caught:
        small.load_frames(Image(path, page=1), num_frames=8)
    message = str(caught.value)
    assert message.startswith(f"{path} cannot be read at page 1: ")
    assert message.endswith("decoding used more than 64 MB of memory (Limits.decode_bytes)")
    assert small.load_frames(Image(bare_pdf(), page=1), num_frames=8).images[0].size == (144, 72)


def test_an_animation_that_takes_too_much_memory_is_refused(small: Sandbox) -> None:
    bomb = gif_bomb(2000, 2000, 9)
    assert len(bomb) < 250_000
    with pytest.raises(LimitError) as caught:
        small.load_frames(Video(bomb), num_frames=8)
    assert str(caught.value) == (
        f"<{len(bomb)} bytes> cannot be read: decoding used more than 64 MB of memory (Limits.decode_bytes)"
    )


def test_an_animation_of_too_many_pixels_in_all_is_refused_before_any_is_composed(sandbox: Sandbox) -> None:
    bomb = gif_bomb(64, 50, 300)
    for decoder, limits in ((sandbox, media.DEFAULT_LIMITS), (media, Limits(animation_px=64 * 50 * 300))):
        assert len(decoder.load_frames(Video(bomb), num_frames=8).images) == 8
        assert limits.animation_px >= 64 * 50 * 300
    with pytest.raises(LimitError) as caught:
        media.load_frames(Video(bomb), num_frames=8, limits=Limits(animation_px=64 * 50 * 300 - 1))
    assert str(caught.value) == (
        f"<{len(bomb)} bytes> has 300 frames of 64 x 50 pixels, together more than the 959,999 pixels allowed "
        "(Limits.animation_px)"
    )


def test_what_takes_too_long_is_ended(tmp_path: Path) -> None:
    path = tmp_path / "a.gif"
    path.write_bytes(gif_bomb(1000, 1000, 500))
    with Sandbox(Limits(decode_s=0.05, film_s_per_mb=0.01)) as one:
        start = time.monotonic()
        with pytest.raises(LimitError, match=rf"^{path} cannot be read: decoding took longer than 0.05\d+ s \(Limits"):
            one.load_frames(Video(path), num_frames=8)
        # With the process being started; all frames take some ten seconds.
        assert time.monotonic() - start < 8


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_a_worker_that_dies_in_the_middle_costs_its_item_only(number: signal.Signals) -> None:
    slow, quick = Video(gif_bomb(1000, 1000, 500)), Image(bare_pdf(), page=1)
    with Sandbox() as one:
        one.load_frames(quick, num_frames=8)
        (worker,) = one._idle
        killing = threading.Timer(0.1, os.kill, (worker._process.pid, number))
        killing.start()
        with pytest.raises(MediaError) as caught:
            one.load_frames(slow, num_frames=8)
        assert str(caught.value) == (
            f"<{len(slow.source)} bytes> cannot be read: "  # type: ignore[arg-type]
            f"the decoder ended with signal {number.value} ({number.name})"
        )
        assert one.load_frames(quick, num_frames=8).images[0].size == (144, 72)
        assert [other is worker for other in one._idle] == [False]


def test_a_jpeg_is_decoded_as_small_as_is_enough(sandbox: Sandbox) -> None:
    large = Image(encoded(picture(400, 300), "JPEG"))
    frames = sandbox.load_frames(large, num_frames=1, least_px=(100, 75))
    assert frames.images[0].size == (100, 75)
    assert _seen(frames) == _seen(media.load_frames(large, num_frames=1, least_px=(100, 75)))
    assert sandbox.decoded_bytes(large, num_frames=1, least_px=(100, 75)) == 4 * 100 * 75


def test_threads_that_decode_at_once_have_a_worker_each(tmp_path: Path) -> None:
    path, colors = tmp_path / "a.pdf", ["red", "lime", "blue", "white"] * 3
    path.write_bytes(pdf(colors))
    before = _children()
    with Sandbox() as one, ThreadPoolExecutor(3) as pool:
        pages = [Image(path, page=number) for number in range(1, len(colors) + 1)]
        found = list(pool.map(lambda page: _seen(one.load_frames(page, num_frames=1)), pages))
        assert found == [_seen(media.load_frames(page, num_frames=1)) for page in pages]
        assert 1 <= len(_children() - before) <= 3
    assert _children() == before


def test_closing_ends_the_workers_and_what_waits_for_them_without_blaming_a_file() -> None:
    one = Sandbox()
    one.load_frames(Image(bare_pdf(), page=1), num_frames=8)
    threading.Timer(0.1, one.close).start()
    start = time.monotonic()
    with pytest.raises(RuntimeError, match="the sandbox is closed"):
        one.load_frames(Video(gif_bomb(1000, 1000, 500)), num_frames=8)
    assert time.monotonic() - start < 5
    with pytest.raises(RuntimeError, match="the sandbox is closed"):
        one.load_frames(Image(bare_pdf(), page=1), num_frames=8)


_PROGRAM = """
import signal
# A shell lets what runs in its background ignore Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)
import os, sys, time
from pathlib import Path
from vlm2vec.items import Image, Video
from vlm2vec.media.sandbox import Sandbox
sandbox = Sandbox()
print(sandbox.load_frames(Image(Path(sys.argv[1]), page=1), num_frames=8).images[0].size, flush=True)
print(sandbox._idle[0]._process.pid, flush=True)
if len(sys.argv) > 2:
    sandbox.load_frames(Video(Path(sys.argv[2])), num_frames=8)
sandbox.close()
"""


def _program(*arguments: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    # A program from a pipe has no main file.
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
    )
    assert process.stdin is not None
    process.stdin.write(_PROGRAM)
    process.stdin.close()
    process.stdin = None
    return process


def test_a_program_without_a_main_file_decodes_in_a_sandbox_and_ends_quietly(tmp_path: Path) -> None:
    (tmp_path / "a.pdf").write_bytes(bare_pdf())
    out, err = (process := _program(str(tmp_path / "a.pdf"))).communicate(timeout=60)
    assert (out.splitlines()[0], err, process.returncode) == ("(144, 72)", "", 0)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_busy_worker_ends_with_its_program_and_says_nothing(number: signal.Signals, tmp_path: Path) -> None:
    (tmp_path / "a.pdf").write_bytes(bare_pdf())
    (tmp_path / "a.gif").write_bytes(gif_bomb(1000, 1000, 500))
    process = _program(str(tmp_path / "a.pdf"), str(tmp_path / "a.gif"))
    assert process.stdout is not None
    process.stdout.readline()
    worker = int(process.stdout.readline())
    time.sleep(0.1)
    # As a terminal does on Ctrl-C: to the whole group.
    os.killpg(process.pid, number)
    _, err = process.communicate(timeout=60)
    assert err.count("Traceback") == (number == signal.SIGINT)
    until_s = time.monotonic() + 5
    while _runs(worker):
        assert time.monotonic() < until_s
        time.sleep(0.01)


def _runs(pid: int) -> bool:
    try:
        # A zombie has ended; somebody else has to take notice.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_importing_media_or_their_workers_needs_no_decoder_of_films_or_pages() -> None:
    code = "import sys, vlm2vec.media.worker; print(sorted({'torch', 'av', 'pypdfium2', 'lancedb'} & set(sys.modules)))"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout == "[]\n"


@pytest.mark.torture
@pytest.mark.parametrize(
    ("make", "ends"),
    [
        (lambda: Image(pdf_bomb(900_000_000), page=1), None),
        # PDFium takes up to twice as much as the stream has.
        (
            lambda: Image(pdf_bomb(1_300_000_000), page=1),
            "decoding used more than 2 GB of memory (Limits.decode_bytes)",
        ),
        (lambda: Video(gif_bomb(8000, 7900, 9)), "used more than 2 GB of memory (Limits.decode_bytes)"),
        (lambda: Video(gif_bomb(320, 240, 3000)), None),
        (lambda: Video(gif_bomb(1920, 1080, 3000)), "pixels allowed (Limits.animation_px)"),
    ],
    ids=["page of 0.9 GB", "page of 1.3 GB", "few large frames", "many small frames", "many large frames"],
)
def test_bombs_of_real_size_stay_within_the_default_limits(make: Callable[[], Image | Video], ends: str | None) -> None:
    with Sandbox() as one:
        try:
            frames = one.load_frames(make(), num_frames=8)
        except LimitError as error:
            assert ends is not None
            assert str(error).endswith(ends)  # noqa: PT017 - either outcome is right
        else:
            assert ends is None
            assert frames.images
