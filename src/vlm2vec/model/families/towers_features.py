"""The features of frozen towers, made once for each different picture and chunk of text.

Epochs after the first one then train heads in the time that decoding takes.
"""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from vlm2vec.cores import usable_cores
from vlm2vec.model.backbone import Vectors
from vlm2vec.model.families.towers import OnnxTower
from vlm2vec.model.families.towers_export import export_image, export_text
from vlm2vec.model.families.towers_inputs import Pixels
from vlm2vec.model.families.towers_torch import ImageTower, TextTower

_Unit: TypeAlias = "Pixels | NDArray[np.int64]"
_MOST = 200_000
"""Features that are kept; of pictures they take 1 GB."""


class FrozenFeatures:
    """Computes by ONNX Runtime in float32, which on a CPU is four times as fast as torch and equal to 1e-5.

    Args:
        image, text: the towers; if their weights change, their features are made anew.
        size: height and width of pictures.
        most: features to keep; when there are more, all are forgotten.
    """

    def __init__(self, image: ImageTower, text: TextTower, size: tuple[int, int], *, most: int = _MOST) -> None:
        self._towers = (image, text)
        self._size = size
        self._most = most
        self._known: dict[bytes, Vectors] = {}
        self._version: tuple[int, ...] = ()
        self._sessions: tuple[OnnxTower, ...] = ()
        self._runs = ThreadPoolExecutor(usable_cores(), "features")
        self.made = 0
        """Features that were computed, not remembered."""

    def of(self, pixels_UHW: Pixels, chunks: list[NDArray[np.int64]]) -> tuple[Vectors, Vectors]:
        """Features [U, F] of pictures, uint8 [U, 3, H, W], and [C, D] of the token ids of chunks."""
        self._notice_changes()
        units: list[_Unit] = [*pixels_UHW, *chunks]
        keys = [hashlib.blake2b(unit.tobytes(), digest_size=16, key=unit.dtype.str.encode()).digest() for unit in units]
        if len(self._known) + len(units) > self._most:
            self._known.clear()
        new = {key: unit for key, unit in zip(keys, units, strict=True) if key not in self._known}
        self._known.update(zip(new, self._runs.map(self._made, new.values()), strict=True))
        self.made += len(new)
        found = [self._known[key] for key in keys]
        image, text = self._towers
        looks = np.array(found[: len(pixels_UHW)], np.float32).reshape(-1, image.shape.num_features)
        return looks, np.array(found[len(pixels_UHW) :], np.float32).reshape(-1, text.shape.dim)

    def _made(self, unit: _Unit) -> Vectors:
        images, texts = self._sessions
        if unit.ndim == 3:
            return images.run({"pixels": unit[None]})
        return texts.run({"ids": unit[None], "mask": np.ones_like(unit[None])})

    def _notice_changes(self) -> None:
        tensors = (tensor for tower in self._towers for tensor in (*tower.parameters(), *tower.buffers()))
        version = tuple(tensor._version for tensor in tensors)
        if version != self._version:
            image, text = self._towers
            self._known.clear()
            self._sessions = (
                OnnxTower(export_image(image, None, self._size, small=False), image.shape.num_features),
                OnnxTower(export_text(text, None, small=False), text.shape.dim),
            )
            self._version = version
