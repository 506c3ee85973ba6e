"""From items to packs of a Qwen-VL model: token ids, positions and patches, bit-exact to the publication."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image as PILImage
from torch import Tensor

from vlm2vec import media as direct
from vlm2vec.errors import InputError, MediaError, ModelError
from vlm2vec.items import MEDIA_MARKER, Item, Kind
from vlm2vec.media.source import describe
from vlm2vec.model.attention import Segments
from vlm2vec.model.backbone import Ask
from vlm2vec.model.checkpoint import Folders, Settings
from vlm2vec.model.families.qwen_tokenizer import IMAGE_TOKEN, VIDEO_TOKEN, TextTokenizer
from vlm2vec.model.prompts import PromptStyle, prompt_style

if TYPE_CHECKING:
    from vlm2vec.media.sandbox import Decoder

T = TypeVar("T")

_LOG = logging.getLogger("vlm2vec")

PATCH_PX = 14
MERGE = 2
TEMPORAL = 2
FACTOR_PX = PATCH_PX * MERGE
PATCH_VALUES = 3 * TEMPORAL * PATCH_PX * PATCH_PX
TINY_PX = 56
MAX_ASPECT = 200


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


@dataclass(frozen=True, slots=True)
class QwenVLInput:
    """One item as a Qwen-VL model reads it.

    Args:
        input_ids: int64 [length], visual tokens already repeated.
        positions: int64 [3, length]; time, row, column (equal for text).
        visual_at: int64 [visual tokens], where in `input_ids` the visual features go, in the order of the media.
        patches: uint8 [patches, 1176], media after one another; they are normalised only on the device.
        grids: one for each medium.
    """

    input_ids: NDArray[np.int64]
    positions: NDArray[np.int64]
    visual_at: NDArray[np.int64]
    patches: NDArray[np.uint8]
    grids: tuple[Grid, ...]

    @property
    def cost(self) -> int:
        """Tokens."""
        return len(self.input_ids)


@dataclass(frozen=True, slots=True)
class PackedBatch:
    """Several inputs laid end to end, with the fields of `QwenVLInput`: T tokens, P patches, V visual tokens."""

    input_ids: Tensor
    positions: Tensor
    segments: Segments
    visual_at: Tensor
    patches: Tensor
    grids: tuple[Grid, ...]

    @classmethod
    def of(cls, prepared: Sequence[QwenVLInput]) -> PackedBatch:
        """Lay inputs end to end, in the order given."""
        starts = np.cumsum([0] + [one.cost for one in prepared[:-1]])
        moved = [one.visual_at + start for one, start in zip(prepared, starts, strict=True)]
        return cls(
            input_ids=torch.from_numpy(np.concatenate([one.input_ids for one in prepared])),
            positions=torch.from_numpy(np.concatenate([one.positions for one in prepared], axis=1)),
            segments=Segments(tuple(one.cost for one in prepared)),
            visual_at=torch.from_numpy(np.concatenate(moved)),
            patches=torch.from_numpy(np.concatenate([one.patches for one in prepared])),
            grids=tuple(grid for one in prepared for grid in one.grids),
        )

    @property
    def num_tokens(self) -> int:
        return len(self.input_ids)

    @property
    def lengths(self) -> tuple[int, ...]:
        """Tokens of each input."""
        return self.segments.lengths

    def to(self, device: torch.device) -> PackedBatch:
        """The same on a device. A copy to a GPU runs beside the caller, in order with its launches."""

        def moved(x: Tensor) -> Tensor:
            # From other than pinned memory the copy would wait for the GPU.
            return (x.pin_memory() if device.type == "cuda" and not x.is_cuda else x).to(device, non_blocking=True)

        ids, positions, visual_at, patches = map(moved, (self.input_ids, self.positions, self.visual_at, self.patches))
        return PackedBatch(ids, positions, self.segments, visual_at, patches, self.grids)


@dataclass(frozen=True, slots=True)
class QwenVLProcessor:
    """Prepares items for a Qwen-VL model. Cheap to send to worker processes.

    Args:
        min_pixels, max_pixels: of one picture or frame, after resizing.
        num_frames: picked from a video.
        max_frame_pixels: of a frame of a video, where that is less than `max_pixels`.
    """

    tokenizer: TextTokenizer
    style: PromptStyle
    min_pixels: int
    max_pixels: int
    num_frames: int
    max_frame_pixels: int | None = None

    @classmethod
    def of(cls, folders: Folders, settings: Settings) -> QwenVLProcessor:
        """The processor of a checkpoint; an adapter's own tokenizer goes before its base's.

        Raises:
            ModelError: the tokenizer is missing or no Qwen-VL tokenizer, or the settings leave something open.
            InputError: pixel limits or number of frames make no sense.
        """
        return cls(
            tokenizer=TextTokenizer(folders.with_file("tokenizer.json") or folders.base),
            style=prompt_style(_settled(settings.prompt_style, "prompt_style")),
            min_pixels=_settled(settings.min_pixels, "min_pixels"),
            max_pixels=_settled(settings.max_pixels, "max_pixels"),
            max_frame_pixels=settings.max_frame_pixels,
            num_frames=_settled(settings.num_frames, "num_frames"),
        )

    def __post_init__(self) -> None:
        _check_pixel_limits(self.min_pixels, self.max_pixels)
        if self.max_frame_pixels is not None:
            _check_pixel_limits(self.min_pixels, self.max_frame_pixels, "max_frame_pixels")
        if type(self.num_frames) is not int or self.num_frames < 1:
            raise InputError(f"num_frames={self.num_frames!r}: it must be a whole number, at least one frame")

    def pack(self, prepared: Sequence[QwenVLInput]) -> PackedBatch:
        """Lay prepared inputs end to end."""
        return PackedBatch.of(prepared)

    def within(self, max_pixels: int | None) -> QwenVLProcessor:
        """The same for pictures of at most so many pixels; None: as they are.

        Raises:
            InputError: the limit is below one token or below `min_pixels`.
        """
        return replace(self, max_pixels=min(max_pixels or self.max_pixels, self.max_pixels))

    def prepare(self, item: Item, ask: Ask = Ask(), *, decoder: Decoder = direct) -> QwenVLInput:
        """Compose, tokenise and decode one item.

        Args:
            ask: its prompt beats the item's own instruction, which beats the style's default for role and target.
            decoder: makes pictures of its media; a `Sandbox` does it in processes that may die of a file.

        Raises:
            InputError: the item is empty or its markers do not fit its media.
            MediaError: a medium cannot be read.
        """
        media = tuple(decoder.resolve(medium) for medium in item.media)
        kind: Kind = media[0].kind if media else "text"
        text = self.style.compose(item, self._instruction(item, kind, ask))
        parts = text.split(MEDIA_MARKER)
        if not media:
            return self._prepared(self.tokenizer.encode_alone(parts[0]), [], [], [])

        ids = self.tokenizer.encode(parts[0])
        visual_at: list[NDArray[np.int64]] = []
        patches, grids = [], []
        for medium, following in zip(media, parts[1:], strict=True):
            frames = decoder.load_frames(medium, num_frames=self.num_frames)
            try:
                if frames.is_video:
                    most = min(self.max_pixels, self.max_frame_pixels or self.max_pixels)
                    of_medium, grid = _video_patches(frames.images, self.min_pixels, most)
                else:
                    of_medium, grid = _image_patches(frames.images[0], self.min_pixels, self.max_pixels)
            except ValueError as error:
                mode = frames.images[0].mode
                name = describe(medium.source)
                raise MediaError(f"{name} of mode {mode} cannot be made RGB: {error}; save it as PNG") from error
            ids += self._wrapper(self.style.before_medium)
            visual_at.append(np.arange(len(ids), len(ids) + grid.num_tokens))
            ids += [self.tokenizer.visual_ids[VIDEO_TOKEN if frames.is_video else IMAGE_TOKEN]] * grid.num_tokens
            ids += self._wrapper(self.style.after_medium) + self.tokenizer.encode(following)
            patches.append(of_medium)
            grids.append(grid)
        limit = self.tokenizer.max_tokens
        if limit is not None and len(ids) > limit:
            _LOG.warning(
                "an item with media of %d tokens is beyond the model's limit of %d and is not cut, as published: %r…",
                len(ids),
                limit,
                text[:60],
            )
        return self._prepared(ids, visual_at, patches, grids)

    def _instruction(self, item: Item, kind: Kind, ask: Ask) -> str | None:
        if ask.prompt is not None:
            return ask.prompt or None
        if item.instruction is not None or ask.role is None:
            return item.instruction
        return self.style.instruction(ask.role, kind, ask.target)

    def _wrapper(self, token: str | None) -> list[int]:
        return [] if token is None else [self.tokenizer.visual_ids[token]]

    def _prepared(
        self,
        ids: list[int],
        visual_at: list[NDArray[np.int64]],
        patches: list[NDArray[np.uint8]],
        grids: list[Grid],
    ) -> QwenVLInput:
        if not ids:
            raise InputError("the item's text gives no token at all: an item needs text or a medium")
        return QwenVLInput(
            input_ids=np.array(ids, dtype=np.int64),
            positions=(
                _mrope_positions(len(ids), visual_at, grids)
                if self.style.positions == "mrope"
                else np.broadcast_to(np.arange(len(ids)), (3, len(ids)))
            ),
            visual_at=np.concatenate(visual_at) if visual_at else np.empty(0, dtype=np.int64),
            patches=np.concatenate(patches) if patches else np.empty((0, PATCH_VALUES), dtype=np.uint8),
            grids=tuple(grids),
        )


def _settled(value: T | None, name: str) -> T:
    if value is None:
        raise ModelError(f"no {name} is settled: the checkpoint does not state it, and none was asked for")
    return value


def _mrope_positions(length: int, visual_at: list[NDArray[np.int64]], grids: list[Grid]) -> NDArray[np.int64]:
    """Qwen2-VL's 3-D positions, int64 [3, length]: time, row and column of every token.

    Text counts up in all three together. A medium starts where the text before it stopped, and spreads from there over
    its time steps, rows and columns after merging; the text behind it continues above the largest position used so far
    (arXiv 2409.12191, section 2.1).
    """
    positions = np.empty((3, length), dtype=np.int64)
    token, position = 0, 0
    for at, grid in zip(visual_at, grids, strict=True):
        num_text = int(at[0]) - token
        positions[:, token : token + num_text] = np.arange(position, position + num_text)
        position += num_text
        spread = np.indices((grid.t, grid.h // MERGE, grid.w // MERGE)).reshape(3, -1)
        positions[:, at] = position + spread
        position += int(spread.max()) + 1
        token = int(at[-1]) + 1
    positions[:, token:] = np.arange(position, position + length - token)
    return positions


def _smart_resize(height: int, width: int, min_pixels: int, max_pixels: int) -> tuple[int, int]:
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


def _check_pixel_limits(min_pixels: int, max_pixels: int, name: str = "max_pixels") -> None:
    """Refuse limits that no picture can meet; `name` is that of the maximum in the message."""
    whole = type(min_pixels) is int and type(max_pixels) is int
    if not whole or not 0 < min_pixels <= max_pixels or max_pixels < FACTOR_PX * FACTOR_PX:
        raise InputError(
            f"min_pixels={min_pixels!r}, {name}={max_pixels!r}: need whole numbers, 0 < min_pixels <= {name} "
            f"and {name} >= {FACTOR_PX * FACTOR_PX} (one token)"
        )


def _image_patches(image: PILImage.Image, min_pixels: int, max_pixels: int) -> tuple[NDArray[np.uint8], Grid]:
    """Patches of one still picture.

    Returns:
        uint8 values [patches, 1176] in Qwen2-VL's order (2 x 2 blocks of patches; channel, time, row, column inside a
        patch) and the grid. The one frame is repeated to fill the temporal patch.
    """
    if image.width < FACTOR_PX or image.height < FACTOR_PX:
        # Before the conversion to RGB, as published: a palette picture is then resized by nearest neighbour.
        image = image.resize((TINY_PX, TINY_PX))
    height, width = _smart_resize(image.height, image.width, min_pixels, max_pixels)
    frame = _resized(image, height, width)
    return _patches(np.stack([frame, frame]))


def _video_patches(
    frames: Sequence[PILImage.Image], min_pixels: int, max_pixels: int
) -> tuple[NDArray[np.uint8], Grid]:
    """Patches of a video, all frames scaled to the size that the first one gets; an odd last frame is repeated.

    Returns:
        as `_image_patches`; the grid's `t` is half the number of frames. The pixel limits hold for each frame.
    """
    height, width = _smart_resize(frames[0].height, frames[0].width, min_pixels, max_pixels)
    pixels = [_resized(frame, height, width) for frame in frames]
    if len(pixels) % TEMPORAL:
        pixels.append(pixels[-1])
    return _patches(np.stack(pixels))


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
