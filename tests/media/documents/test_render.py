"""Pages of documents as pictures, drawn by the programs of this machine or by stand-ins that misbehave."""

from __future__ import annotations

import os
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import PIL.Image
import pypdfium2
import pytest

from support.document_files import stand_in_office, with_part, write_docx, write_odt, write_pptx, write_xlsx
from vlm2vec.errors import LimitError, MediaError
from vlm2vec.items import DOCUMENT_SUFFIXES, Image
from vlm2vec.media import Limits, load_frames, page_count, render_page
from vlm2vec.media.documents.render import PROGRAMS, SLIDES, Program, program_path, render_document
from vlm2vec.media.sandbox import Sandbox

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no process groups there")


def _needs(program: Program) -> pytest.MarkDecorator:
    return pytest.mark.skipif(program_path(program) is None, reason=f"{program} is not installed")


def _text(path: Path) -> str:
    document = pypdfium2.PdfDocument(path)
    text = "\n".join(page.get_textpage().get_text_range() for page in document)
    document.close()
    return text


def _is_red(picture: PIL.Image.Image) -> bool:
    return picture.convert("RGB").resize((1, 1)).tobytes()[0] > 200


class _Server(HTTPServer):
    """Notes what is asked for."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: list[str] = []


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        self.send_error(404)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[_Server]:
    with _Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose programs are found first."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    return folder


def test_each_document_that_is_drawn_has_words_as_well() -> None:
    assert PROGRAMS.keys() < DOCUMENT_SUFFIXES
    assert PROGRAMS.keys() > SLIDES


def test_pages_are_drawn_once_until_the_file_changes(programs: Path, tmp_path: Path) -> None:
    stand_in_office(programs)
    path = write_pptx(tmp_path / "a.pptx")
    assert page_count(path) == 2
    with ThreadPoolExecutor(4) as threads:
        pages = list(threads.map(lambda number: render_page(path, number), (1, 2, 1, 2)))
    assert [_is_red(page) for page in pages] == [True, False, True, False]
    assert (programs / "runs").read_text() == "run\n"
    path.write_bytes(path.read_bytes() + b"\0")
    assert page_count(path) == 2
    assert (programs / "runs").read_text() == "run\nrun\n"


def test_a_sandbox_draws_pages_too(programs: Path, tmp_path: Path) -> None:
    stand_in_office(programs)
    path = write_pptx(tmp_path / "a.pptx")
    with Sandbox() as sandbox:
        assert sandbox.page_count(path) == 2
        [page] = sandbox.load_frames(Image(path, page=2), num_frames=1).images
    assert not _is_red(page)


def test_a_program_that_hangs_is_killed_with_all_that_it_started(programs: Path, tmp_path: Path) -> None:
    alive = tmp_path / "alive"
    stand_in_office(programs, f'(while :; do date > "{alive}"; sleep 0.05; done) &\nsleep 60')
    path = write_docx(tmp_path / "a.docx")
    start_s = time.monotonic()
    with pytest.raises(LimitError, match=r"a\.docx cannot be drawn by LibreOffice: it took longer than 0\.5 s"):
        render_document(path, Limits(render_s=0.5))
    # Nor is it tried again for each page.
    with pytest.raises(LimitError, match="it took longer than"):
        render_document(path)
    assert time.monotonic() - start_s < 20
    alive.unlink()
    time.sleep(0.2)
    assert not alive.exists()


def test_a_program_that_makes_nothing_says_why(programs: Path, tmp_path: Path) -> None:
    stand_in_office(programs, "echo 'source file could not be loaded' >&2; exit 1")
    with pytest.raises(MediaError) as caught:
        render_document(write_docx(tmp_path / "a.docx"))
    assert str(caught.value) == (
        f"{tmp_path}/a.docx cannot be drawn by LibreOffice: source file could not be loaded; check that the file is "
        "whole"
    )


def test_a_program_that_is_not_installed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "a.html").write_text("words")
    for path, program in ((write_docx(tmp_path / "a.docx"), "LibreOffice"), (tmp_path / "a.html", "Chromium")):
        with pytest.raises(MediaError, match=f"cannot be seen without {program}, which is not installed"):
            load_frames(Image(path, page=1), num_frames=1)


def test_a_text_has_no_pages(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("words")
    with pytest.raises(MediaError, match=r"a\.txt has no pages that could be drawn; it can be found by its words"):
        render_document(tmp_path / "a.txt")


@pytest.mark.slow
@_needs("LibreOffice")
def test_slides_have_their_numbers_hidden_ones_too(tmp_path: Path) -> None:
    path = write_pptx(tmp_path / "-a b.pptx", ("Sails", "Hidden", "Winds"))
    slide = "ppt/slides/slide2.xml"
    with zipfile.ZipFile(path) as file:
        hidden = file.read(slide).replace(b"<p:sld ", b'<p:sld show="0" ')
    drawn = render_document(with_part(path, slide, hidden))
    assert page_count(drawn) == 3
    assert [word for word in _text(drawn).split() if word in ("Hidden", "Winds")] == [*["Hidden"] * 2, *["Winds"] * 2]
    assert sorted(one.name for one in tmp_path.iterdir()) == ["-a b.pptx"]


@pytest.mark.slow
@_needs("LibreOffice")
@pytest.mark.parametrize(
    ("name", "write", "word"),
    [("a.docx", write_docx, "Cranes"), ("a.odt", write_odt, "tulips"), ("a.xlsx", write_xlsx, "sum")],
    ids=["docx", "odt", "xlsx"],
)
def test_office_files_are_drawn(tmp_path: Path, name: str, write: Callable[[Path], Path], word: str) -> None:
    assert word in _text(render_document(write(tmp_path / name)))


@pytest.mark.slow
@_needs("LibreOffice")
def test_libreoffice_fetches_nothing(tmp_path: Path, server: _Server) -> None:
    address = f"http://127.0.0.1:{server.server_port}/linked.png"
    content = (
        '<office:document-content xmlns:office="urn:oasis:names:tc:opendocument:xmlns:office:1.0" '
        'xmlns:text="urn:oasis:names:tc:opendocument:xmlns:text:1.0" xmlns:xlink="http://www.w3.org/1999/xlink" '
        'xmlns:draw="urn:oasis:names:tc:opendocument:xmlns:drawing:1.0" '
        'xmlns:svg="urn:oasis:names:tc:opendocument:xmlns:svg-compatible:1.0"><office:body><office:text><text:p>words'
        f'<draw:frame svg:width="5cm" svg:height="5cm"><draw:image xlink:href="{address}"/></draw:frame></text:p>'
        f'<text:section text:name="s"><text:section-source xlink:href="http://127.0.0.1:{server.server_port}/s.odt"/>'
        "</text:section></office:text></office:body></office:document-content>"
    )
    path = with_part(write_odt(tmp_path / "a.odt"), "content.xml", content)
    assert "words" in _text(render_document(path))
    assert server.asked == []


@pytest.mark.slow
@_needs("Chromium")
def test_web_pages_are_drawn_with_their_folder_and_nothing_else(tmp_path: Path, server: _Server) -> None:
    address = f"http://127.0.0.1:{server.server_port}"
    (tmp_path / "a_files").mkdir()
    (tmp_path / "a_files" / "style.css").write_text("p::after { content: ' styled' }")
    (tmp_path / "a.html").write_text(
        f'<link rel=stylesheet href="a_files/style.css"><link rel=stylesheet href="{address}/x.css"><p>words'
        f'<img src="{address}/y.png"><iframe src="http://localhost:{server.server_port}/z"></iframe>'
        "<script>document.write('scripted')</script>"
    )
    text = _text(render_document(tmp_path / "a.html"))
    assert "words styled" in text
    assert "scripted" not in text
    assert server.asked == []
