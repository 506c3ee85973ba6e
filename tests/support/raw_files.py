"""A tiny photograph as a camera measures it: a DNG, written by hand from Adobe's specification."""

from __future__ import annotations

import struct

_TYPES = {1: "B", 2: "B", 3: "H", 4: "I", 10: "2i"}
_Field = tuple[int, int, bytes | tuple[int, ...]]


def dng(preview: bytes | None, *, side_px: int = 64, orientation: int = 1) -> bytes:
    """A photograph of one grey, with a preview (a JPEG of any size) or without.

    Args:
        orientation: how it has to be turned, as EXIF numbers it.
    """
    pixels = struct.pack("<H", 30_000) * side_px * side_px
    start = 8
    raw_at = start + len(preview or b"")
    raw_ifd_at = raw_at + len(pixels)
    raw_ifd = _ifd(raw_ifd_at, [*_strip(0, side_px, 32803, raw_at, len(pixels), 16, 1), *_sensor()])
    camera: list[_Field] = [
        (271, 2, b"Maker\0"),
        (272, 2, b"Model\0"),
        (274, 3, (orientation,)),
        (50706, 1, (1, 4, 0, 0)),
        (50708, 2, b"Maker Model\0"),
        (50721, 10, (1, 1, 0, 1, 0, 1, 0, 1, 1, 1, 0, 1, 0, 1, 0, 1, 1, 1)),
    ]
    main_at = raw_ifd_at + len(raw_ifd)
    if preview is None:
        main = _ifd(main_at, [*_strip(0, side_px, 32803, raw_at, len(pixels), 16, 1), *_sensor(), *camera])
    else:
        shown = _strip(1, side_px, 6, start, len(preview), 8, 3)
        main = _ifd(main_at, [*shown, *camera, (330, 4, (raw_ifd_at,))])
    return b"II*\0" + struct.pack("<I", main_at) + (preview or b"") + pixels + raw_ifd + main


def _strip(kind: int, side_px: int, photometric: int, at: int, length: int, bits: int, samples: int) -> list[_Field]:
    return [
        (254, 4, (kind,)),
        (256, 4, (side_px,)),
        (257, 4, (side_px,)),
        (258, 3, (bits,) * samples),
        (259, 3, (1 if samples == 1 else 7,)),
        (262, 3, (photometric,)),
        (273, 4, (at,)),
        (277, 3, (samples,)),
        (278, 4, (side_px,)),
        (279, 4, (length,)),
    ]


def _sensor() -> list[_Field]:
    """Which colour each sensor of a square of four sees, and where white is."""
    return [(33421, 3, (2, 2)), (33422, 1, (0, 1, 1, 2)), (50717, 4, (65_535,))]


def _ifd(at: int, fields: list[_Field]) -> bytes:
    fields = sorted(fields)
    outside_at = at + 2 + 12 * len(fields) + 4
    entries, outside = struct.pack("<H", len(fields)), b""
    for tag, kind, values in fields:
        form = _TYPES[kind]
        packed = values if isinstance(values, bytes) else struct.pack(f"<{len(values)}{form[-1]}", *values)
        count = len(values) // (2 if len(form) == 2 else 1)
        if len(packed) > 4:
            place = struct.pack("<I", outside_at + len(outside))
            outside += packed + b"\0" * (len(packed) % 2)
        else:
            place = packed.ljust(4, b"\0")
        entries += struct.pack("<HHI", tag, kind, count) + place
    return entries + b"\0\0\0\0" + outside
