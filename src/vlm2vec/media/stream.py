"""How is the video in a file opened, and how is a frame of it shown: turned, made square, brought from HDR to SDR?"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from vlm2vec.errors import LimitError, MediaError
from vlm2vec.media.image import from_pixels
from vlm2vec.media.source import Limits, check_file, decoding, describe, open_source

if TYPE_CHECKING:
    from av import VideoFrame
    from av.container import InputContainer
    from av.video.stream import VideoStream

FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,asf,flv,ogg"
"""The formats that FFmpeg may take a file for. Playlists and session descriptions are left out: a text file named .mp4
could make it open other files and network addresses."""

_Floats = NDArray[np.float32] | NDArray[np.float64]

_Transpose = PIL.Image.Transpose
# (swaps width and height, mirrored left to right after that, mirrored top to bottom after that)
_TURNS: dict[tuple[bool, bool, bool], PIL.Image.Transpose | None] = {
    (False, False, False): None,
    (False, True, False): _Transpose.FLIP_LEFT_RIGHT,
    (False, False, True): _Transpose.FLIP_TOP_BOTTOM,
    (False, True, True): _Transpose.ROTATE_180,
    (True, False, False): _Transpose.TRANSPOSE,
    (True, True, False): _Transpose.ROTATE_270,
    (True, False, True): _Transpose.ROTATE_90,
    (True, True, True): _Transpose.TRANSVERSE,
}
_MIRRORS = (_Transpose.FLIP_LEFT_RIGHT, _Transpose.FLIP_TOP_BOTTOM, _Transpose.TRANSPOSE, _Transpose.TRANSVERSE)
_SWAPS = (_Transpose.ROTATE_90, _Transpose.ROTATE_270, _Transpose.TRANSPOSE, _Transpose.TRANSVERSE)

# A scaler that rounds to whole pixels leaves ratios such as 1280:1279; a header that is wrong claims absurd ones.
_SQUARE = (Fraction(99, 100), Fraction(101, 100))
_POSSIBLE = (Fraction(1, 10), Fraction(10))

# Numbers of ITU-T H.273.
_TRANSFERS: dict[int, Literal["pq", "hlg"]] = {16: "pq", 18: "hlg"}
_PRIMARIES_709 = 1
_FULL_RANGE = 2
# Matrix number -> how much red and blue weigh in luma. HDR that names none is BT.2020.
_LUMA = {1: (0.2126, 0.0722), 5: (0.299, 0.114), 6: (0.299, 0.114)}
_LUMA_2020 = (0.2627, 0.0593)

WHITE_NITS = 203.0
"""Luminance of a white sheet of paper in HDR (ITU-R BT.2408): it becomes the white of SDR."""

KNEE = 0.8
"""Share of `WHITE_NITS` from which brighter light is compressed."""

# ITU-R BT.2087: linear light from the primaries of BT.2020 to those of BT.709.
_TO_709 = np.array(
    [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]], dtype=np.float32
)
_ROWS = 256  # A frame is tone-mapped in strips, which keeps its floating-point copies small.


@contextmanager
def open_clip(source: Path | bytes, limits: Limits) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Open a video file and the video stream that a player shows: the default one, of several the largest.

    An error of FFmpeg inside the block becomes a `MediaError`; PyAV keeps FFmpeg's log from the terminal.

    Raises:
        MediaError: not a video, no picture in it, or coded in an unknown way.
        LimitError: more bytes, or more pixels a frame, than `limits` allow.
    """
    import av
    from av.stream import Disposition

    name = describe(source)
    with ExitStack() as stack:
        file: object
        if isinstance(source, bytes):
            file = stack.enter_context(open_source(source, "a video", limits))
        else:
            check_file(source, "a video", limits)
            file = f"file:{source}"  # The prefix keeps FFmpeg from reading a name like "concat:a" as a protocol.
        stack.enter_context(decoding(name, "a video"))
        options = {"format_whitelist": FORMATS, "protocol_whitelist": "file"}
        try:
            container = stack.enter_context(av.open(file, options=options, metadata_errors="replace"))
        except (av.InvalidDataError, av.ArgumentError) as error:  # The second: of a format that is not let in.
            raise MediaError(
                f"{name} cannot be read as a video: its content is damaged or of no known format; "
                "check that the file is what its name says"
            ) from error
        # A cover picture in a music file passes for a video stream.
        streams = [stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic]
        if not streams:
            raise MediaError(f"{name} has no video stream: it holds sound or data only")
        stream = max(streams, key=_preference)  # Of equals the first.
        if stream.codec_context is None:
            raise MediaError(f"{name} is coded in a way that this installation cannot decode; convert it to H.264")
        if stream.codec_context.width < 1 or stream.codec_context.height < 1:
            raise MediaError(f"{name} cannot be read as a video: it states no frame size that FFmpeg accepts")
        _check_frame_px(stream.codec_context.width, stream.codec_context.height, limits, name)
        yield container, stream


@dataclass(frozen=True, slots=True)
class VideoLook:
    """How the frames of a video stream are shown, beside the turn that every frame carries.

    `aspect` is the width of a pixel over its height, 1 where it is as good as square or not possible. `transfer` is
    set for HDR only; `luma`, `is_full_range` and `is_wide` (primaries other than BT.709) matter for HDR only.
    """

    aspect: Fraction
    transfer: Literal["pq", "hlg"] | None
    luma: tuple[float, float]
    is_full_range: bool
    is_wide: bool

    @classmethod
    def of(cls, stream: VideoStream) -> VideoLook:
        """Read off the header of a stream how its frames are shown."""
        codec = stream.codec_context
        aspect = stream.sample_aspect_ratio or Fraction(1)
        if _SQUARE[0] < aspect < _SQUARE[1] or not _POSSIBLE[0] <= aspect <= _POSSIBLE[1]:
            aspect = Fraction(1)
        return cls(
            aspect,
            _TRANSFERS.get(codec.color_trc),
            _LUMA.get(codec.colorspace, _LUMA_2020),
            codec.color_range == _FULL_RANGE,
            codec.color_primaries != _PRIMARIES_709,
        )

    @staticmethod
    def turn(frame: VideoFrame) -> PIL.Image.Transpose | None:
        """Which of the eight turns and mirrorings is nearest to the display matrix of a frame; None for as stored."""
        matrix = frame.side_data.get("DISPLAYMATRIX")
        if matrix is None:
            return None
        # Nine numbers, (a, b, u, c, d, v, x, y, w): the pixel (p, q) is shown at (a p + c q, b p + d q).
        a, b, _, c, d, *_ = struct.unpack("=9i", bytes(matrix))
        if abs(b) + abs(c) > abs(a) + abs(d):
            return _TURNS[True, c < 0, b < 0]
        return _TURNS[False, a < 0, d < 0]

    def size(self, width: int, height: int, turn: PIL.Image.Transpose | None) -> tuple[int, int]:
        """Width and height in pixels of a stored frame as it is shown."""
        width = max(1, round(width * self.aspect))
        return (height, width) if turn in _SWAPS else (width, height)

    def is_plain(self, turn: PIL.Image.Transpose | None) -> bool:
        """Whether frames with this turn have square pixels, are SDR and not mirrored."""
        return self.aspect == 1 and self.transfer is None and turn not in _MIRRORS

    def picture(self, frame: VideoFrame, limits: Limits, name: str) -> PIL.Image.Image:
        """The picture of a frame in RGB as a player shows it.

        Raises:
            LimitError: more pixels than `limits.frame_px`, as stored or as shown.
        """
        # The size may change in mid-stream.
        _check_frame_px(frame.width, frame.height, limits, name)
        turn = self.turn(frame)
        _check_frame_px(*self.size(frame.width, frame.height, turn), limits, name)
        picture = _tone_mapped(frame, self) if self.transfer else _as_stored(frame)
        if self.aspect != 1:
            picture = picture.resize(self.size(frame.width, frame.height, None), PIL.Image.Resampling.BICUBIC)
        return picture.transpose(turn) if turn is not None else picture


def _preference(stream: VideoStream) -> tuple[bool, bool, int]:
    from av.stream import Disposition

    codec = stream.codec_context
    size_px = 0 if codec is None else codec.width * codec.height
    return size_px > 0, bool(stream.disposition & Disposition.default), size_px


def _check_frame_px(width: int, height: int, limits: Limits, name: str) -> None:
    """Raise LimitError if a frame has more pixels than `limits.frame_px`."""
    if width * height > limits.frame_px:
        raise LimitError(
            f"{name} has frames of {width} x {height} pixels, more than the {limits.frame_px:,} pixels allowed; "
            "convert it to a smaller size"
        )


def _as_stored(frame: VideoFrame) -> PIL.Image.Image:
    # As `VideoFrame.to_image`, which copies the pixels three times on the way.
    plane = frame.reformat(format="rgb24").planes[0]
    orientation = -1 if plane.line_size < 0 else 1
    return from_pixels("RGB", (plane.width, plane.height), memoryview(plane), "RGB", abs(plane.line_size), orientation)


def _tone_mapped(frame: VideoFrame, look: VideoLook) -> PIL.Image.Image:
    """A PQ or HLG frame in sRGB: light up to `KNEE` of paper white is kept, brighter light runs into white."""
    is_rgb = frame.format.is_rgb
    stored = frame.to_ndarray(format="rgb48le" if is_rgb else "yuv444p16le")
    mapped = np.empty(stored.shape, dtype=np.uint8)
    for row in range(0, len(stored), _ROWS):
        strip = stored[row : row + _ROWS].astype(np.float32)
        signal = strip / 65535 if is_rgb else _rgb_signal(strip, look)
        mapped[row : row + _ROWS] = _srgb(_compressed(_light(np.clip(signal, 0, 1), look)))
    return PIL.Image.fromarray(mapped)


def _rgb_signal(codes: _Floats, look: VideoLook) -> _Floats:
    """16-bit Y'CbCr codes [H, W, 3] to the R'G'B' signal, 0 to 1 (ITU-R BT.2100, table 9: quantisation)."""
    red, blue = look.luma
    if look.is_full_range:
        luma, chroma = codes[..., 0] / 65535, (codes[..., 1:] - 32768) / 65535
    else:
        luma, chroma = (codes[..., 0] / 256 - 16) / 219, (codes[..., 1:] / 256 - 128) / 224
    r = luma + 2 * (1 - red) * chroma[..., 1]
    b = luma + 2 * (1 - blue) * chroma[..., 0]
    g = (luma - red * r - blue * b) / (1 - red - blue)
    return np.stack([r, g, b], axis=-1)


def _light(signal: _Floats, look: VideoLook) -> _Floats:
    """R'G'B' signal to light on a display, linear with the primaries of BT.709, 1 for paper white."""
    nits = _pq_nits(signal) if look.transfer == "pq" else _hlg_nits(signal)
    light = nits / np.float32(WHITE_NITS)
    return light @ _TO_709.T if look.is_wide else light


def _pq_nits(signal: _Floats) -> _Floats:
    # ITU-R BT.2100, table 4: the EOTF of PQ.
    power = signal ** np.float32(32 / 2523)
    ratio = np.maximum(power - np.float32(3424 / 4096), 0) / (np.float32(2413 / 128) - np.float32(2392 / 128) * power)
    return 10_000 * ratio ** np.float32(16384 / 2610)


def _hlg_nits(signal: _Floats) -> _Floats:
    # ITU-R BT.2100, table 5: the inverse OETF of HLG, then the OOTF of a display of 1,000 nits (gamma 1.2).
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    scene = np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)
    luminance = scene @ np.array([0.2627, 0.6780, 0.0593], dtype=np.float32)
    return 1_000 * scene * luminance[..., None] ** np.float32(0.2)


def _compressed(light: _Floats) -> _Floats:
    """Bring light into 0 to 1: the brightest of the three colours sets by how much all three are dimmed."""
    light = np.maximum(light, 0)
    peak = light.max(axis=-1, keepdims=True)
    above = np.maximum(peak - KNEE, 0)
    room = 1 - KNEE
    mapped = np.minimum(peak, KNEE) + room * above / (above + room)
    dimmed: _Floats = light * mapped / np.maximum(peak, 1e-6)
    return dimmed


def _srgb(light: _Floats) -> NDArray[np.uint8]:
    # IEC 61966-2-1.
    signal = np.where(light <= 0.0031308, 12.92 * light, 1.055 * np.maximum(light, 1e-6) ** (1 / 2.4) - 0.055)
    codes: NDArray[np.uint8] = np.rint(255 * signal).astype(np.uint8)
    return codes
