"""From decoded pictures to Qwen2-VL patches: sizes, patch order, normalisation, all bit-exact to the publication."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PILImage

from vlm2vec.errors import InputError

PATCH_PX = 14
MERGE = 2
TEMPORAL = 2
FACTOR_PX = PATCH_PX * MERGE
MIN_PIXELS = 4 * FACTOR_PX * FACTOR_PX
MAX_PIXELS = 1280 * FACTOR_PX * FACTOR_PX
PATCH_VALUES = 3 * TEMPORAL * PATCH_PX * PATCH_PX
TINY_PX = 56
MAX_ASPECT = 200

# OpenAI CLIP's channel statistics, as in Qwen2-VL's preprocessor configuration.
_MEAN = np.array([0.48145466, 0.4578275, 0.40821073], dtype=np.float32)
_STD = np.array([0.26862954, 0.26130258, 0.27577711], dtype=np.float32)


class Grid(NamedTuple):
    """Size of one medium in patches: time steps (pairs of frames), rows, columns."""

    t: int
    h: int
    w: int

    @property
    def num_patches(self) -> int:
        return self.t * self.h * self.w

    @property
    def num_tokens(self) -> int:
        """Visual tokens after merging 2 x 2 patches."""
        return self.num_patches // (MERGE * MERGE)


def smart_resize(
    height: int, width: int, min_pixels: int = MIN_PIXELS, max_pixels: int = MAX_PIXELS
) -> tuple[int, int]:
    """Size (height, width) in pixels that a picture is scaled to: multiples of 28 within the pixel limits.

    Sides under 28 px and aspects over 200 are squared first, as VLM2Vec was published; Qwen2-VL's own processor
    refuses them. A limit too small for a long thin picture shortens its long side.
    """
    if height < FACTOR_PX or width < FACTOR_PX or max(height, width) / min(height, width) > MAX_ASPECT:
        height = width = max(FACTOR_PX, height, width)
    h, w = round(height / FACTOR_PX) * FACTOR_PX, round(width / FACTOR_PX) * FACTOR_PX
    if h * w > max_pixels:
        shrink = math.sqrt(height * width / max_pixels)
        h = max(FACTOR_PX, math.floor(height / shrink / FACTOR_PX) * FACTOR_PX)
        w = max(FACTOR_PX, math.floor(width / shrink / FACTOR_PX) * FACTOR_PX)
        longest = max(FACTOR_PX, math.floor(max_pixels / min(h, w) / FACTOR_PX) * FACTOR_PX)
        h, w = min(h, longest), min(w, longest)
    elif h * w < min_pixels:
        grow = math.sqrt(min_pixels / (height * width))
        h = math.ceil(height * grow / FACTOR_PX) * FACTOR_PX
        w = math.ceil(width * grow / FACTOR_PX) * FACTOR_PX
    return h, w


def check_pixel_limits(min_pixels: int, max_pixels: int, name: str = "max_pixels") -> None:
    """Refuse limits that no picture can meet; `name` is that of the maximum in the message.

    Raises:
        InputError: the smallest picture, 28 x 28, is over the maximum, or the minimum is over the maximum.
    """
    whole = type(min_pixels) is int and type(max_pixels) is int
    if not whole or not 0 < min_pixels <= max_pixels or max_pixels < FACTOR_PX * FACTOR_PX:
        raise InputError(
            f"min_pixels={min_pixels!r}, {name}={max_pixels!r}: need whole numbers, 0 < min_pixels <= {name} "
            f"and {name} >= {FACTOR_PX * FACTOR_PX} (one token)"
        )


def image_patches(image: PILImage.Image, min_pixels: int, max_pixels: int) -> tuple[NDArray[np.uint8], Grid]:
    """Patches of one still picture.

    Returns:
        uint8 values [patches, 1176] in Qwen2-VL's order (2 x 2 blocks of patches; channel, time, row, column inside a
        patch) and the grid. The one frame is repeated to fill the temporal patch.
    """
    if image.width < FACTOR_PX or image.height < FACTOR_PX:
        # Before the conversion to RGB, as published: a palette picture is then resized by nearest neighbour.
        image = image.resize((TINY_PX, TINY_PX))
    height, width = smart_resize(image.height, image.width, min_pixels, max_pixels)
    frame = _resized(image, height, width)
    return _patches(np.stack([frame, frame]))


def video_patches(frames: Sequence[PILImage.Image], min_pixels: int, max_pixels: int) -> tuple[NDArray[np.uint8], Grid]:
    """Patches of a video, all frames scaled to the size that the first one gets; an odd last frame is repeated.

    Returns:
        as `image_patches`; the grid's `t` is half the number of frames. The pixel limits hold for each frame.
    """
    height, width = smart_resize(frames[0].height, frames[0].width, min_pixels, max_pixels)
    pixels = [_resized(frame, height, width) for frame in frames]
    if len(pixels) % TEMPORAL:
        pixels.append(pixels[-1])
    return _patches(np.stack(pixels))


def normalization_table() -> NDArray[np.float32]:
    """Normalised value of every uint8 value, [3 channels, 256].

    Scaling goes through float64 and the rest through float32, which gives the published pixels to the bit.
    """
    scaled = (np.arange(256, dtype=np.float64) * (1 / 255)).astype(np.float32)
    table: NDArray[np.float32] = (scaled[None, :] - _MEAN[:, None]) / _STD[:, None]
    return table


def _resized(image: PILImage.Image, height: int, width: int) -> NDArray[np.uint8]:
    rgb = image if image.mode == "RGB" else image.convert("RGB")
    if rgb.size != (width, height):
        rgb = rgb.resize((width, height), PILImage.Resampling.BICUBIC)
    return np.asarray(rgb)


def _patches(frames_THWC: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], Grid]:
    num_frames, height, width, _ = frames_THWC.shape
    grid = Grid(num_frames // TEMPORAL, height // PATCH_PX, width // PATCH_PX)
    blocks = frames_THWC.reshape(
        grid.t, TEMPORAL, grid.h // MERGE, MERGE, PATCH_PX, grid.w // MERGE, MERGE, PATCH_PX, 3
    )
    ordered = blocks.transpose(0, 2, 5, 3, 6, 8, 1, 4, 7)
    return np.ascontiguousarray(ordered).reshape(grid.num_patches, PATCH_VALUES), grid
