"""From a composed string to token ids, with every `<|media|>` marker left open for visual tokens."""

from __future__ import annotations

import json
import logging
import re
import shutil
import unicodedata
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from vlm2vec.errors import InputError, ModelError
from vlm2vec.model.checkpoint import read_json

_LOG = logging.getLogger("vlm2vec")

IMAGE_TOKEN = "<|image_pad|>"
VIDEO_TOKEN = "<|video_pad|>"
VISUAL_TOKENS = (IMAGE_TOKEN, VIDEO_TOKEN, "<|vision_start|>", "<|vision_end|>")

# How Qwen's tokenizers divide a text into words, which are then tokenised one by one.
_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_LETTERS = (
    "A-Za-z\u00c0-\u00d6\u00d8-\u00f6\u0391-\u03a1\u0410-\u044f\u3041-\u3096\u30a1-\u30fa\u4e00-\u9fa5\uac00-\ud7a3"
)
# No word holds a letter or digit and then one of these, nor depends on the text behind them.
_SURE = re.compile(rf"(?<=[{_LETTERS}0-9])[\x00-@\[-`{{-\x7f]")
_TO_NEWLINE = re.compile(r"\s*?[\r\n]")
# Characters of a text that are tokenised at first for each token that is kept: few texts need more.
_CHARACTERS_A_TOKEN = 8
_SURE_WITHIN = 4096


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
        try:
            self.special_ids = {token["content"]: token["id"] for token in added} if isinstance(added, list) else {}
        except (TypeError, KeyError):
            raise ModelError(f"{path} cannot be read: an entry of added_tokens lacks its content or id") from None
        missing = [token for token in VISUAL_TOKENS if token not in self.special_ids]
        if missing:
            raise ModelError(f"{path} has no token {missing[0]}: it is not a Qwen-VL tokenizer")
        self.visual_ids = {token: self.special_ids[token] for token in VISUAL_TOKENS}
        self._tokenizer = _without_visual_tokens(state, path)
        self._cuts = _cuts(state)

    def copy_to(self, folder: Path) -> None:
        """Copy its files into a folder."""
        for name in ("tokenizer.json", "tokenizer_config.json"):
            if (source := self.path.with_name(name)).is_file():
                shutil.copyfile(source, folder / name)

    def encode(self, text: str) -> list[int]:
        """Token ids of a piece of text; [] for "".

        Raises:
            InputError: the text holds half of a surrogate pair, which is no character.
        """
        _check_characters(text)
        return self._ids(text)

    def encode_alone(self, text: str) -> list[int]:
        """Token ids of an item without media, cut at the tokenizer's own limit as in the published code.

        Of a text that is far longer than the limit only the beginning is tokenised; its ids are those of the whole
        text. A tokenizer without a limit cuts nothing and tokenises all.

        Raises:
            InputError: as for `encode`.
        """
        _check_characters(text)
        if self.max_tokens is None:
            return self._ids(text)
        ids, whole = self._first_ids(text, self.max_tokens)
        if whole and len(ids) <= self.max_tokens:
            return ids
        length = f"{len(ids)} tokens" if whole else f"{len(text)} characters"
        _LOG.warning("a text of %s was cut at the model's limit of %d tokens: %r…", length, self.max_tokens, text[:60])
        return ids[: self.max_tokens]

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def _first_ids(self, text: str, count: int) -> tuple[list[int], bool]:
        """Token ids of the text, or of a beginning with the same first `count` ids; whether it is all."""
        characters = count * _CHARACTERS_A_TOKEN
        while self._cuts is not None and characters < len(text):
            at, uncertain = self._cuts.after(text, characters)
            if at == len(text):
                break
            ids = self._ids(text[:at])
            if len(ids) >= count + uncertain:
                return ids, False
            characters = 4 * at
        return self._ids(text), True


@dataclass(frozen=True, slots=True)
class _Cuts:
    """Where a text may be cut so that the ids of its beginning stay the same.

    Between two words no id changes. Inside a word the last tokens may: the merges of byte-pair encoding are applied one
    rule after another, each from left to right, so of the symbols that two words of equal beginning have in common each
    rule can part the last one only from the rest. After all rules at most their number, and one, differ.

    Args:
        added: texts of the added tokens, which are found before all else.
        num_merges: rules of byte-pair encoding.
    """

    added: tuple[str, ...]
    num_merges: int

    def after(self, text: str, start: int) -> tuple[int, int]:
        """The first place from `start` on, and how many of the last ids before it the rest of the text may change."""
        for found in _SURE.finditer(text, start, start + _SURE_WITHIN):
            if not self._inside_added(text, found.start()):
                return found.start(), 0
        for found in _starts().finditer(text, start):
            at = found.start()
            # White space belongs to one word up to its last new line, however far that is: here it ends with one.
            newline = _TO_NEWLINE.match(text, at) if text[at - 1].isspace() else None
            if newline is not None:
                at = newline.end()
            if not self._inside_added(text, at):
                return at, self.num_merges + 1
        return len(text), 0

    def _inside_added(self, text: str, at: int) -> bool:
        return any(token in text[max(0, at - len(token) + 1) : at + len(token) - 1] for token in self.added)


def _cuts(state: dict[str, Any]) -> _Cuts | None:
    """Where texts may be cut for a tokenizer; None if it is not made as Qwen's are."""
    model, words = state["model"], state.get("pre_tokenizer")
    plain_added = not any(
        token.get(flag) for token in state["added_tokens"] for flag in ("normalized", "lstrip", "rstrip", "single_word")
    )
    plain_merges = (
        model.get("type") == "BPE"
        and not any(model.get(key) for key in ("dropout", "continuing_subword_prefix", "end_of_word_suffix"))
        and not model.get("ignore_merges")
    )
    known_words = False
    if isinstance(words, dict) and words.get("type") == "Sequence":
        # Of what is switched off some versions of the library write that it is; offsets are not used.
        parts = [{k: v for k, v in part.items() if v and k != "trim_offsets"} for part in words["pretokenizers"]]
        split = {"type": "Split", "pattern": {"Regex": _WORDS}, "behavior": "Isolated"}
        known_words = parts == [split, {"type": "ByteLevel"}]
    if state.get("normalizer") != {"type": "NFC"} or not (plain_added and plain_merges and known_words):
        return None
    return _Cuts(tuple(token["content"] for token in state["added_tokens"]), len(model["merges"]))


@cache
def _starts() -> re.Pattern[str]:
    """Characters before which a text is normalised (NFC) as if it ended there: they neither combine nor move.

    Of the planes where new scripts are still encoded only pictographs and Han characters are among them.
    """
    points = (*range(0x10000), *range(0x1F000, 0x1FB00), *range(0x20000, 0x323B0))
    runs: list[list[int]] = []
    for point in filter(_is_start, points):
        if runs and runs[-1][1] == point - 1:
            runs[-1][1] = point
        else:
            runs.append([point, point])
    ranges = "".join(rf"\U{first:08x}-\U{last:08x}" for first, last in runs)
    return re.compile(f"[{ranges}]")


def _is_start(point: int) -> bool:
    # Marks may combine with the character before them, as vowels and last consonants of Hangul do.
    is_jamo = 0x1161 <= point <= 0x11FF
    return unicodedata.category(chr(point)) not in ("Mn", "Mc", "Me", "Cn", "Cs") and not is_jamo


def _check_characters(text: str) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InputError(
            f"a text holds {text[error.start]!r}, no character: {text[:60]!r}; read it with errors='replace'"
        ) from None


def _without_visual_tokens(state: dict[str, Any], path: Path) -> Tokenizer:
    """The tokenizer of a `tokenizer.json` that does not know the visual tokens."""
    for token in state["added_tokens"]:
        if token["content"] in VISUAL_TOKENS:
            # Renamed to a text that nobody types, not removed: ids follow from the places in this list.
            token["content"] = f"\U0010fffd{token['content']}\U0010fffd"
    # A checkpoint may store the length limit or padding of its training; neither belongs to one text.
    state["truncation"] = state["padding"] = None
    try:
        return Tokenizer.from_str(json.dumps(state))
    except Exception as error:  # The library raises bare Exception.
        raise ModelError(f"{path} is no tokenizer that can be read: {error}") from None
