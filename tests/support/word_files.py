"""Files that hold words: PDFs with text, films with subtitles and chapters, pictures with metadata."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path

import av
from av.subtitles.subtitle import SubtitleSet

from support.media_files import picture


def text_pdf(
    pages: Sequence[str], *, info: Mapping[str, str] | None = None, outline: Sequence[tuple[str, int]] = ()
) -> bytes:
    """A PDF with these lines on its pages, written by hand; "\\1" in them is the ligature of f and i.

    Args:
        info: "Title", "Author" and the like.
        outline: headings, each with the number of the page that it leads to.
    """
    objects: dict[int, str] = {}
    encoding = "<< /Type /Encoding /BaseEncoding /WinAnsiEncoding /Differences [1 /fi] >>"
    objects[3] = f"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding {encoding} >>"
    objects[4] = " ".join(["<<", *(f"/{key} {_hex(value)}" for key, value in (info or {}).items()), ">>"])
    numbers = [10 + 2 * index for index in range(len(pages))]
    for number, page in zip(numbers, pages, strict=True):
        lines = " ".join(f"({_escaped(line)}) Tj 0 -14 Td" for line in page.split("\n"))
        content = f"BT /F1 12 Tf 20 700 Td {lines} ET" if page else ""
        objects[number] = (
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents {number + 1} 0 R "
            "/Resources << /Font << /F1 3 0 R >> >> >>"
        )
        objects[number + 1] = f"<< /Length {len(content)} >> stream\n{content}\nendstream"
    first = 10 + 2 * len(pages)
    for index, (heading, page_number) in enumerate(outline):
        following = f"/Next {first + index + 1} 0 R" if index + 1 < len(outline) else ""
        target = f"[{numbers[page_number - 1]} 0 R /Fit]"
        objects[first + index] = f"<< /Title {_hex(heading)} /Parent 5 0 R /Dest {target} {following} >>"
    objects[1] = "<< /Type /Catalog /Pages 2 0 R /Outlines 5 0 R >>"
    objects[2] = f"<< /Type /Pages /Kids [{' '.join(f'{one} 0 R' for one in numbers)}] /Count {len(pages)} >>"
    objects[5] = f"<< /First {first} 0 R /Last {first + len(outline) - 1} 0 R >>" if outline else "<< >>"
    body = "".join(f"{number} 0 obj {written} endobj\n" for number, written in sorted(objects.items()))
    return f"%PDF-1.4\n{body}trailer << /Root 1 0 R /Info 4 0 R >>\n%%EOF\n".encode("latin-1")


def write_film(
    path: Path,
    subtitles: Sequence[tuple[float, float, str]] = (),
    *,
    codec: str = "mov_text",
    video_codec: str = "libx264",
    chapters: Sequence[tuple[float, float, str]] = (),
    tags: Mapping[str, str] | None = None,
) -> Path:
    """Write a film of 2 seconds with subtitles, which may last longer, and chapters, both as (start, end, text)."""
    with av.open(str(path), "w") as container:
        container.metadata.update(tags or {})
        video = container.add_stream(video_codec, rate=10)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        track = None
        if subtitles:
            track = container.add_stream(codec)
            track.codec_context.subtitle_header = _ASS_HEADER
        container.set_chapters(
            [
                {
                    "id": number,
                    "start": _ms(start_s),
                    "end": _ms(end_s),
                    "time_base": _TICK,
                    "metadata": {"title": title},
                }
                for number, (start_s, end_s, title) in enumerate(chapters, 1)
            ]
        )
        for number in range(20):
            frame = av.VideoFrame.from_image(picture(64, 48, number))
            frame.pts, frame.time_base = number, Fraction(1, 10)
            container.mux(video.encode(frame))
        container.mux(video.encode())
        for start_s, end_s, text in subtitles:
            assert track is not None
            event = f"0,0,Default,,0,0,0,,{text}".encode()
            packet = track.codec_context.encode_subtitle(SubtitleSet.create(event, 0, _ms(end_s - start_s)))
            packet.stream, packet.time_base = track, _TICK
            packet.pts = packet.dts = _ms(start_s)
            packet.duration = _ms(end_s - start_s)
            container.mux(packet)
    return path


_TICK = Fraction(1, 1000)
_ASS_HEADER = b"""[Script Info]
ScriptType: v4.00+

[V4+ Styles]
Format: Name, Fontname, Fontsize
Style: Default,Arial,16

[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
"""


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


def _hex(text: str) -> str:
    return f"<FEFF{text.encode('utf-16-be').hex()}>"


def _escaped(line: str) -> str:
    for letter in "\\()":
        line = line.replace(letter, f"\\{letter}")
    return line


def xmp_packet(properties: str, attributes: str = "") -> bytes:
    """An XMP packet with these elements and attributes in its description."""
    names = {
        "dc": "http://purl.org/dc/elements/1.1/",
        "photoshop": "http://ns.adobe.com/photoshop/1.0/",
        "mwg-rs": "http://www.metadataworkinggroup.com/schemas/regions/",
        "xmp": "http://ns.adobe.com/xap/1.0/",
    }
    spaces = " ".join(f"xmlns:{short}='{name}'" for short, name in names.items())
    return (
        "<?xpacket begin='' id='W5M0MpCehiHzreSzNTczkc9d'?><x:xmpmeta xmlns:x='adobe:ns:meta/'>"
        f"<rdf:RDF xmlns:rdf='http://www.w3.org/1999/02/22-rdf-syntax-ns#'><rdf:Description {spaces} {attributes}>"
        f"{properties}</rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end='w'?>"
    ).encode()


def iptc_block(*records: tuple[int, str], encoding: str = "utf-8") -> bytes:
    """Data sets of record 2 of IPTC, as (number, text)."""
    return b"".join(
        bytes([0x1C, 2, number]) + len(data := text.encode(encoding)).to_bytes(2) + data for number, text in records
    )


def jpeg_with_iptc(jpeg: bytes, block: bytes) -> bytes:
    """A JPEG with a block of IPTC in the resources of Photoshop."""
    resource = b"8BIM\x04\x04\0\0" + len(block).to_bytes(4) + block + b"\0" * (len(block) % 2)
    segment = b"Photoshop 3.0\0" + resource
    return jpeg[:2] + b"\xff\xed" + (len(segment) + 2).to_bytes(2) + segment + jpeg[2:]


def png_with(png: bytes, *chunks: tuple[bytes, bytes], behind: bool = False) -> bytes:
    """A PNG with more chunks, before its pixels or behind them."""
    place = png.index(b"IEND") - 4 if behind else 8 + 25
    added = b"".join(len(data).to_bytes(4) + kind + data + zlib.crc32(kind + data).to_bytes(4) for kind, data in chunks)
    return png[:place] + added + png[place:]
