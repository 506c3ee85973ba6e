"""From a composed string to token ids, with every `<|media|>` marker left open for visual tokens."""

from __future__ import annotations

import json
import warnings
from functools import cached_property
from pathlib import Path

from tokenizers import Tokenizer

from vlm2vec.errors import ModelError

IMAGE_TOKEN = "<|image_pad|>"
VIDEO_TOKEN = "<|video_pad|>"
VISUAL_TOKENS = (IMAGE_TOKEN, VIDEO_TOKEN, "<|vision_start|>", "<|vision_end|>")


class TextTokenizer:
    """A checkpoint's `tokenizer.json`, read by the tokenizers library.

    Visual tokens that occur in a text are data, not structure: they are split like any other characters. All other
    special tokens keep their meaning, as in the published code. Nothing is added at either end.
    """

    def __init__(self, folder: Path) -> None:
        path = folder / "tokenizer.json"
        if not path.is_file():
            raise ModelError(
                f"{folder} holds no tokenizer.json; save the tokenizer there with transformers' "
                "AutoTokenizer.from_pretrained(...).save_pretrained(...)"
            )
        self.path = path
        config = folder / "tokenizer_config.json"
        limit = json.loads(config.read_text("utf-8")).get("model_max_length") if config.is_file() else None
        self.max_tokens: int | None = limit if isinstance(limit, int) and limit < 10**9 else None

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        state = json.loads(self.path.read_text("utf-8"))
        state["added_tokens"] = [token for token in state["added_tokens"] if token["content"] not in VISUAL_TOKENS]
        # A checkpoint may store the length limit or padding of its training; neither belongs to one text.
        state["truncation"] = state["padding"] = None
        return Tokenizer.from_str(json.dumps(state))

    @cached_property
    def visual_ids(self) -> dict[str, int]:
        """Token id of each visual token. Raises ModelError if the vocabulary lacks one."""
        added = {token["content"]: token["id"] for token in json.loads(self.path.read_text("utf-8"))["added_tokens"]}
        missing = [token for token in VISUAL_TOKENS if token not in added]
        if missing:
            raise ModelError(f"{self.path} has no token {missing[0]}: it is not a Qwen-VL tokenizer")
        return {token: added[token] for token in VISUAL_TOKENS}

    def encode(self, text: str) -> list[int]:
        """Token ids of a piece of text; [] for ""."""
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def encode_alone(self, text: str) -> list[int]:
        """Token ids of an item without media, cut at the tokenizer's own limit as in the published code."""
        ids = self.encode(text)
        if self.max_tokens is not None and len(ids) > self.max_tokens:
            warnings.warn(
                f"a text of {len(ids)} tokens was cut at the model's limit of {self.max_tokens}: {text[:60]!r}…",
                stacklevel=2,
            )
            return ids[: self.max_tokens]
        return ids

    def __getstate__(self) -> dict[str, object]:
        # The Rust object is rebuilt in a worker process rather than sent there.
        return {"path": self.path, "max_tokens": self.max_tokens}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
