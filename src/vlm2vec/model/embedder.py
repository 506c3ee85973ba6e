"""The public way from items to vectors: load a model, encode queries and documents, compare."""

from __future__ import annotations

import hashlib
import importlib
import json
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Unpack

import numpy as np
from numpy.typing import NDArray

from vlm2vec.errors import Hint, InputError, MissingError, ModelError, VectorError, VLM2VecError
from vlm2vec.items import ItemLike, Role, Target, check_several, is_single
from vlm2vec.model.backbone import FAMILIES, Ask, Backbone, Capabilities, Dtype, Output, Vectors
from vlm2vec.model.checkpoint import BUNDLED, Folders, Settings
from vlm2vec.model.pipeline import Pipeline, PipelineOptions
from vlm2vec.model.similarity import Precision, as_unit, check_form, maxsim, to_int8


class EncodeOptions(PipelineOptions, total=False):
    """How a list of items is embedded.

    Args:
        prompt: instruction for all of them, in place of their own; "" for none. In style `vlm2vec` a text with a
            marker, or an item with `verbatim`, already is the whole string and takes no instruction.
        precision: of the numbers; "int8" takes a quarter of the space and keeps the direction alone (`to_int8`).
        show_progress_bar: with rate and time left, on stderr.
    """

    prompt: str | None
    precision: Precision
    show_progress_bar: bool


class Embedder:
    """A loaded model. Make one with `Embedder.load`.

    Attributes:
        name: as given to `load`.
        settings: prompt style, pooling, normalisation, pixel limits and frames that hold.
        dtype: in which it computes: "float32", "bfloat16" or "float16".
        dim: dimensions of its vectors.
        fingerprint: 32 hex digits of everything that moves a vector: weights, adapter, tokenizer, settings, the
            style's strings, dtype. Vectors of different fingerprints must not be compared.
    """

    def __init__(self, backbone: Backbone[Any, Any], *, name: str) -> None:
        self.backbone = backbone
        self.name = name
        self.settings = backbone.settings
        self.dtype = backbone.dtype
        self.dim = backbone.capabilities.dim
        stated = json.dumps(list(backbone.states()), sort_keys=True, ensure_ascii=False)
        self.fingerprint = hashlib.sha256(stated.encode("utf-8", "surrogatepass")).hexdigest()[:32]

    @classmethod
    def load(
        cls,
        name: str | Path = BUNDLED,
        *,
        base: str | Path | None = None,
        adapter: str | Path | None = None,
        prompt_style: str | None = None,
        revision: str | None = None,
        device: str | None = None,
        dtype: Dtype = "auto",
        min_pixels: int | None = None,
        max_pixels: int | None = None,
        max_frame_pixels: int | None = None,
        num_frames: int | None = None,
    ) -> Embedder:
        """Load a checkpoint.

        Args:
            name: "bundled" or "tiny", a folder, or a hub name; a whole model or an adapter.
            base: base model of an adapter, if not the one it names itself.
            adapter: adapter to put on the whole model `name`; the same as `load(adapter, base=name)`.
            prompt_style: how items are written down; else as its `vlm2vec.json` says, else by its known name.
            revision: of a hub name.
            device: else the first CUDA device, else the CPU.
            dtype: "auto" is bfloat16 on CUDA and float32 elsewhere.
            min_pixels, max_pixels: of one picture or frame; else the checkpoint's, else 3,136 and 1,003,520.
            max_frame_pixels: of a frame of a video, where that is less; else the checkpoint's, else as a picture.
            num_frames: picked from a video; else the checkpoint's, else 8.

        Raises:
            ModelError: the checkpoint is missing, incomplete or of an unknown family (AdapterError, StyleError are
                such), or there is no such device or dtype.
            HubError: the hub has no such model, or cannot be reached.
            InputError: pixel limits or number of frames make no sense.
            MissingError: a package that models of this family need is not installed.
        """
        folders = Folders.find(name, base, adapter, revision)
        wanted = Settings(
            prompt_style=prompt_style,
            min_pixels=min_pixels,
            max_pixels=max_pixels,
            max_frame_pixels=max_frame_pixels,
            num_frames=num_frames,
        )
        kind = folders.kind
        if not isinstance(kind, str) or kind not in FAMILIES:
            known = ", ".join(map(repr, sorted(FAMILIES)))
            raise ModelError(f"{folders.base} is a model of type {kind!r}; known are {known}")
        module, _, function = FAMILIES[kind].partition(":")
        try:
            load = getattr(importlib.import_module(module), function)
        except ModuleNotFoundError as error:
            # Only the default model runs without the packages of the extra.
            raise MissingError(f"{error.name} is not installed, which {name} needs", Hint("extra", "models")) from error
        return cls(load(folders, wanted, device=device, dtype=dtype), name=str(name))

    @property
    def capabilities(self) -> Capabilities:
        """Its limits and abilities: dimensions, kinds of items, tokens."""
        return self.backbone.capabilities

    @property
    def token_dim(self) -> int:
        """Dimensions of a token's vector.

        Raises:
            ModelError: the model has no token head.
        """
        if (token_dim := self.capabilities.token_dim) is None:
            raise ModelError(f"{self.name} has no token head; train one with loss.token_dim")
        return token_dim

    def encode(self, items: ItemLike | Sequence[ItemLike], **options: Unpack[EncodeOptions]) -> NDArray[Any]:
        """Embed items as they stand; nothing is added to them but their own instruction.

        Args:
            items: one item or a sequence; a str is text, a Path is a file.
            options: see `EncodeOptions`.

        Returns:
            [N, D] of that precision in the order of the items, or [D] for one item. A vector does not depend on its
            neighbours but for rounding (2e-6 in float32). A text beyond the model's limit is cut, with a warning.

        Raises:
            InputError: an item is empty or malformed, or a VectorError: its vector is not finite, or zero.
            ModelError: that is so of all items.
            MediaError: a medium cannot be read.
        """
        return self._encode(items, Ask(prompt=options.get("prompt")), options)

    def encode_query(
        self,
        items: ItemLike | Sequence[ItemLike],
        *,
        target: Target | None = None,
        **options: Unpack[EncodeOptions],
    ) -> NDArray[Any]:
        """Embed items as questions: like `encode`, with the style's default instruction where an item has none.

        Args:
            target: the kind looked for, "image", "video" or "page"; None: a text is taken to look for images.
        """
        return self._encode(items, Ask("query", target, options.get("prompt")), options)

    def encode_document(self, items: ItemLike | Sequence[ItemLike], **options: Unpack[EncodeOptions]) -> NDArray[Any]:
        """Embed items as things to be found: like `encode`, with the style's default instruction by kind."""
        return self._encode(items, Ask("document", prompt=options.get("prompt")), options)

    def encode_tokens(
        self,
        items: Sequence[ItemLike],
        *,
        role: Role | None = None,
        target: Target | None = None,
        **options: Unpack[EncodeOptions],
    ) -> list[NDArray[Any]]:
        """A vector for every token of each item, for late interaction; of a model with a token head.

        Args:
            role: "query" or "document", for the style's default instruction; None adds nothing.
            target: as for `encode_query`.
            options: see `EncodeOptions`.

        Returns:
            for each item [tokens, E] of that precision, rows of length one.

        Raises:
            ModelError: the model has no token head.
            InputError, MediaError: as for `encode`.
        """
        check_several(items)
        ask = Ask(role, target, options.get("prompt"))
        found: list[NDArray[Any]] = [np.empty((0, 0), dtype=np.float32)] * len(items)
        for position, vectors in self._vectors(items, len(items), ask, "tokens", options):
            found[position] = vectors
        return found

    def stream(
        self,
        items: Iterable[ItemLike],
        ask: Ask = Ask(),
        *,
        output: Output = "pooled",
        **options: Unpack[PipelineOptions],
    ) -> Generator[tuple[int, Vectors | VLM2VecError], None, None]:
        """Embed an iterable of any length, taking items as they are needed.

        Args:
            items: several, taken in another thread, unless `workers` is 0.
            ask: how they are put to the model.
            output: "pooled" for one vector an item, "tokens" for one for each of its tokens.
            options: see `PipelineOptions`.

        Yields:
            (position, vector [D], or vectors [tokens, E] of length one) or, for an item that cannot be embedded,
            (position, its error); in no fixed order.

        Raises:
            ModelError: tokens are asked for, and the model has no token head.
        """
        with self.pipeline(output=output, **options) as pipeline:
            yield from pipeline.stream(items, ask)

    def pipeline(self, *, output: Output = "pooled", **options: Unpack[PipelineOptions]) -> Pipeline[Any, Any]:
        """Threads that stay, for a server: `submit(item, ask)` gives the future of its vector. To be closed.

        Args:
            output, options: as for `stream`.

        Raises:
            ModelError: tokens are asked for, and the model has no token head.
            InputError: `truncate_dim` is not one of its dimensions.
        """
        check_form(options.get("truncate_dim"), self.dim if output == "pooled" else self.token_dim)
        return Pipeline(self.backbone, output=output, **options)

    def similarity(self, a: NDArray[Any], b: NDArray[Any]) -> Vectors:
        """Cosine similarity of every row of `a` [N, D] with every row of `b` [M, D], of either precision: [N, M]."""
        if np.shape(a)[-1:] != np.shape(b)[-1:]:
            raise InputError(f"vectors of shapes {np.shape(a)} and {np.shape(b)} cannot be compared: other dimensions")
        cosine: Vectors = as_unit(np.atleast_2d(a)) @ as_unit(np.atleast_2d(b)).T
        return cosine

    def late_similarity(self, queries: Sequence[Vectors], documents: Sequence[Vectors]) -> Vectors:
        """MaxSim of token vectors as `encode_tokens` gives them: [N, M]; see `maxsim`."""
        return maxsim(queries, documents)

    def _encode(self, items: ItemLike | Sequence[ItemLike], ask: Ask, options: EncodeOptions) -> NDArray[Any]:
        check_form(options.get("truncate_dim"), self.dim, options.get("precision", "float32"))
        alone = is_single(items)
        sequence = items if isinstance(items, Sequence) and not isinstance(items, (str, bytes)) else [items]
        shape = (len(sequence), options.get("truncate_dim") or self.dim)
        vectors: NDArray[Any] = np.empty(shape, dtype=options.get("precision", "float32"))
        for position, vector in self._vectors(sequence, None if alone else len(sequence), ask, "pooled", options):
            vectors[position] = vector
        return vectors[0] if alone else vectors

    def _vectors(
        self, items: Sequence[ItemLike], count: int | None, ask: Ask, output: Output, options: EncodeOptions
    ) -> Iterator[tuple[int, NDArray[Any]]]:
        """Items with their positions, as `_usable`; of the precision that is asked for."""
        others = options.copy()
        others.pop("prompt", None)
        precision, shown = others.pop("precision", "float32"), others.pop("show_progress_bar", False)
        check_form(None, self.dim, precision)
        given: PipelineOptions = others
        results = self.stream(items, ask, output=output, **given)
        # A caller that keeps an error keeps its traceback, and with it all that is not closed.
        with closing(results):
            seen: Iterable[tuple[int, Vectors | VLM2VecError]] = results
            if shown:
                from tqdm.auto import tqdm

                seen = tqdm(results, total=len(items), unit="item", desc="encode")
            for position, vectors in _usable(seen, count, self.name):
                yield position, to_int8(vectors) if precision == "int8" else vectors


def _usable(
    results: Iterable[tuple[int, Vectors | VLM2VecError]], count: int | None, model: str
) -> Iterator[tuple[int, Vectors]]:
    """The vectors of a stream, each with its position.

    Args:
        count: items of the stream; None: it is one that was given alone.
        model: name of it, for errors.

    Raises:
        ModelError: there are several items, and no vector is finite and not zero.
        VLM2VecError: the error of an item, with its position unless it was given alone.
    """
    bad: dict[int, VectorError] = {}
    for position, result in results:
        if isinstance(result, VectorError):
            # Whether the item or the model is at fault, the other items tell.
            bad[position] = result
        elif isinstance(result, VLM2VecError):
            if count is None:
                raise result
            raise result.of(f"item {position} of {count}") from result
        else:
            yield position, result
    if not bad:
        return
    first = min(bad)
    if count is None:
        raise bad[first].of(model) from bad[first]
    if 1 < len(bad) == count:
        raise ModelError(f"{model}: none of {count} items has a vector; of the first, {bad[first]}")
    raise bad[first].of(f"item {first} of {count}") from bad[first]
