"""Tiny real files for the tests of media: pictures, animations, videos, PDFs, and the ways in which they break."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import PIL.Image
import PIL.ImageDraw
from numpy.typing import NDArray

from vlm2vec.media import VideoInfo, probe


def picture(width: int = 40, height: int = 30, shift: int = 0) -> PIL.Image.Image:
    """An RGB picture in which no two rows or columns are alike; `shift` makes another one."""
    y, x = np.mgrid[:height, :width]
    channels = [(x * 3 + shift * 7) % 256, (y * 5 + shift * 11) % 256, (x + y + shift * 13) % 256]
    return PIL.Image.fromarray(np.stack(channels, -1).astype(np.uint8))


def encoded(image: PIL.Image.Image, format: str = "PNG", **options: object) -> bytes:
    """The bytes of a picture file."""
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def animation(format: str, colors: Sequence[str], durations_ms: Sequence[int], **options: object) -> bytes:
    """The bytes of an animated GIF, WEBP, PNG or AVIF with one frame of each colour."""
    frames = [PIL.Image.new("RGB", (32, 24), color) for color in colors]
    if format == "WEBP":
        options["lossless"] = True
    return encoded(frames[0], format, save_all=True, append_images=frames[1:], duration=list(durations_ms), **options)


def png_header(width: int, height: int) -> bytes:
    """A PNG of a few bytes that claims to be this large."""
    return _png(width, height, 8, 2, b"\0" * 50, {})


def png_row(bits: int, color: int, row: bytes, **chunks: bytes) -> bytes:
    """A PNG of one row; `row` are its packed samples, 4 pixels wide."""
    return _png(4, 1, bits, color, b"\0" + row, chunks)


def _png(width: int, height: int, bits: int, color: int, rows: bytes, chunks: dict[str, bytes]) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, 0))
    others = b"".join(chunk(name.encode(), data) for name, data in chunks.items())
    return b"\x89PNG\r\n\x1a\n" + header + others + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def tiff_row(row: bytes, width: int, **fields: int | tuple[int, ...]) -> bytes:
    """An uncompressed TIFF of one row with these fields of 16 bits."""
    tags = {"bits": 258, "photometric": 262, "samples": 277, "extra": 338, "format": 339}
    entries: dict[int, tuple[int, ...]] = {256: (width,), 257: (1,), 259: (1,), 278: (1,), 279: (len(row),)}
    entries |= {tags[name]: value if isinstance(value, tuple) else (value,) for name, value in fields.items()}
    outside, start = b"", 8 + 2 + 12 * (len(entries) + 1) + 4
    directory = struct.pack("<H", len(entries) + 1)
    for tag, values in sorted((entries | {273: (0,)}).items()):
        packed = struct.pack(f"<{len(values)}H", *values)
        if tag == 273:
            packed = struct.pack("<H", start + sum(2 * len(one) for one in entries.values() if len(one) > 2))
        elif len(values) > 2:
            outside += packed
            packed = struct.pack("<I", start + len(outside) - len(packed))
        directory += struct.pack("<HHI", tag, 3, len(values)) + packed.ljust(4, b"\0")
    return b"II*\0" + struct.pack("<I", 8) + directory + b"\0\0\0\0" + outside + row


def pfm_row(values: NDArray[np.float32]) -> bytes:
    """A portable float map of one row."""
    return f"Pf\n{len(values)} 1\n-1.0\n".encode() + values.astype("<f4").tobytes()


def write_video(
    path: Path,
    codec: str = "libx264",
    num_frames: int = 60,
    *,
    options: dict[str, str] | None = None,
    pix_fmt: str = "yuv420p",
    muxer: dict[str, str] | None = None,
    rotation: int | None = None,
    frames: Sequence[PIL.Image.Image] | None = None,
    pts: Sequence[int] | None = None,
    metadata: dict[str, str] | None = None,
) -> Path:
    """Write a clip of 64 x 48 pixels with 10 frames a second and a keyframe every 12; every frame differs."""
    frames = frames or [picture(64, 48, shift) for shift in range(num_frames)]
    with av.open(str(path), "w", options=muxer or {}) as container:
        container.metadata.update(metadata or {})
        stream = container.add_stream(codec, rate=10, options=options or {})
        stream.width, stream.height = frames[0].size
        stream.pix_fmt = pix_fmt
        stream.gop_size = 12
        if rotation is not None:
            stream.set_display_rotation(rotation)
        for index, image in enumerate(frames):
            frame = av.VideoFrame.from_image(image)
            frame.time_base = Fraction(1, 10)
            frame.pts = index if pts is None else pts[index]
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def write_sound(path: Path, cover: bytes | None = None) -> Path:
    """Write a moment of silence, with a cover picture (PNG) if one is given."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        if cover is not None:
            art = container.add_stream("png", rate=1)
            art.width, art.height, art.pix_fmt = 40, 30, "rgb24"
            art.disposition = av.stream.Disposition.attached_pic
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 44100
        container.mux([*stream.encode(frame), *stream.encode()])
        if cover is not None:
            packet = av.Packet(cover)
            packet.stream, packet.pts, packet.dts = art, 0, 0
            container.mux(packet)
    return path


def all_frames(path: Path) -> list[bytes]:
    """The RGB pixels of every frame, as a plain decoding from start to end yields them."""
    with av.open(str(path)) as container:
        return [frame.to_image().tobytes() for frame in container.decode(video=0)]


def pdf(colors: Sequence[str], size_pt: tuple[int, int] = (72, 36)) -> bytes:
    """The bytes of a PDF with one filled page of each colour."""
    pages = [PIL.Image.new("RGB", size_pt, color) for color in colors]
    return encoded(pages[0], "PDF", save_all=True, append_images=pages[1:], resolution=72)


def bare_pdf(media_box: str = "0 0 72 36", trailer: str = "", objects: str = "") -> bytes:
    """A PDF of one empty page, written by hand so that any part of it can lie."""
    return (
        "%PDF-1.4\n"
        "1 0 obj << /Type /Catalog /Pages 2 0 R >> endobj\n"
        "2 0 obj << /Type /Pages /Kids [3 0 R] /Count 1 >> endobj\n"
        f"3 0 obj << /Type /Page /Parent 2 0 R /MediaBox [{media_box}] >> endobj\n"
        f"{objects}\n"
        f"trailer << /Root 1 0 R /Size 5 {trailer} >>\n%%EOF\n"
    ).encode("latin-1")


def encrypted_pdf() -> bytes:
    """A PDF whose user password is not the empty one."""
    encrypt = f"<< /Filter /Standard /V 1 /R 2 /P -4 /O <{'41' * 32}> /U <{'42' * 32}> >>"
    return bare_pdf(trailer=f"/Encrypt 4 0 R /ID [<{'43' * 16}> <{'43' * 16}>]", objects=f"4 0 obj {encrypt} endobj")


def color_at(image: PIL.Image.Image, point: tuple[int, int]) -> tuple[int, ...]:
    """The channels of a pixel of a picture that has several."""
    color = image.getpixel(point)
    assert isinstance(color, tuple)
    return color


def measured(path: Path) -> VideoInfo:
    """A video as `probe` finds it, its duration rounded to 10 microseconds."""
    info = probe(path)
    return info._replace(duration_s=round(info.duration_s, 5))


def as_bytes(pictures: list[PIL.Image.Image]) -> list[bytes]:
    """Their pixels, to be compared."""
    return [image.tobytes() for image in pictures]
