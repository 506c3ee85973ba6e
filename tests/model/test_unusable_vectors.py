"""A vector that cannot be compared is an error that names the item, or the model if all are such."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from support.golden_cases import MODEL, load_tiny, qwen
from vlm2vec.errors import InputError, ModelError, VectorError
from vlm2vec.model.embedder import Embedder

NOT_FINITE = "the vector that the model makes of it is not finite; look for nan in the model's weights"
ZERO = "the vector that the model makes of it is zero; look for nan in the model's weights"


def _broken(value: float, word: str | None = None, *, dtype: str = "float32", token_dim: int | None = None) -> Embedder:
    """The tiny model with a value in its last norm, or in the embedding of a word alone."""
    embedder = load_tiny(dtype=dtype)
    backbone = qwen(embedder)
    if token_dim is not None:
        torch.manual_seed(0)
        backbone.add_token_head(token_dim)
    if word is None:
        backbone.model.language_model.norm.weight.data.fill_(value)
    else:
        backbone.model.language_model.embed_tokens.weight.data[backbone.processor.tokenizer.encode(word)[0]] = value
    return embedder


CALLS: dict[str, Callable[[Embedder, Any], np.ndarray]] = {
    "encode": lambda e, items: e.encode(items),
    "encode_query": lambda e, items: e.encode_query(items, prompt=""),
    "encode_document": lambda e, items: e.encode_document(items),
    "not normalised": lambda e, items: e.encode(items, normalize_embeddings=False),
    "fewer dimensions": lambda e, items: e.encode(items, truncate_dim=3),
    "int8": lambda e, items: e.encode(items, precision="int8"),
    "one a pass": lambda e, items: e.encode(items, token_budget=1),
    "with a bar": lambda e, items: e.encode(items, show_progress_bar=True),
}


@pytest.mark.parametrize("call", CALLS)
def test_one_unusable_vector_names_its_item_and_all_name_the_model(call: str) -> None:
    word = _broken(np.nan, "dog")
    assert np.shape(CALLS[call](word, [])) == (0, 3 if call == "fewer dimensions" else 64)
    with pytest.raises(InputError, match=f"^{re.escape(f'item 1 of 3: {NOT_FINITE}')}$"):
        CALLS[call](word, ["a cat", "dog", "dog too"])
    with pytest.raises(VectorError, match=f"^{re.escape(f'{MODEL}: {NOT_FINITE}')}$"):
        CALLS[call](word, "dog")
    for value, message in ((np.nan, NOT_FINITE), (0.0, ZERO)):
        with pytest.raises(
            ModelError, match=f"^{re.escape(f'{MODEL}: none of 2 items has a vector; of the first, {message}')}$"
        ):
            CALLS[call](_broken(value), ["a cat", "a dog"])


def test_a_stream_gives_the_error_in_the_place_of_the_vector() -> None:
    results = dict(_broken(np.inf, "dog").stream(["a cat", "dog", "a tree"]))
    assert [type(results[position]) for position in range(3)] == [np.ndarray, VectorError, np.ndarray]
    assert str(results[1]) == NOT_FINITE


@pytest.mark.parametrize(("value", "message"), [(np.nan, NOT_FINITE), (0.0, ZERO)])
def test_vectors_of_tokens_are_looked_at_too(value: float, message: str) -> None:
    embedder = _broken(value, "dog" if np.isnan(value) else None, token_dim=8)
    if value == 0:
        with pytest.raises(ModelError, match=re.escape(f"none of 2 items has a vector; of the first, {message}")):
            embedder.encode_tokens(["a cat", "dog"])
    else:
        with pytest.raises(InputError, match=f"^{re.escape(f'item 1 of 2: {message}')}$"):
            embedder.encode_tokens(["a cat", "dog"])
    assert embedder.encode_tokens([]) == []


def test_what_float16_cannot_hold_says_so() -> None:
    with pytest.raises(VectorError, match=re.escape("or load it with dtype='bfloat16' or 'float32': float16 ends at")):
        _broken(60_000, dtype="float16").encode("a cat", normalize_embeddings=False)


def test_another_error_comes_before_that_of_a_vector() -> None:
    with pytest.raises(InputError, match=r"^item 1 of 2: an item with neither text nor media"):
        _broken(np.nan).encode(["a cat", ""])
