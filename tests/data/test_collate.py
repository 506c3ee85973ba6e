"""Steps of pairs as a loader makes them: what stands in for rows that cannot be read, and what counts as the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from vlm2vec.data.collate import PairBatch, PairSteps, Rows
from vlm2vec.data.mixture import Mixture
from vlm2vec.data.records import Pair
from vlm2vec.errors import DataError, MediaError, VLM2VecError
from vlm2vec.items import Image, Item, Video
from vlm2vec.vectors.keys import uninstructed_key, written_key


@dataclass
class Text:
    words: str

    @property
    def cost(self) -> int:
        return len(self.words)


class Numbered:
    """Rows that say their numbers, but those that cannot be read."""

    def __init__(self, size: int, bad: Collection[int] = ()) -> None:
        self.size, self.bad = size, bad

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, row: int, /) -> Pair:
        if row in self.bad:
            raise MediaError(f"row {row} is broken")
        return Pair(Item(f"query {row}"), Item(f"row {row}"), None, f"rows:{row}")


def _step(rows: Rows, batch_size: int) -> PairBatch[Sequence[Text]]:
    schedule = Mixture(sizes={"s": len(rows)}, weights={"s": 1.0}, batch_size=batch_size, sub_batch=0, seed=1).schedule(
        1
    )
    steps: PairSteps[Text, Sequence[Text]] = PairSteps(
        schedule,
        {"s": rows},
        lambda source, pair: Text(pair.query.text),
        lambda source, item: Text(item.text),
        lambda lengths: [range(len(lengths))],
        tuple,
        key=uninstructed_key,
    )
    batch = steps[0]
    if isinstance(batch, VLM2VecError):
        raise batch
    return batch


def test_many_bad_rows_side_by_side_are_replaced_by_different_ones() -> None:
    batch = _step(Numbered(1000, bad=range(300, 700)), batch_size=1000)
    assert sorted(batch.replaced) == [f"row {row} is broken" for row in range(300, 700)]
    found = Counter(text.words for text in batch.documents[0])
    # 600 are drawn themselves, and 400 replacements fall among them by chance.
    assert found.keys() == {f"row {row}" for row in (*range(300), *range(700, 1000))}
    assert max(found.values()) <= 6
    again = _step(Numbered(1000, bad=range(300, 700)), batch_size=1000)
    assert again.documents == batch.documents


def test_every_row_of_a_small_source_is_tried() -> None:
    batch = _step(Numbered(90, bad=range(89)), batch_size=90)
    assert {text.words for text in batch.documents[0]} == {"row 89"}
    assert len(batch.replaced) == 89
    assert len(batch.rows.unique()) == 1, "the very same row, which is no negative of itself"
    with pytest.raises(DataError, match=r"source 's': none of 90 rows can be read; the last: .*is broken"):
        _step(Numbered(90, bad=range(90)), batch_size=90)


def test_items_as_they_are_written_are_the_same_by_path_text_and_place_and_no_file_is_read(tmp_path: Path) -> None:
    missing = tmp_path / "missing.pdf"
    page = Item("a", (Image(missing, page=2),), "Find it.")
    assert written_key(page) == written_key(Item("a", (Image(tmp_path / "." / "missing.pdf", page=2),)))
    frames = (Path("a.png"), b"bytes")
    items = [
        page,
        Item("b", page.media),
        Item("a", (Image(missing, page=3),)),
        Item("a", (Image(missing),)),
        Item("a", (Video(missing),)),
        Item("a", (Video(missing, span_s=(0.0, 2.0)),)),
        Item("a", (Video(frames),)),
        Item("a", (Video(frames[:1]),)),
        Item("a", (Image(b"bytes"),)),
    ]
    assert len({written_key(item) for item in items}) == len(items)


def test_a_label_may_hold_half_a_surrogate_pair_as_json_may() -> None:
    class Labelled(Numbered):
        def __getitem__(self, row: int, /) -> Pair:
            return replace(super().__getitem__(row), label=("x\ud83d", "x\ud83d", "x")[row])

    labels = _step(Labelled(3), batch_size=3).labels.tolist()
    assert sorted(Counter(labels).values()) == [1, 2]


def test_documents_are_the_same_by_what_they_hold_and_not_by_what_is_asked_of_them() -> None:
    class Asked(Numbered):
        def __getitem__(self, row: int, /) -> Pair:
            words = ("apple", "apple", "pear")[row]
            return Pair(Item("apple"), Item(words, instruction=f"instruction {row}"), None, f"rows:{row}")

    batch = _step(Asked(3), batch_size=3)
    queries, documents = (numbers.tolist() for numbers in batch.contents)
    of_words = dict(zip((text.words for text in batch.documents[0]), documents, strict=True))
    assert Counter(documents) == {of_words["apple"]: 2, of_words["pear"]: 1}
    assert set(queries) == {of_words["apple"]}
    assert len(batch.rows.unique()) == 3
