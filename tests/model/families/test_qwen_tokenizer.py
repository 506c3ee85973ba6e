"""A text far beyond the model's limit is cut before it is tokenised, and its ids stay the same."""

from __future__ import annotations

import json
import tempfile
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.golden_cases import MODEL
from vlm2vec.errors import InputError
from vlm2vec.model.checkpoint import SHIPPED
from vlm2vec.model.families.qwen_tokenizer import TextTokenizer, _starts


def _with_few_merges() -> TextTokenizer:
    """The golden tokenizer with its first merges alone: few ids of a beginning are uncertain."""
    state = json.loads((MODEL / "tokenizer.json").read_text("utf-8"))
    state["model"]["merges"] = state["model"]["merges"][:20]
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "tokenizer.json").write_text(json.dumps(state), "utf-8")
        return TextTokenizer(Path(folder))


TOKENIZERS = {
    "golden": TextTokenizer(MODEL),
    "tiny": TextTokenizer(SHIPPED["tiny"]),
    "few merges": _with_few_merges(),
}
# Letters that compose, marks that move, jamo, digits, white space of every kind, contractions, halves of added tokens.
PARTS = st.sampled_from(
    [
        *"aAzé1٣ \n\r\t'.,!-_<|>漢字。か가\u3000\x1c\x85\u200b",
        *"\u0301\u0323\u1100\u1161\u11a8\u3099\U0001f600\U0001f3fd",
        *"\U0001f680\u200d\ufe0fا\u0653ส\u0e31\u0e38न\u093c\u09c7\u09be\U00020000\U00016d67\U000110b9\U000110ba",
        *(
            "'re",
            "'S",
            "<|im_end|>",
            "<|im_",
            "end|>",
            "<|image_pad|>",
            "\U0010fffd<|image_pad|>\U0010fffd",
            "the cat ",
        ),
    ]
)
TEXTS = st.lists(st.tuples(PARTS, st.integers(1, 6)), max_size=60).map(lambda runs: "".join(p * n for p, n in runs))


def _cut(tokenizer: TextTokenizer, text: str, limit: int) -> list[int]:
    tokenizer.max_tokens = limit
    return tokenizer.encode_alone(text)


@pytest.mark.parametrize("name", TOKENIZERS)
@given(text=TEXTS, limit=st.integers(1, 4))
@settings(deadline=None, max_examples=100)
def test_a_cut_text_has_the_first_ids_of_the_whole_text(name: str, text: str, limit: int) -> None:
    assert _cut(TOKENIZERS[name], text, limit) == TOKENIZERS[name].encode(text)[:limit]


@pytest.mark.parametrize("name", TOKENIZERS)
@pytest.mark.parametrize(
    ("end", "length"),
    [
        *(("", 12_000), ("\u0323", 12_000)),
        *(pytest.param(end, 30_000, marks=pytest.mark.slow) for end in ("", "x", "\n", " \n", "<|im_end|>", "\u0323")),
    ],
)
@pytest.mark.parametrize(
    "run",
    [
        "a",
        " ",
        "\n",
        "\n ",
        "!",
        "1",
        "漢",
        "\u0301",
        "é",
        "<|im_end|>",
        "<|im_",
        "\U0001f600",
        "ab'",
        "가\u11a8",
        "\U0001f680",
        "สวัสดี",
        "न\u093c",
    ],
)
def test_a_run_that_nothing_divides_is_cut_alike(name: str, run: str, end: str, length: int) -> None:
    text = "A" + run * (length // len(run)) + end
    whole = TOKENIZERS[name].encode(text)
    for limit in (1, 7, 300):
        assert _cut(TOKENIZERS[name], text, limit) == whole[:limit]


class _Counted:
    """A tokenizer that counts the characters it is given."""

    def __init__(self, inner: object) -> None:
        self.inner, self.characters = inner, 0

    def encode(self, text: str, **arguments: object) -> object:
        self.characters += len(text)
        return self.inner.encode(text, **arguments)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "text",
    [
        *(
            "the cat sat on the mat, 12 times. " * 6_000,
            "漢字。" * 60_000,
            "a" * 200_000,
            "!?" * 100_000,
            " " * 600_000,
        ),
        *(
            "\U0001f680" * 100_000,
            "\U0001f916\u200d\ufe0f" * 50_000,
            "สวัสดี" * 50_000,
            "نص" * 100_000,
            "\U00020000" * 99_999,
        ),
    ],
    ids=lambda text: text[:6].encode("unicode_escape").decode(),
)
def test_no_more_of_a_long_text_is_tokenised_than_its_kept_ids_need(text: str) -> None:
    tokenizer = TextTokenizer(MODEL)
    counted = tokenizer._tokenizer = _Counted(tokenizer._tokenizer)  # type: ignore[assignment]
    _cut(tokenizer, text, 100)
    assert counted.characters < len(text) / 2


def test_no_character_at_which_a_text_may_be_cut_combines_with_what_is_before_it() -> None:
    starts = _starts()
    characters = [chr(point) for point in range(0x110000) if not 0xD800 <= point < 0xE000]
    pairs = (unicodedata.decomposition(one).split() for one in characters)
    seconds = {chr(int(pair[1], 16)) for pair in pairs if len(pair) == 2 and not pair[0].startswith("<")}
    assert not [one for one in seconds | {chr(jamo) for jamo in range(0x1161, 0x11C3)} if starts.match(one)]
    decomposed = {one: unicodedata.normalize("NFD", one)[0] for one in characters if starts.match(one)}
    assert not [one for one, first in decomposed.items() if not starts.match(first) or unicodedata.combining(first)]


def test_the_warning_says_how_long_the_text_is(caplog: pytest.LogCaptureFixture) -> None:
    tokenizer = TextTokenizer(MODEL)
    tokenizer.max_tokens = 10
    tokenizer.encode_alone("a b " * 50_000)
    assert "a text of 200000 characters was cut at the model's limit of 10 tokens: 'a b" in caplog.text


def test_half_a_character_beyond_the_cut_is_still_an_error() -> None:
    tokenizer = TextTokenizer(MODEL)
    tokenizer.max_tokens = 10
    with pytest.raises(InputError, match="no character"):
        tokenizer.encode_alone("a b " * 5_000 + "\udcff")


def test_without_a_limit_nothing_is_cut() -> None:
    text = "the cat sat " * 2_000
    tokenizer = TextTokenizer(MODEL)
    tokenizer.max_tokens = None
    assert tokenizer.encode_alone(text) == tokenizer.encode(text)


@pytest.mark.parametrize("change", [{"normalizer": {"type": "Lowercase"}}, {"pre_tokenizer": {"type": "Whitespace"}}])
def test_a_tokenizer_of_another_make_is_given_the_whole_text(model_copy: Path, change: dict[str, object]) -> None:
    path = model_copy / "tokenizer.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    tokenizer = TextTokenizer(model_copy)
    text = "the cat sat " * 200
    assert _cut(tokenizer, text, 5) == tokenizer.encode(text)[:5]
