"""How large a medium may be before it is refused."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds checked before anything large is decoded, and bounds of decoding itself.

    The defaults let through what people keep (a 200-megapixel photograph, a feature film, a 2,000-page manual) and stop
    what only a mistake or an attack produces, such as a few kilobytes that claim to be a gigapixel picture.

    Args:
        image_px: of a still picture.
        frame_px: of a frame of a video or an animated picture.
        frames: of a video or an animated picture.
        animation_px: of all frames of an animated picture together. Each is composed from the one before, so that the
            last cannot be had without all others. 2,000 frames in Full HD have as many.
        pages: of a PDF.
        image_bytes, video_bytes, pdf_bytes: of a file.
        decode_bytes: memory that decoding one page or video may take beyond what the decoder takes anyway. Enforced
            where decoding runs in a process of its own (`media.sandbox`), as are the two times.
        decode_s: how long decoding one page or picture may take.
        film_s_per_mb: how much longer it may take for a video, by its stored megabytes: to pick frames from a film may
            be to decode all of it.
    """

    image_px: int = 256_000_000
    frame_px: int = 64_000_000
    frames: int = 2_000_000
    animation_px: int = 4_000_000_000
    pages: int = 5_000
    image_bytes: int = 1 << 30
    video_bytes: int = 64 << 30
    pdf_bytes: int = 4 << 30
    decode_bytes: int = 2 << 30
    decode_s: float = 60.0
    film_s_per_mb: float = 10.0


DEFAULT_LIMITS = Limits()
