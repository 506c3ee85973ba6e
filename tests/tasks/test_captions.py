"""Pictures that seek captions, and the other way round: what rows become, and which are odd or refused."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from support.task_fixtures import picture_bytes, write_fixture, write_picture, write_rows
from vlm2vec.errors import DataError, MediaError
from vlm2vec.fetching.needs import TaskNeeds
from vlm2vec.items import Image, Item
from vlm2vec.tasks.data import TaskData, TaskSpec
from vlm2vec.tasks.registry import get_tasks, parse_task

DESCRIBE = "Find an image caption describing the given image."


def _task(benchmark: str, name: str) -> TaskSpec:
    return get_tasks(benchmark, names=[name])[0]


def _problems(data: TaskData) -> list[tuple[str, str, int]]:
    return [(warning.column, warning.problem, warning.count) for warning in data.warnings]


def _strings(items: object) -> list[str | None]:
    assert isinstance(items, (tuple, list))
    return [item.verbatim for item in items if isinstance(item, Item)]


def _captioned(root: Path, name: str, *rows: Mapping[str, object], limit: int | None = None) -> TaskData:
    spec = _task("retrieval", name)
    for file in ("a.jpg", "b.jpg", "val2014/a.jpg", "00000000.jpg"):
        write_picture(root / spec.media_dir / file, "red")
    write_rows(spec, root, rows)
    return parse_task(spec, root, limit=limit)


FLICKR = ({"filename": "a.jpg", "raw": '["one", "two "]'}, {"filename": "b.jpg", "raw": '["two ", "three"]'})
CC = tuple({"image_url": f"http://host/{number}", "caption": f"sign {number}"} for number in range(4))


def test_captions_seek_their_picture(tmp_path: Path) -> None:
    data = _captioned(tmp_path, "Flickr30K_t2i", *FLICKR)
    pictures = [Image(tmp_path / "image-tasks/flickr30k" / name, as_stored=True) for name in ("a.jpg", "b.jpg")]
    assert data.queries == tuple(Item(text, (), "", text) for text in ("one", "two ", "two ", "three"))
    assert data.candidate_names == ("a.jpg", "b.jpg")
    assert tuple(data.candidates) == tuple(
        Item("", (picture,), DESCRIBE, f"<|media|> {DESCRIBE}") for picture in pictures
    )
    assert data.relevant == {"0": {"a.jpg": 1}, "1": {"a.jpg": 1}, "2": {"b.jpg": 1}, "3": {"b.jpg": 1}}
    assert (data.pools, data.warnings) == (None, ())


def test_a_picture_seeks_its_captions_and_one_of_two_pictures_is_right_for_both(tmp_path: Path) -> None:
    data = _captioned(tmp_path, "Flickr30K_i2t", *FLICKR)
    assert data.query_ids == ("a.jpg", "b.jpg")
    assert _strings(data.queries) == [f"<|media|> {DESCRIBE}"] * 2
    assert data.candidate_names == ("one", "two ", "three")
    assert tuple(data.candidates) == tuple(Item(text, (), "", text) for text in ("one", "two ", "three"))
    assert data.relevant == {"a.jpg": {"one": 1, "two ": 1}, "b.jpg": {"two ": 1, "three": 1}}
    assert (data.pools, data.warnings) == (None, ())


def test_five_captions_of_a_picture_count_in_either_form_of_karpathys_split(tmp_path: Path) -> None:
    texts = ["1", "2", "3", "4", "5", "6"]
    for sentences in (texts, [{"raw": text, "tokens": [text], "sentid": 0} for text in texts]):
        row = {"filepath": "val2014", "filename": "a.jpg", "sentences": sentences}
        data = _captioned(tmp_path, "COCO-5K_i2t", row)
        assert data.relevant == {"val2014/a.jpg": dict.fromkeys(texts[:5], 1)}
        assert data.candidate_names == ("1", "2", "3", "4", "5")
        assert len(_captioned(tmp_path, "COCO-5K_t2i", row).queries) == 5


def test_a_limit_ends_within_the_captions_of_a_picture(tmp_path: Path) -> None:
    data = _captioned(tmp_path, "Flickr30K_t2i", *FLICKR, limit=3)
    assert _strings(data.queries) == ["one", "two ", "two "]
    assert _captioned(tmp_path, "Flickr30K_t2i", *FLICKR, limit=1).candidate_names == ("a.jpg",)


def test_a_picture_of_conceptual_captions_has_the_number_of_its_row_and_one_caption(tmp_path: Path) -> None:
    for name in ("00000001.jpg", "00000002.jpg", "00000003.jpg"):
        write_picture(tmp_path / "image-tasks/cc" / name, "red")
    data = _captioned(tmp_path, "CC_i2t", *CC)
    assert data.relevant == {f"0000000{number}.jpg": {f"sign {number}": 1} for number in range(4)}
    assert data.queries[2].media == (Image(tmp_path / "image-tasks/cc/00000002.jpg", as_stored=True),)
    data = _captioned(tmp_path, "CC_t2i", *CC)
    assert _strings(data.queries) == ["sign 0", "sign 1", "sign 2", "sign 3"]
    assert data.candidate_names == ("00000000.jpg", "00000001.jpg", "00000002.jpg", "00000003.jpg")
    assert data.warnings == ()


@pytest.mark.parametrize("name", ["CC_t2i", "CC_i2t"])
def test_rows_of_conceptual_captions_without_picture_are_left_out_and_counted(tmp_path: Path, name: str) -> None:
    write_picture(tmp_path / "image-tasks/cc/00000003.jpg", "blue")
    data = _captioned(tmp_path, name, *CC)
    rows = tmp_path / "annotations/google-research-datasets__conceptual_captions/unlabeled/validation.jsonl"
    assert list(map(str, data.warnings)) == [
        f"{name}: the picture is not in place, so the row is left out (column 'image_url', 2 times, first in {rows}:2)"
    ]
    found = {"00000000.jpg": "sign 0", "00000003.jpg": "sign 3"}
    if name == "CC_i2t":
        assert data.relevant == {picture: {text: 1} for picture, text in found.items()}
        assert data.candidate_names == tuple(found.values())
    else:
        assert _strings(data.queries) == list(found.values())
        assert data.relevant == {"0": {"00000000.jpg": 1}, "1": {"00000003.jpg": 1}}
        assert data.candidate_names == tuple(found)
    needs = TaskNeeds.of(_task("retrieval", name), tmp_path)
    assert (needs.complete, needs.queries, needs.warnings) == (True, 2, data.warnings)


def test_a_limit_counts_the_rows_of_conceptual_captions_that_have_a_picture(tmp_path: Path) -> None:
    write_picture(tmp_path / "image-tasks/cc/00000002.jpg", "blue")
    data = _captioned(tmp_path, "CC_i2t", *CC, limit=2)
    assert data.query_ids == ("00000000.jpg", "00000002.jpg")


def test_conceptual_captions_without_any_picture_are_an_error_and_all_of_them_missing(tmp_path: Path) -> None:
    spec = _task("retrieval", "CC_i2t")
    write_rows(spec, tmp_path, CC)
    with pytest.raises(MediaError) as error:
        parse_task(spec, tmp_path)
    assert str(error.value) == (
        f"CC_i2t: none of its 4 pictures is in {tmp_path}/image-tasks/cc, neither 00000000.jpg nor any other: put them "
        "there as docs/benchmark_data.md says"
    )
    needs = TaskNeeds.of(spec, tmp_path)
    assert needs.pictures == tuple(f"image-tasks/cc/0000000{number}.jpg" for number in range(4))
    assert (needs.complete, needs.problem) == (False, None)


def test_a_folder_in_place_of_a_picture_of_conceptual_captions_is_not_a_dead_address(tmp_path: Path) -> None:
    (tmp_path / "image-tasks/cc/00000001.jpg").mkdir(parents=True)
    with pytest.raises(MediaError, match=r"validation\.jsonl:2: column 'image_url': .* is a folder, not a picture"):
        _captioned(tmp_path, "CC_i2t", *CC)


def test_rows_that_hold_captions_as_a_list_and_the_picture_too_are_read(tmp_path: Path) -> None:
    spec = _task("retrieval", "Flickr30K_i2t")
    write_fixture(spec, tmp_path)
    (lines,) = (tmp_path / "annotations").rglob("test.jsonl")
    lines.unlink()
    kind = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    image = pyarrow.array([{"bytes": picture_bytes("red"), "path": "0.jpg"}], kind)
    table = pyarrow.table({"image": image, "raw": [["a", "b"]], "filename": ["0.jpg"], "split": ["test"]})
    pyarrow.parquet.write_table(table, lines.with_suffix(".parquet"))
    data = parse_task(spec, tmp_path)
    assert data.relevant == {"0.jpg": {"a": 1, "b": 1}}
    assert data.queries[0].media == (Image(tmp_path / "image-tasks/flickr30k/0.jpg", as_stored=True),)


def test_a_picture_that_has_two_rows_is_one(tmp_path: Path) -> None:
    row = {"filename": "a.jpg", "raw": '["one"]'}
    assert _captioned(tmp_path, "Flickr30K_t2i", row, row).candidate_names == ("a.jpg",)
    data = _captioned(tmp_path, "Flickr30K_i2t", row, row)
    assert data.relevant == {"a.jpg": {"one": 1}, "a.jpg#1": {"one": 1}}
    assert _problems(data) == [("raw", "a query id occurs twice; the later one gets its number behind it", 1)]


@pytest.mark.parametrize(
    ("name", "row", "message"),
    [
        ("Flickr30K_t2i", {"filename": "a.jpg", "raw": None}, "column 'raw' holds None: it must be a list"),
        ("Flickr30K_t2i", {"filename": "a.jpg", "raw": "[null]"}, "column 'raw' holds None: it must be a text"),
        ("Flickr30K_t2i", {"filename": "a.jpg", "raw": '"one"'}, "column 'raw' holds 'one': it must be a list"),
        (
            "Flickr30K_t2i",
            {"filename": "a.jpg", "raw": "one"},
            "column 'raw' is a text, but not the JSON of a list: Expecting value: line 1 column 1 (char 0)",
        ),
        ("Flickr30K_t2i", {"filename": "a.jpg"}, "column 'raw' is missing: the row has filename"),
        (
            "Flickr30K_i2t",
            {"filename": "a.jpg", "raw": "[]"},
            "column 'raw' is empty or holds an empty caption: a picture must have captions",
        ),
        (
            "CC_t2i",
            {"image_url": "u", "caption": " "},
            "column 'caption' is empty or holds an empty caption: a picture must have captions",
        ),
        ("CC_i2t", {"url": "u", "caption": "x"}, "column 'image_url' is missing: the row has url, caption"),
        ("Flickr30K_i2t", {"filename": "", "raw": '["x"]'}, "column 'filename' is empty: it must name a picture"),
        (
            "COCO-5K_t2i",
            {"filepath": "val2014", "filename": "a.jpg", "sentences": [{"tokens": []}]},
            "column 'raw' is missing: the row has tokens",
        ),
    ],
)
def test_a_malformed_row_of_captions_is_named(tmp_path: Path, name: str, row: dict[str, object], message: str) -> None:
    with pytest.raises(DataError) as error:
        _captioned(tmp_path, name, row)
    assert str(error.value).startswith(f"{name}: ")
    assert str(error.value).endswith(f".jsonl:1: {message}")


def test_a_missing_picture_of_a_caption_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        MediaError, match=r"^COCO-5K_i2t: .*test\.jsonl:1: column 'filename': .*coco/val2014/gone\.jpg is"
    ):
        _captioned(tmp_path, "COCO-5K_i2t", {"filepath": "val2014", "filename": "gone.jpg", "sentences": ["x"]})
