"""How large a medium may be before it is refused."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds checked before anything large is decoded.

    The defaults let through what people keep (a 200-megapixel photograph, a feature film, a 2,000-page manual) and stop
    what only a mistake or an attack produces, such as a few kilobytes that claim to be a gigapixel picture.
    """

    image_px: int = 256_000_000
    frame_px: int = 64_000_000
    frames: int = 2_000_000
    pages: int = 5_000
    image_bytes: int = 1 << 30
    video_bytes: int = 64 << 30
    pdf_bytes: int = 4 << 30


DEFAULT_LIMITS = Limits()
