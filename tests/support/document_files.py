"""Small documents of each format, written by other libraries than ours."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from datetime import date, datetime, time
from pathlib import Path

import docx
import odf.dc
import odf.draw
import odf.presentation
import odf.style
import odf.table
import odf.text
import openpyxl
import pptx
from odf.element import Element
from odf.opendocument import OpenDocument, OpenDocumentPresentation, OpenDocumentSpreadsheet, OpenDocumentText
from pptx.chart.data import CategoryChartData
from pptx.enum.chart import XL_CHART_TYPE

from support.media_files import pdf


def zipped(path: Path, parts: Mapping[str, str | bytes]) -> Path:
    """A ZIP file of these parts, compressed."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in parts.items():
            file.writestr(name, content)
    return path


def with_part(path: Path, name: str, content: str | bytes) -> Path:
    """The same document with one part replaced or added."""
    with zipfile.ZipFile(path) as file:
        parts: dict[str, str | bytes] = {one: file.read(one) for one in file.namelist()}
    return zipped(path, parts | {name: content})


def write_docx(path: Path) -> Path:
    """A report with a title, two levels of headings, a table and a comment."""
    document = docx.Document()
    properties = document.core_properties
    properties.author, properties.title, properties.comments = "Ada Writer", "", ""
    properties.keywords, properties.created = "harbour, cranes", datetime(2024, 3, 5)
    document.add_heading("Harbour report", 0)
    document.add_heading("Summary", 1)
    document.add_paragraph("Cranes\tmove\nboxes.")
    document.add_heading("Costs", 2)
    table = document.add_table(2, 2)
    for row, column, text in ((0, 0, "crane"), (0, 1, "900"), (1, 0, "boat"), (1, 1, "70")):
        table.cell(row, column).text = text
    document.add_heading("Outlook", 1)
    paragraph = document.add_paragraph("More boxes are expected.")
    document.add_comment(paragraph.runs, text="By whom?", author="Bo")
    document.save(str(path))
    return path


def write_pptx(path: Path, titles: Sequence[str] = ("Sails", "Winds")) -> Path:
    """A talk of slides with a title, two lines and a note each; the first has a table and a chart besides."""
    talk = pptx.Presentation()
    talk.core_properties.title, talk.core_properties.author = "Sailing", "Ada Speaker"
    talk.core_properties.comments, talk.core_properties.created = "", datetime(2023, 1, 2)
    for title in titles:
        slide = talk.slides.add_slide(talk.slide_layouts[1])
        slide.shapes.title.text = title
        slide.placeholders[1].text = f"about {title}\nand more"
        slide.notes_slide.notes_text_frame.text = f"say {title} slowly"
    shapes = talk.slides[0].shapes
    shapes.add_table(1, 2, 0, 0, 900_000, 900_000).table.cell(0, 1).text = "in a table"
    data = CategoryChartData()
    data.categories = ["East", "West"]
    data.add_series("Knots", (1, 2))
    shapes.add_chart(XL_CHART_TYPE.BAR_CLUSTERED, 0, 0, 900_000, 900_000, data)
    talk.save(str(path))
    return path


def write_xlsx(path: Path) -> Path:
    """A book of two sheets; the first has texts, numbers, a date, times, a truth and a formula without a result."""
    book = openpyxl.Workbook()
    book.properties.title, book.properties.creator, book.properties.created = "Accounts", "", datetime(2022, 5, 6)
    sheet = book.active
    sheet.title = "Bank"
    sheet.append(["day", "sum"])
    sheet.append([date(2024, 3, 5), 0.1 + 0.2])
    sheet.append([datetime(2024, 3, 5, 12, 30), None, time(8, 15)])
    sheet.append([True, "=1+1"])
    book.create_sheet("Empty")
    book.save(str(path))
    return path


def write_odt(path: Path) -> Path:
    """A letter with a title, two levels of headings, a footnote, a comment, and blanks that are elements."""
    document = OpenDocumentText()
    own = odf.style.Style(name="P1", family="paragraph", parentstylename="Title")
    document.automaticstyles.addElement(own)
    body = document.text
    body.addElement(odf.text.P(stylename="P1", text="Garden letter"))
    body.addElement(odf.text.H(outlinelevel=1, text="Plants"))
    paragraph = odf.text.P(text="Roses")
    paragraph.addElement(odf.text.S(c=2))
    paragraph.addText("and")
    paragraph.addElement(odf.text.Tab())
    paragraph.addText("tulips")
    paragraph.addElement(odf.text.LineBreak())
    paragraph.addText("grow.")
    note = odf.text.Note(noteclass="footnote")
    note.addElement(odf.text.NoteCitation(text="1"))
    note.addElement(_with(odf.text.NoteBody(), odf.text.P(text="In May.")))
    comment = odf.office.Annotation()
    comment.addElement(odf.dc.Creator(text="Bo"))
    comment.addElement(odf.text.P(text="Really?"))
    body.addElement(_with(paragraph, note, comment))
    body.addElement(odf.text.H(outlinelevel=2, text="Trees"))
    body.addElement(odf.text.P(text="One oak."))
    return _saved(document, path)


def write_odp(path: Path) -> Path:
    """A talk of two slides; the first has a title, a box, and a note beside the number of the slide."""
    document = OpenDocumentPresentation()
    layout = odf.style.PageLayout(name="layout")
    document.automaticstyles.addElement(layout)
    master = odf.style.MasterPage(name="master", pagelayoutname=layout)
    document.masterstyles.addElement(master)
    first = odf.draw.Page(name="one", masterpagename=master)
    first.addElement(_framed("title", "Kites"))
    first.addElement(_framed("outline", "They fly."))
    notes = _with(odf.presentation.Notes(), _framed("page-number", "1"), _framed("notes", "say it loudly"))
    first.addElement(notes)
    document.presentation.addElement(first)
    second = odf.draw.Page(name="two", masterpagename=master)
    second.addElement(_framed("outline", "They land."))
    document.presentation.addElement(second)
    return _saved(document, path)


def write_ods(path: Path) -> Path:
    """A book of one sheet with a text, and a number that is shown in another way than it is stored."""
    document = OpenDocumentSpreadsheet()
    table = odf.table.Table(name="Stock")
    row = odf.table.TableRow()
    row.addElement(_with(odf.table.TableCell(valuetype="string"), odf.text.P(text="apples")))
    row.addElement(_with(odf.table.TableCell(valuetype="float", value=1200), odf.text.P(text="1,200")))
    row.addElement(odf.table.TableCell(numbercolumnsrepeated=16000))
    table.addElement(row)
    table.addElement(odf.table.TableRow(numberrowsrepeated=1_000_000))
    document.spreadsheet.addElement(table)
    return _saved(document, path)


def write_epub(path: Path) -> Path:
    """A book of two chapters, named in another order than they are read, with a table of contents."""
    head = (
        '<?xml version="1.0" encoding="utf-8"?>\n<html xmlns="http://www.w3.org/1999/xhtml"><head><title/></head><body>'
    )
    parts = {
        "mimetype": "application/epub+zip",
        "META-INF/container.xml": (
            '<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles>'
            '<rootfile full-path="OEBPS/book.opf" media-type="application/oebps-package+xml"/></rootfiles></container>'
        ),
        "OEBPS/book.opf": (
            '<package xmlns="http://www.idpf.org/2007/opf" xmlns:dc="http://purl.org/dc/elements/1.1/"><metadata>'
            "<dc:title>The Whale</dc:title><dc:creator>H. M.</dc:creator><dc:date>1851-10-18T00:00:00Z</dc:date>"
            '</metadata><manifest><item id="b" href="text/b%20two.xhtml" media-type="application/xhtml+xml"/>'
            '<item id="a" href="text/a.xhtml" media-type="application/xhtml+xml"/>'
            '<item id="n" href="nav.xhtml" media-type="application/xhtml+xml" properties="nav"/>'
            '<item id="c" href="cover.png" media-type="image/png"/></manifest>'
            '<spine><itemref idref="n"/><itemref idref="c"/><itemref idref="a"/><itemref idref="b"/></spine></package>'
        ),
        "OEBPS/nav.xhtml": f"{head}<nav>Loomings</nav></body></html>",
        "OEBPS/text/a.xhtml": f"{head}<h1>Loomings</h1><p>Call me &amp; <b>Ish</b>mael.</p></body></html>",
        "OEBPS/text/b two.xhtml": f"{head}<p>No heading here.</p></body></html>",
    }
    return zipped(path, parts)


def _framed(kind: str, text: str) -> Element:
    frame = odf.draw.Frame(width="1cm", height="1cm")
    frame.setAttrNS("urn:oasis:names:tc:opendocument:xmlns:presentation:1.0", "class", kind)
    return _with(frame, _with(odf.draw.TextBox(), odf.text.P(text=text)))


def _with(parent: Element, *children: Element) -> Element:
    for child in children:
        parent.addElement(child)
    return parent


def _saved(document: OpenDocument, path: Path) -> Path:
    document.save(str(path))
    return path


def stand_in_office(folder: Path, body: str = "") -> Path:
    """A script in the place of LibreOffice, whose PDFs have a red and a lime page; it notes each run in `folder`/runs.

    Args:
        body: what it does first.
    """
    program = folder / "soffice"
    (folder / "two.pdf").write_bytes(pdf(["red", "lime"]))
    program.write_text(
        f'#!/bin/sh\necho run >> "{folder}/runs"\n{body}\nfor last; do :; done\n'
        f'cp "{folder}/two.pdf" "$(dirname "$last")/out/document.pdf"\n'
    )
    program.chmod(0o755)
    return program
