"""Small files that decode to much more than they are."""

from __future__ import annotations

import io
import zlib

import PIL.Image


def pdf_bomb(num_bytes: int) -> bytes:
    """A PDF of less than a kilobyte with one page, whose content is this many blanks."""
    data = zlib.compress(zlib.compress(b" " * num_bytes, 9), 9)
    return (
        b"%%PDF-1.4\n"
        b"1 0 obj << /Type /Catalog /Pages 2 0 R >> endobj\n"
        b"2 0 obj << /Type /Pages /Kids [3 0 R] /Count 1 >> endobj\n"
        b"3 0 obj << /Type /Page /Parent 2 0 R /MediaBox [0 0 72 36] /Contents 4 0 R >> endobj\n"
        b"4 0 obj << /Filter [/FlateDecode /FlateDecode] /Length %d >> stream\n%s\nendstream endobj\n"
        b"trailer << /Root 1 0 R /Size 5 >>\n%%%%EOF\n"
    ) % (len(data), data)


def gif_bomb(width: int, height: int, num_frames: int) -> bytes:
    """A GIF whose frames are all one colour, 100 ms each."""
    buffer = io.BytesIO()
    PIL.Image.new("P", (width, height)).save(buffer, "GIF")
    one = buffer.getvalue()
    start = one.index(b",", 13)
    return one[:start] + (b"\x21\xf9\x04\x00\x0a\x00\x00\x00" + one[start:-1]) * num_frames + b";"
