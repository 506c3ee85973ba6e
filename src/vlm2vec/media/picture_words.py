"""Which words does a picture file hold: description, keywords, place, day, camera, from EXIF, IPTC, XMP and PNG?"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TypeAlias

import PIL.Image

from vlm2vec.media.image import open_picture
from vlm2vec.media.plain_text import date_words, decoded_text, joined
from vlm2vec.media.source import DEFAULT_LIMITS, Limits, open_source
from vlm2vec.media.words import FileWords
from vlm2vec.media.xmp import parse_xmp

# Of one text; descriptions of stock photographs have some hundred.
_TEXT_CHARS = 10_000
# Of one block of metadata. More of them is no mistake of a program: it would be read for minutes.
_BLOCK_BYTES = 4 << 20

# Tags of EXIF 3.0, and those of Windows in UTF-16: title, subject, comment, keywords, author.
_DESCRIPTION, _ARTIST, _MAKE, _MODEL, _USER_COMMENT = 0x010E, 0x013B, 0x010F, 0x0110, 0x9286
_OF_WINDOWS = (0x9C9B, 0x9C9F, 0x9C9C, 0x9C9E, 0x9C9D)
_INNER = 0x8769
_TAKEN, _DIGITIZED = 0x9003, 0x9004
# A UserComment begins with eight bytes that name its letters.
_CODE_BYTES, _UNICODE = 8, b"UNICODE\0"

# Data sets of record 2 of IPTC-IIM 4.2: title, headline, caption, keywords, place in a town, town, province, country,
# author.
_IPTC_TEXTS = (5, 105, 120, 25, 92, 90, 95, 101, 80)
_IPTC_DAY = 55
_APPLICATION = 2
# Where IPTC lies in a TIFF, and IPTC, EXIF and XMP among the resources of Photoshop.
_TIFF_IPTC, _IPTC_RESOURCE, _EXIF_RESOURCE, _XMP_RESOURCE = 33723, 0x0404, 0x0422, 0x0424

# "Name" is that of a face or another region in a picture.
_XMP_TEXTS = (
    *("title", "Headline", "description", "AltTextAccessibility", "ExtDescrAccessibility", "UserComment"),
    *("subject", "hierarchicalSubject", "LastKeywordXMP", "TagsList", "PersonInImage", "Name", "Event"),
    *("Location", "Sublocation", "City", "State", "ProvinceState", "Country", "CountryName", "creator"),
)
_XMP_DAYS = ("DateTimeOriginal", "DateCreated", "CreateDate")

# Keywords of the PNG specification, and one under which programs that draw after words keep these.
_PNG_TEXTS = ("title", "description", "comment", "author", "caption", "keywords", "parameters")
_PNG_XMP = "XML:com.adobe.xmp"
# Under which that block of a PNG is kept; keywords are in lower case there.
_PNG_EXIF = "eXIf"
# Of any kind. Programs write pixels in chunks of 8 KB, of which a gigabyte has 130,000.
_MOST_CHUNKS = 500_000

_Read: TypeAlias = Callable[[], tuple[list[str], str]]
"""Reads a block of metadata: its texts, and the day on which the picture was taken, if it says so."""


def read_picture_words(path: Path, limits: Limits = DEFAULT_LIMITS) -> FileWords:
    """Take the metadata of a picture that are words, a line each, in `about`; there are no parts.

    No pixel is decoded. A block that is damaged has no words, and a note: the picture has its look.

    Raises:
        MediaError: missing, empty, or no image at all. LimitError: more bytes or pixels than `limits` allow.
    """
    texts, days, notes = list[str](), list[str](), list[str]()
    with open_picture(path, limits) as picture:
        chunks = _png_chunks(path, limits, notes) if picture.format == "PNG" else {}
        for name, read in _blocks(picture, chunks):
            try:
                of_block, day = read()
            except MemoryError:
                raise
            except Exception as error:  # Damaged metadata make Pillow raise nearly everything.
                notes.append(f"its {name} data are left out: {str(error) or type(error).__name__}")
            else:
                texts += [text[:_TEXT_CHARS] for text in of_block]
                days.append(day)
                notes += [
                    f"a text of {len(text):,} characters in its {name} data is cut to {_TEXT_CHARS:,}"
                    for text in of_block
                    if len(text) > _TEXT_CHARS
                ]
    return FileWords(joined(*texts, next(filter(None, days), "")), (), tuple(notes))


def _blocks(picture: PIL.Image.Image, chunks: dict[str, bytes]) -> Iterator[tuple[str, _Read]]:
    """The metadata of an opened picture: what each block is called, and how it is read."""
    info = picture.info
    # Of a PSD; a JPEG has the same in its header.
    resources = {number: data for number, _, data in getattr(picture, "resources", ())} or info.get("photoshop", {})
    xmp = chunks.get(_PNG_XMP) or info.get("xmp") or resources.get(_XMP_RESOURCE)
    if xmp:
        yield "XMP", partial(_of_xmp, xmp)
    if picture.format == "TIFF":
        # Asked for the value, Pillow gives only the first of the numbers of four bytes that some programs make of it.
        stored: dict[int, bytes] = getattr(getattr(picture, "tag_v2", None), "_tagdata", {})
        if _TIFF_IPTC in stored:
            yield "IPTC", partial(_of_iptc, stored[_TIFF_IPTC])
        yield "EXIF", lambda: _of_exif(picture.getexif())
        return
    if iptc := resources.get(_IPTC_RESOURCE):
        yield "IPTC", partial(_of_iptc, iptc)
    if block := chunks.get(_PNG_EXIF) or info.get("exif") or resources.get(_EXIF_RESOURCE):
        yield "EXIF", lambda: _of_exif(_opened_exif(block))
    if texts := [decoded_text(chunks[key]) for key in _PNG_TEXTS if key in chunks]:
        yield "PNG", lambda: (texts, "")


def _of_xmp(packet: object) -> tuple[list[str], str]:
    values = parse_xmp(_bytes_of(packet), {*_XMP_TEXTS, *_XMP_DAYS})
    # A title is often there in several languages, and the same in all.
    texts = [" ".join(dict.fromkeys(values[name])) for name in _XMP_TEXTS if name in values]
    return texts, next(filter(None, (date_words(day) for name in _XMP_DAYS for day in values.get(name, ()))), "")


def _of_exif(exif: PIL.Image.Exif) -> tuple[list[str], str]:
    inner = exif.get_ifd(_INNER)
    texts = [_exif_text(exif.get(_DESCRIPTION))]
    texts += [_bytes_of(exif[tag]).decode("utf-16-le", "replace") for tag in _OF_WINDOWS if tag in exif]
    texts.append(_user_comment(inner.get(_USER_COMMENT)))
    texts += [_exif_text(exif.get(tag)) for tag in (_ARTIST, _MAKE, _MODEL)]
    return texts, date_words(_exif_text(inner.get(_TAKEN))) or date_words(_exif_text(inner.get(_DIGITIZED)))


def _opened_exif(block: object) -> PIL.Image.Exif:
    exif = PIL.Image.Exif()
    exif.load(_bytes_of(block))
    return exif


def _exif_text(value: object) -> str:
    """A value of EXIF: ASCII by the standard, UTF-8 of many programs; Pillow takes it as Latin-1."""
    return decoded_text(value.encode("latin-1")) if isinstance(value, str) else ""


def _user_comment(value: object) -> str:
    if not isinstance(value, bytes):
        return _exif_text(value)
    code, text = value[:_CODE_BYTES], value[_CODE_BYTES:]
    if code != _UNICODE:
        return decoded_text(text)
    # The byte order is not always that of the file: in UTF-16 the upper byte is mostly 0.
    return text.decode("utf-16-be" if text[0::2].count(0) > text[1::2].count(0) else "utf-16-le", "replace")


def _of_iptc(stored: object) -> tuple[list[str], str]:
    values: dict[int, list[str]] = {}
    block, place = _bytes_of(stored), 0
    # A data set: its mark, two numbers, its length in two bytes; longer ones are for pictures.
    while place + 5 <= len(block) and block[place] == 0x1C:
        record, number, size = struct.unpack_from(">BBH", block, place + 1)
        if record == _APPLICATION:
            # In UTF-8 if record 1 says so, and often also if it does not.
            values.setdefault(number, []).append(decoded_text(block[place + 5 : place + 5 + size]))
        place += 5 + size
    texts = [" ".join(values[number]) for number in _IPTC_TEXTS if number in values]
    return texts, date_words(" ".join(values.get(_IPTC_DAY, ())))


def _png_chunks(path: Path, limits: Limits, notes: list[str]) -> dict[str, bytes]:
    """The wanted texts of a PNG by their keywords, and its EXIF.

    They may stand behind the pixels, where Pillow finds them only when it decodes these.
    """
    chunks: dict[str, bytes] = {}
    with open_source(path, "an image", limits) as stream:
        place = 8
        for _ in range(_MOST_CHUNKS):
            stream.seek(place)
            head = stream.read(8)
            size, kind = int.from_bytes(head[:4]), head[4:]
            if kind in (b"", b"IEND"):
                return chunks
            if kind in (b"tEXt", b"zTXt", b"iTXt", b"eXIf"):
                # With its keyword; what is cut here is too long.
                _keep_chunk(kind, stream.read(min(size, 2 * _BLOCK_BYTES)), chunks, notes)
            place += 8 + size + 4
    notes.append(f"texts behind its first {_MOST_CHUNKS:,} chunks are left out")
    return chunks


def _keep_chunk(kind: bytes, data: bytes, chunks: dict[str, bytes], notes: list[str]) -> None:
    """Unpack a text if it is the first one under a wanted keyword; one that cannot be is empty, and has a note."""
    if kind == b"eXIf":
        chunks.setdefault(_PNG_EXIF, data)
        return
    keyword, _, text = data.partition(b"\0")
    name = keyword.decode("latin-1")
    name = name if name == _PNG_XMP else name.lower()
    if name in chunks or name not in (*_PNG_TEXTS, _PNG_XMP):
        return
    # zTXt: how it is packed. iTXt: whether and how, then the language and the keyword in it, each ended by a zero byte.
    is_packed = kind == b"zTXt" or (kind == b"iTXt" and text[:1] == b"\1")
    text = text[1:] if kind == b"zTXt" else text[2:].split(b"\0", 2)[-1] if kind == b"iTXt" else text
    try:
        chunks[name] = _bytes_of(zlib.decompressobj().decompress(text, _BLOCK_BYTES + 1) if is_packed else text)
    except (ValueError, zlib.error) as error:
        chunks[name] = b""
        notes.append(f"the {name} in it is left out: {error}")


def _bytes_of(value: object) -> bytes:
    """A block of bytes, which some files declare to be a text. Raises ValueError if it is neither, or too long."""
    if isinstance(value, str):
        value = value.encode("latin-1", "replace")
    if not isinstance(value, bytes):
        raise ValueError(f"it is stored as {type(value).__name__}")
    if len(value) > _BLOCK_BYTES:
        raise ValueError(f"it has more than {_BLOCK_BYTES:,} bytes")
    return value
