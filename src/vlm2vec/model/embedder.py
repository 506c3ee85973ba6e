"""The public way from items to vectors: load a model, encode queries and documents, compare."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import Linear

from vlm2vec import media
from vlm2vec.errors import InputError, ModelError, VLM2VecError
from vlm2vec.items import ItemLike, Role, Target, as_item, check_several, is_single
from vlm2vec.model.backbone import Ask, Output
from vlm2vec.model.checkpoint import BUNDLED, Settings, fingerprint
from vlm2vec.model.late_interaction import maxsim
from vlm2vec.model.loading import Dtype, choose_device, choose_dtype, find_folders, load_backbone
from vlm2vec.model.pooling import Precision, check_precision, check_truncation, normalize, to_int8
from vlm2vec.model.preparing import default_workers, prepared_windows
from vlm2vec.model.processor import Prepared
from vlm2vec.model.prompts import STYLES
from vlm2vec.model.qwen_vl import Encoded, QwenVLBackbone
from vlm2vec.model.streaming import embedded, usable

if TYPE_CHECKING:
    from vlm2vec.media.sandbox import Decoder

T = TypeVar("T")
Vectors = NDArray[np.float32]

# Raised when an item would get another vector, so that stored ones are not mistaken for new ones.
_PREPROCESSING = 2
# Tokens of one forward pass, and of the inputs that are sorted by length together. Larger packs do not fit a CPU's
# cache; a prepared visual token weighs 4.7 kB, so a window stays under 200 MB.
_TOKEN_BUDGET = {"cpu": 2048, "cuda": 32_768}
_WINDOW_TOKENS = 32_768


class Embedder:
    """A loaded model. Make one with `Embedder.load`.

    Attributes:
        name: as given to `load`.
        dim: dimensions of its vectors.
        settings: prompt style, pooling, normalisation, pixel limits and frames that hold.
        fingerprint: 32 hex digits of everything that moves a vector: weights, adapter, tokenizer, settings, the
            style's strings, dtype. Vectors of different fingerprints must not be compared.
    """

    def __init__(self, backbone: QwenVLBackbone, settings: Settings, *, name: str, fingerprint: str) -> None:
        self.backbone = backbone
        self.settings = settings
        self.name = name
        self.dim = backbone.dim
        self.fingerprint = fingerprint

    @classmethod
    def load(
        cls,
        name: str | Path = BUNDLED,
        *,
        base: str | Path | None = None,
        adapter: str | Path | None = None,
        prompt_style: str | None = None,
        revision: str | None = None,
        device: str | torch.device | None = None,
        dtype: Dtype | torch.dtype = "auto",
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
            prompt_style: how items are written down; else the checkpoint's `vlm2vec.json`, else by its known name.
            revision: of a hub name.
            device: else the first CUDA device, else the CPU.
            dtype: "auto" is bfloat16 on CUDA and float32 elsewhere.
            min_pixels, max_pixels: of one picture or frame; else the checkpoint's, else 3,136 and 1,003,520.
            max_frame_pixels: of a frame of a video, where that is less; else the checkpoint's, else as a picture.
            num_frames: picked from a video; else the checkpoint's, else 8.

        Raises:
            ModelError: the checkpoint is missing, incomplete or of an unknown kind (AdapterError, StyleError are such),
                or there is no such device or dtype.
            InputError: pixel limits or number of frames make no sense.
        """
        folders = find_folders(name, base, adapter, revision)
        chosen_device = choose_device(device)
        chosen_dtype = choose_dtype(dtype, chosen_device)
        wanted = Settings(
            prompt_style=prompt_style,
            min_pixels=min_pixels,
            max_pixels=max_pixels,
            max_frame_pixels=max_frame_pixels,
            num_frames=num_frames,
        )
        backbone, settings = load_backbone(folders, wanted, device=chosen_device, dtype=chosen_dtype)
        tokenizer = backbone.processor.tokenizer
        style = STYLES[settings.prompt_style or ""]
        stated = [_PREPROCESSING, settings.said(), style.strings(), str(chosen_dtype), tokenizer.max_tokens]
        parts = [folder for folder in (folders.base, folders.adapter) if folder is not None]
        return cls(backbone, settings, name=str(name), fingerprint=fingerprint(stated, parts, tokenizer.path))

    def encode(
        self,
        items: ItemLike | Sequence[ItemLike],
        *,
        prompt: str | None = None,
        truncate_dim: int | None = None,
        normalize_embeddings: bool | None = None,
        precision: Precision = "float32",
        token_budget: int | None = None,
        show_progress_bar: bool = False,
    ) -> NDArray[Any]:
        """Embed items as they stand; nothing is added to them but their own instruction.

        Args:
            items: one item or a sequence; a str is text, a Path is a file.
            prompt: instruction for all of them, in place of their own; "" for none. In style `vlm2vec` a text with a
                marker, or an item with `verbatim`, already is the whole string and takes no instruction.
            truncate_dim: keep the first dimensions only (before normalising).
            normalize_embeddings: scale to length one; else as the checkpoint says.
            precision: of the numbers; "int8" takes a quarter of the space and keeps the direction alone (`to_int8`).
            token_budget: tokens of one forward pass.
            show_progress_bar: with rate and time left, on stderr.

        Returns:
            [N, D] of that precision in the order of the items, or [D] for one item. A vector does not depend on its
            neighbours but for rounding (2e-6 in float32). A text beyond the model's limit is cut, with a warning.

        Raises:
            InputError: an item is empty or malformed, or a VectorError: its vector is not finite, or zero.
            ModelError: that is so of all items.
            MediaError: a medium cannot be read.
        """
        return self._encode(
            items, prompt, truncate_dim, normalize_embeddings, precision, token_budget, show_progress_bar
        )

    def encode_query(
        self,
        items: ItemLike | Sequence[ItemLike],
        *,
        target: Target | None = None,
        prompt: str | None = None,
        truncate_dim: int | None = None,
        normalize_embeddings: bool | None = None,
        precision: Precision = "float32",
        token_budget: int | None = None,
        show_progress_bar: bool = False,
        decoder: Decoder = media,
    ) -> NDArray[Any]:
        """Embed items as questions: like `encode`, with the style's default instruction where an item has none.

        Args:
            target: what is looked for, "image", "video" or "page"; without it text is taken to look for images.
            decoder: makes pictures of media; a `media.sandbox.Sandbox` does it in processes that may die of a file.
        """
        return self._encode(
            items,
            prompt,
            truncate_dim,
            normalize_embeddings,
            precision,
            token_budget,
            show_progress_bar,
            "query",
            target,
            decoder,
        )

    def encode_document(
        self,
        items: ItemLike | Sequence[ItemLike],
        *,
        prompt: str | None = None,
        truncate_dim: int | None = None,
        normalize_embeddings: bool | None = None,
        precision: Precision = "float32",
        token_budget: int | None = None,
        show_progress_bar: bool = False,
    ) -> NDArray[Any]:
        """Embed items as things to be found: like `encode`, with the style's default instruction by kind."""
        return self._encode(
            items, prompt, truncate_dim, normalize_embeddings, precision, token_budget, show_progress_bar, "document"
        )

    def stream(
        self,
        items: Iterable[ItemLike],
        ask: Ask = Ask(),
        *,
        output: Output = "pooled",
        truncate_dim: int | None = None,
        normalize_embeddings: bool | None = None,
        token_budget: int | None = None,
        workers: int | None = None,
        decoder: Decoder = media,
    ) -> Generator[tuple[int, Vectors | VLM2VecError], None, None]:
        """Embed an iterable of any length, taking items as they are needed.

        Args:
            items: several, taken in another thread, unless `workers` is 0.
            ask: how they are put to the model.
            output: "pooled" for one vector an item, "tokens" for one for each of its tokens.
            truncate_dim, normalize_embeddings: of pooled vectors, as for `encode_query`.
            workers: threads that decode and tokenise while the model computes; None: one a core, at most eight.
            token_budget, decoder: as for `encode_query`.

        Yields:
            (position, vector [D], or vectors [tokens, E] of length one) or, for an item that cannot be embedded,
            (position, its error); in no fixed order.

        Raises:
            ModelError: tokens are asked for, and the model has no token head.
        """
        if output == "tokens":
            self._check_token_head()
            yield from self._stream(items, ask, token_budget, workers, _by_item, decoder)
            return
        check_truncation(truncate_dim, self.dim)
        scaled = bool(self.settings.normalize if normalize_embeddings is None else normalize_embeddings)

        def pooled(encoded: Encoded, lengths: Sequence[int]) -> Iterable[Vectors]:
            vectors = encoded.pooled[:, :truncate_dim]
            return cast(Vectors, (normalize(vectors) if scaled else vectors.float()).cpu().numpy())

        yield from self._stream(items, ask, token_budget, workers, pooled, decoder)

    @property
    def dtype(self) -> str:
        """In which it computes: "float32", "bfloat16" or "float16"."""
        return str(self.backbone.model.dtype).removeprefix("torch.")

    @property
    def token_dim(self) -> int:
        """Dimensions of a token's vector.

        Raises:
            ModelError: the model has no token head.
        """
        return self._check_token_head().out_features

    def similarity(self, a: NDArray[Any], b: NDArray[Any]) -> Vectors:
        """Cosine similarity of every row of `a` [N, D] with every row of `b` [M, D], of either precision: [N, M]."""
        if np.shape(a)[-1:] != np.shape(b)[-1:]:
            raise InputError(f"vectors of shapes {np.shape(a)} and {np.shape(b)} cannot be compared: other dimensions")
        rows_a, rows_b = (normalize(torch.tensor(np.atleast_2d(x))) for x in (a, b))
        return cast(Vectors, (rows_a @ rows_b.T).numpy())

    def encode_tokens(
        self,
        items: Sequence[ItemLike],
        *,
        role: Role | None = None,
        target: Target | None = None,
        prompt: str | None = None,
        token_budget: int | None = None,
    ) -> list[Vectors]:
        """A vector for every token of each item, for late interaction; of a model with a token head.

        Args:
            role: "query" or "document", for the style's default instruction; None adds nothing.
            target, prompt, token_budget: as for `encode_query` and `encode`.

        Returns:
            for each item float32 [tokens, E], rows of length one.

        Raises:
            ModelError: the model has no token head.
            InputError, MediaError: as for `encode`.
        """
        check_several(items)
        found: list[Vectors] = [np.empty((0, 0), dtype=np.float32)] * len(items)
        stream = self.stream(items, Ask(role, target, prompt), output="tokens", token_budget=token_budget)
        with closing(stream):
            for position, vectors in usable(stream, len(items), self.name):
                found[position] = vectors
        return found

    def late_similarity(self, queries: Sequence[Vectors], documents: Sequence[Vectors]) -> Vectors:
        """MaxSim of token vectors as `encode_tokens` gives them: [N, M]; see `late_interaction`."""
        return maxsim(queries, documents)

    def _check_token_head(self) -> Linear:
        if self.backbone.token_head is None:
            raise ModelError(f"{self.name} has no token head; train one with loss.token_dim")
        return self.backbone.token_head

    def _budget(self, token_budget: int | None) -> int:
        return token_budget or _TOKEN_BUDGET.get(self.backbone.pixel_table.device.type, _TOKEN_BUDGET["cpu"])

    def _encode(
        self,
        items: ItemLike | Sequence[ItemLike],
        prompt: str | None,
        truncate_dim: int | None,
        normalize_embeddings: bool | None,
        precision: Precision,
        token_budget: int | None,
        show_progress_bar: bool,
        role: Role | None = None,
        target: Target | None = None,
        decoder: Decoder = media,
    ) -> NDArray[Any]:
        check_truncation(truncate_dim, self.dim)
        check_precision(precision)
        single = is_single(items)
        sequence = [cast(ItemLike, items)] if single else list(cast(Sequence[ItemLike], items))
        vectors: NDArray[Any] = np.empty((len(sequence), truncate_dim or self.dim), dtype=precision)
        results = self.stream(
            sequence,
            Ask(role, target, prompt),
            truncate_dim=truncate_dim,
            normalize_embeddings=normalize_embeddings,
            token_budget=token_budget,
            decoder=decoder,
        )
        shown = _with_bar(results, len(sequence)) if show_progress_bar else results
        # Whoever keeps an error keeps its traceback, and with it what is not closed.
        with closing(results):
            for position, vector in usable(shown, None if single else len(sequence), self.name):
                vectors[position] = to_int8(vector) if precision == "int8" else vector
        return vectors[0] if single else vectors

    def _stream(
        self,
        items: Iterable[ItemLike],
        ask: Ask,
        token_budget: int | None,
        workers: int | None,
        take: Callable[[Encoded, Sequence[int]], Iterable[Vectors]],
        decoder: Decoder = media,
    ) -> Generator[tuple[int, Vectors | VLM2VecError], None, None]:
        check_several(items)
        workers = default_workers() if workers is None else workers
        processor = self.backbone.processor

        def prepare(given: ItemLike) -> Prepared:
            return processor.prepare(as_item(given), ask, decoder=decoder)

        def weigh(given: ItemLike) -> int:
            return processor.decoded_bytes(as_item(given), decoder)

        prepared = prepared_windows(prepare, items, window_tokens=_WINDOW_TOKENS, workers=workers, weigh=weigh)
        with closing(prepared) as windows:
            for window in windows:
                yield from embedded(window, self.backbone, self._budget(token_budget), take)


def _by_item(encoded: Encoded, lengths: Sequence[int]) -> Iterable[Vectors]:
    return (vectors.numpy() for vectors in cast(Tensor, encoded.tokens).cpu().split(list(lengths)))


def _with_bar(results: Iterable[T], total: int) -> Iterable[T]:
    from tqdm.auto import tqdm

    return cast(Iterable[T], tqdm(results, total=total, unit="item", desc="encode"))
