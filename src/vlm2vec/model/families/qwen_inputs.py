"""From an item to one model input: token ids, positions and patches, on the CPU and without torch."""

from __future__ import annotations

import logging
from contextlib import nullcontext
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vlm2vec import media as direct
from vlm2vec.errors import InputError, MediaError
from vlm2vec.items import MEDIA_MARKER, Item, Kind
from vlm2vec.media.source import describe
from vlm2vec.model.backbone import Ask
from vlm2vec.model.families.qwen_tokenizer import IMAGE_TOKEN, VIDEO_TOKEN, TextTokenizer
from vlm2vec.model.prompts import PromptStyle
from vlm2vec.model.vision import MERGE, PATCH_VALUES, Grid, check_pixel_limits, image_patches, video_patches

if TYPE_CHECKING:
    from vlm2vec.media.sandbox import Decoder

_LOG = logging.getLogger("vlm2vec")

# PIL reads a picture's pixels when they are first asked for, and one picture may be in several items and calls.
_pictures = Lock()


@dataclass(frozen=True, slots=True)
class QwenVLInput:
    """One item as a Qwen-VL model reads it.

    Args:
        input_ids: int64 [length], visual tokens already repeated.
        positions: int64 [3, length]; time, row, column (equal for text).
        visual_at: int64 [visual tokens], where in `input_ids` the visual features go, in the order of the media.
        patches: uint8 [patches, 1176], media after one another.
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

    def __post_init__(self) -> None:
        check_pixel_limits(self.min_pixels, self.max_pixels)
        if self.max_frame_pixels is not None:
            check_pixel_limits(self.min_pixels, self.max_frame_pixels, "max_frame_pixels")
        if type(self.num_frames) is not int or self.num_frames < 1:
            raise InputError(f"num_frames={self.num_frames!r}: it must be a whole number, at least one frame")

    def prepare(self, item: Item, ask: Ask = Ask(), *, decoder: Decoder = direct) -> QwenVLInput:
        """Compose, tokenise and decode one item.

        Args:
            ask: its prompt beats the item's own instruction, which beats the style's default for role and target.
            decoder: makes pictures of its media; a `Sandbox` does it in processes that may die of a file.

        Raises:
            InputError: the item is empty or its markers do not fit its media.
            MediaError: a medium cannot be read.
        """
        with _pictures if item.holds_pictures else nullcontext():
            return self._composed(item, ask, decoder)

    def _composed(self, item: Item, ask: Ask, decoder: Decoder) -> QwenVLInput:
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
                of_medium, grid = (
                    video_patches(frames.images, self.min_pixels, self._frame_limit())
                    if frames.is_video
                    else image_patches(frames.images[0], self.min_pixels, self.max_pixels)
                )
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

    def _frame_limit(self) -> int:
        return min(self.max_pixels, self.max_frame_pixels or self.max_pixels)

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
