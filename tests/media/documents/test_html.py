"""Web pages: the words that are shown, whatever the state of the tags."""

from __future__ import annotations

import time
from email.message import EmailMessage
from pathlib import Path

import pytest

from vlm2vec.errors import MediaError
from vlm2vec.media.documents import read_document
from vlm2vec.media.documents.html import WebPage, parse_html
from vlm2vec.media.documents.sections import Block
from vlm2vec.media.documents.tags import Tag, scan_tags
from vlm2vec.media.words import FileWords, PartWords

PAGE = """<!DOCTYPE html><html><head><meta charset="utf-8"><title>Kites &amp;
 winds</title><meta name="Description" content="How they fly"><style>p { color: red }</style></head>
<body><script>var hidden = "<p>no</p>";</script><h1>All <i>kites</i></h1><p>They
f<b>l</b>y.<br>High.<div>In a <div>box</div> of boxes</div>
<ul><li>one<li>two</ul><table><tr><td>left<td>right</table><img src="http://a.b/c.png" alt="a red kite">
<svg><title>no title</title><text>no</text></svg><template><p>no</template><pre>a
 b</pre><!-- <p>no</p> --><h2>Below</h2>caf&eacute; &#8364;</body></html>"""


def test_a_page_gives_the_words_that_it_shows(tmp_path: Path) -> None:
    shown = "They fly.\nHigh.\nIn a\nbox\nof boxes\none\ntwo\nleft right\na red kite\na\nb"
    for name in ("a.html", "a.htm"):
        (tmp_path / name).write_text(PAGE)
        assert read_document(tmp_path / name) == FileWords(
            "Kites & winds\nHow they fly",
            (
                PartWords(shown, "Kites & winds\nAll kites", page=1),
                PartWords("café €", "Kites & winds\nAll kites\nBelow", page=2),
            ),
        )


def test_an_xhtml_element_may_be_empty_in_itself(tmp_path: Path) -> None:
    (tmp_path / "a.xhtml").write_text('<?xml version="1.0"?><html><head><title/><script src="a"/></head>seen</html>')
    assert read_document(tmp_path / "a.xhtml") == FileWords("", (PartWords("seen", page=1),))


@pytest.mark.parametrize("head", ['charset="windows-1251"', 'http-equiv="x" content="text/html; charset=windows-1251"'])
def test_a_page_is_read_in_the_encoding_that_it_names(head: str) -> None:
    assert parse_html(f"<meta {head}><p>кот".encode("cp1251"), "a") == WebPage("", "", [Block("кот")])


def test_a_saved_page_is_read_out_of_its_message(tmp_path: Path) -> None:
    message = EmailMessage()
    message["Subject"] = "saved"
    message.set_content("<title>Кот</title><h1>Кот</h1><p>ест", subtype="html", charset="windows-1251")
    message.add_related(b"\x89PNG", "image", "png")
    message.add_related(b"<p>a frame", "text", "html")
    for name in ("a.mhtml", "a.mht"):
        (tmp_path / name).write_bytes(message.as_bytes())
        assert read_document(tmp_path / name) == FileWords("Кот", (PartWords("ест", "Кот", page=1),))


def test_a_message_without_a_page_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.mhtml").write_text("Subject: hello\n\nwords\n")
    with pytest.raises(MediaError, match="it holds no web page"):
        read_document(tmp_path / "a.mhtml")


def test_tags_are_parted_from_text_as_browsers_do() -> None:
    text = "a < b<B Class='x>y' class=z disabled/>c</ b></b ><3<!doctype x><style>p > q</style x>d<i unclosed"
    assert list(scan_tags(text)) == [
        *("a ", "<", " b", Tag("b", {"class": "x>y", "disabled": ""}), "c", "<", "/ b>"),
        *(Tag("b", {}, is_end=True), "<", "3", Tag("style", {}), "p > q", Tag("style", {}, is_end=True), "d"),
    ]


def test_a_number_of_thousands_of_digits_is_no_character() -> None:
    assert parse_html(b"&#" + b"9" * 5000 + b";", "a").blocks == [Block("&#" + "9" * 5000 + ";")]


@pytest.mark.parametrize(
    "bad",
    ["<a ", "<!--", "<", "</", "<div>", "<a b='", "&#", "<script>", "<title></title>", "<a x=", "<a x= ", "<pre>\n"],
)
def test_a_page_takes_time_in_proportion_to_its_length_however_bad(bad: str) -> None:
    def seconds(size: int) -> float:
        data = (bad * (size // len(bad))).encode()
        start_s = time.process_time()
        parse_html(data, "a")
        return time.process_time() - start_s

    # With the square of the length it were a hundred times as long.
    assert seconds(300_000) < 30 * seconds(30_000) + 0.05
