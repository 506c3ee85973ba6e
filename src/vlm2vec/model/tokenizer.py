"""From a composed string to token ids, with every `<|media|>` marker left open for visual tokens."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from vlm2vec.errors import InputError, ModelError
from vlm2vec.model.checkpoint import read_json

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
        limit = read_json(config).get("model_max_length") if config.is_file() else None
        self.max_tokens: int | None = limit if isinstance(limit, int) and limit < 10**9 else None
        state = read_json(path)
        added = state.get("added_tokens")
        self.special_ids = {token["content"]: token["id"] for token in added} if isinstance(added, list) else {}
        missing = [token for token in VISUAL_TOKENS if token not in self.special_ids]
        if missing:
            raise ModelError(f"{path} has no token {missing[0]}: it is not a Qwen-VL tokenizer")
        self.visual_ids = {token: self.special_ids[token] for token in VISUAL_TOKENS}
        self._tokenizer = _without_visual_tokens(state, path)

    def encode(self, text: str) -> list[int]:
        """Token ids of a piece of text; [] for "".

        Raises:
            InputError: the text holds half of a surrogate pair, which is no character.
        """
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise InputError(
                f"a text holds {text[error.start]!r}, no character: {text[:60]!r}; read it with errors='replace'"
            ) from None
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


def _without_visual_tokens(state: dict[str, Any], path: Path) -> Tokenizer:
    """The tokenizer of a `tokenizer.json` that does not know the visual tokens."""
    for token in state["added_tokens"]:
        if token["content"] in VISUAL_TOKENS:
            # Renamed to what nobody types, not removed: ids follow from the places in this list.
            token["content"] = f"\U0010fffd{token['content']}\U0010fffd"
    # A checkpoint may store the length limit or padding of its training; neither belongs to one text.
    state["truncation"] = state["padding"] = None
    try:
        return Tokenizer.from_str(json.dumps(state))
    except Exception as error:  # The library raises bare Exception.
        raise ModelError(f"{path} is no tokenizer that can be read: {error}") from None
