"""Two towers, one for pictures and one for texts, run by ONNX Runtime: the default model. Without torch.

Every picture and every chunk of text is a run of its own, in one thread: a vector depends neither on its neighbours nor
on the number of cores, to the bit. As many runs as there are cores go on at the same time.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from vlm2vec import media
from vlm2vec.cores import usable_cores
from vlm2vec.errors import InputError, ModelError, StyleError
from vlm2vec.items import Item
from vlm2vec.media.source import describe
from vlm2vec.model.backbone import Ask, Backbone, Capabilities, Output, Vectors
from vlm2vec.model.checkpoint import Folders, Settings
from vlm2vec.model.families.towers_inputs import (
    ChunkedText,
    Looks,
    Pixels,
    TowersConfig,
    TowersInput,
    TowersProcessor,
    read_towers_config,
)
from vlm2vec.model.fingerprint import file_hash
from vlm2vec.model.similarity import as_unit

if TYPE_CHECKING:
    from vlm2vec.media.sandbox import Decoder

# Raised when an item would get another vector, so that stored ones are not mistaken for new ones.
_PREPROCESSING = 2
_ERRORS_ONLY = 3


def load(folders: Folders, wanted: Settings, *, device: str | None, dtype: str) -> TowersBackbone:
    """The model of a folder; its weights are read when the first picture or text needs them.

    Raises:
        ModelError: the folder is no whole model of this family, or an adapter, another device than the CPU or another
            dtype than float32 is asked for (StyleError: a prompt style is).
        InputError: pixel limits are asked for, or the number of frames makes no sense.
    """
    if folders.adapter is not None:
        raise ModelError(f"{folders.adapter} cannot be put on {folders.base}: a model of two towers takes no adapter")
    if device not in (None, "cpu"):
        raise ModelError(f"device {device!r} cannot be used: {folders.base} is run by ONNX Runtime, on the CPU alone")
    if dtype not in ("auto", "float32"):
        raise ModelError(f"dtype={dtype!r} cannot be used: {folders.base} computes in float32 alone")
    config = with_wanted(read_towers_config(folders.base), wanted)
    for name in (config.image.file, config.text.file):
        if not (folders.base / name).is_file():
            raise ModelError(f"{folders.base} holds no {name}, so it is no complete checkpoint")
    return TowersBackbone(folders.base, config)


def with_wanted(config: TowersConfig, wanted: Settings) -> TowersConfig:
    """A configuration with the settings that go before its own.

    Raises:
        StyleError, InputError: as `load`.
    """
    if wanted.prompt_style is not None:
        raise StyleError(
            f"prompt_style={wanted.prompt_style!r}: a model of two towers has none, since it reads no prompts"
        )
    for name in ("min_pixels", "max_pixels", "max_frame_pixels"):
        if (value := getattr(wanted, name)) is not None:
            height, width = config.image.size
            raise InputError(
                f"{name}={value}: this model looks at every picture at {width} x {height} pixels; leave it out"
            )
    if wanted.num_frames is None:
        return config
    if type(wanted.num_frames) is not int or wanted.num_frames < 1:
        raise InputError(f"num_frames={wanted.num_frames!r}: it must be a whole number, at least one frame")
    video = config.video.model_copy(update={"num_frames": wanted.num_frames})
    return config.model_copy(update={"video": video})


def states_of_towers(config: TowersConfig, files: Sequence[Path]) -> list[object]:
    """The configuration that holds, and the hashes of files.

    Not the version of the runtime: its arithmetic differs by rounding.
    """
    return [_PREPROCESSING, config.model_dump(mode="json"), [file_hash(path) for path in files]]


class OnnxTower:
    """One ONNX file, loaded when it is first run; threads may share it.

    Args:
        source: its path, or its bytes.
        dim: of its vectors.
    """

    def __init__(self, source: Path | bytes, dim: int) -> None:
        self._source = source
        self._dim = dim
        self._loading = threading.Lock()
        self._session: onnxruntime.InferenceSession | None = None

    def run(self, inputs: Mapping[str, NDArray[np.generic]]) -> Vectors:
        """The vector [D] of a batch of one.

        Raises:
            ModelError: the file is damaged, or no such graph.
        """
        with self._loading:
            if self._session is None:
                self._session = self._load()
            session = self._session
        vector: Vectors = session.run(["vectors"], inputs)[0][0]
        return vector

    def _load(self) -> onnxruntime.InferenceSession:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = _ERRORS_ONLY
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        # Weights become float32 at once. Otherwise the runtime would compute with int8 where it can, which moves
        # vectors by more than storing the weights so does.
        options.add_session_config_entry("session.disable_quant_qdq", "1")
        try:
            session = onnxruntime.InferenceSession(self._source, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # The runtime has a dozen kinds, without a common base.
            raise ModelError(f"{describe(self._source)} cannot be loaded: {error}") from None
        found = {one.name: one.shape for one in session.get_outputs()}
        if found.get("vectors", [None])[-1] != self._dim:
            raise ModelError(f"{describe(self._source)} gives {found}: 'vectors' of {self._dim} dimensions are needed")
        return session


class TowersBackbone(Backbone[TowersInput, Sequence[TowersInput]]):
    """Two towers, on the CPU in float32.

    Args:
        folder: of the model.
        config: that holds.
        num_threads: runs at the same time; None: one a core.
    """

    def __init__(self, folder: Path, config: TowersConfig, *, num_threads: int | None = None) -> None:
        self.config = config
        self.processor = TowersProcessor(folder, config)
        self.settings = Settings(normalize=True, num_frames=config.video.num_frames)
        self._image = OnnxTower(folder / config.image.file, config.dim)
        self._text = OnnxTower(folder / config.text.file, config.dim)
        self._files = [folder / name for name in (config.image.file, config.text.file, config.text.tokenizer)]
        self._runs = ThreadPoolExecutor(num_threads or usable_cores(), "tower")

    @property
    def capabilities(self) -> Capabilities:
        """The kinds, dimensions and limits of this model."""
        return self.processor.capabilities(trainable=False)

    def prepare(self, item: Item, ask: Ask = Ask(), *, decoder: Decoder = media) -> TowersInput:
        """As `TowersProcessor.prepare`."""
        return self.processor.prepare(item, ask, decoder=decoder)

    def weigh(self, item: Item, *, decoder: Decoder = media) -> int:
        """As `TowersProcessor.weigh`."""
        return self.processor.weigh(item, decoder=decoder)

    def pack(self, prepared: Sequence[TowersInput]) -> Sequence[TowersInput]:
        """As they come."""
        return prepared

    def encode(self, packs: Iterable[Sequence[TowersInput]], output: Output) -> Iterator[list[Vectors]]:
        """A vector [D] for each input of each pack.

        Raises:
            ModelError: vectors of tokens are asked for, or a file of the model is damaged.
        """
        if output == "tokens":
            raise ModelError("a model of two towers has no vectors of tokens")
        started: list[tuple[Sequence[TowersInput], Iterator[Vectors]]] = []
        for pack in packs:
            started.append((pack, self._start(pack)))
            # Cores that have nothing left of one pack begin with the next one.
            if len(started) == 2:
                yield self._finish(*started.pop(0))
        for last in started:
            yield self._finish(*last)

    def states(self) -> Sequence[object]:
        """As `states_of_towers`, of both towers' files and the tokenizer's."""
        return states_of_towers(self.config, self._files)

    def _start(self, pack: Sequence[TowersInput]) -> Iterator[Vectors]:
        units = [unit for one in pack for part in one.parts for unit in _units(part)]
        # A thread of its own for a single text would only cost time.
        return iter(map(self._vector, units) if len(units) == 1 else self._runs.map(self._vector, units))

    def _finish(self, pack: Sequence[TowersInput], found: Iterator[Vectors]) -> list[Vectors]:
        return [self._of_item(one, found) for one in pack]

    def _vector(self, unit: Sequence[int] | Pixels) -> Vectors:
        """Of a picture [3, H, W], or of token ids."""
        if isinstance(unit, np.ndarray):
            return self._image.run({"pixels": unit[None]})
        ids = np.array([unit], np.int64)
        return self._text.run({"ids": ids, "mask": np.ones_like(ids)})

    def _of_item(self, item: TowersInput, found: Iterator[Vectors]) -> Vectors:
        parts = [self._of_part(part, np.stack([next(found) for _ in _units(part)])) for part in item.parts]
        pooled: Vectors = parts[0] if len(parts) == 1 else as_unit(np.stack(parts)).mean(0)
        return pooled

    def _of_part(self, part: ChunkedText | Looks, vectors: Vectors) -> Vectors:
        pooled: Vectors
        if len(vectors) == 1:
            pooled = vectors[0]
        elif isinstance(part, ChunkedText):
            weights = np.array([len(chunk) for chunk in part.chunks], np.float32)
            pooled = weights @ as_unit(vectors) / weights.sum()
        else:
            scaled = as_unit(vectors)
            pooled = scaled.max(0) if self.config.video.pool == "max" else scaled.mean(0)
        return pooled


def _units(part: ChunkedText | Looks) -> Sequence[Sequence[int] | Pixels]:
    """Of each a tower makes one vector."""
    return list(part.frames) if isinstance(part, Looks) else part.chunks
