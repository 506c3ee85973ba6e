"""Training sources: published strings, own data in the usual forms, and mistakes named."""

from __future__ import annotations

import json
import pickle
import re
from collections.abc import Sequence
from pathlib import Path

import datasets
import PIL.Image
import pytest
import yaml

from support.places import DATA, ROOT
from support.source_files import video_row, write_frames
from support.train_files import write_rows
from vlm2vec.data.records import Pair
from vlm2vec.errors import ConfigError, DataError
from vlm2vec.items import MEDIA_MARKER, Image, Item, Video
from vlm2vec.model.prompts import prompt_style
from vlm2vec.sources.config import read_sources

GOLDEN = DATA / "golden" / "parsers" / "train"
DOCS = ROOT / "docs" / "data.md"


def _golden(name: str) -> dict[str, list[dict[str, object]]]:
    case: dict[str, list[dict[str, object]]] = json.loads((GOLDEN / f"{name}.json").read_text("utf-8"))
    return case


def _open(folder: Path, rows: Sequence[object], **fields: object) -> Sequence[Pair]:
    """The pairs of rows in a JSONL file."""
    write_rows(folder / "rows.jsonl", rows)
    sources = read_sources({"s": {"path": "rows.jsonl", **fields}}, None, folder)
    return sources["s"].open("s", None)


def _visual(verbatim: str | None) -> str:
    assert verbatim is not None
    return verbatim.replace(MEDIA_MARKER, "<|image_pad|>")


def _mirrored(root: Path, dataset: str, config: str, split: str, rows: Sequence[object]) -> None:
    write_rows(root / "annotations" / dataset.replace("/", "__") / config / f"{split}.jsonl", rows)


@pytest.mark.parametrize("stored", ["jsonl", "parquet"])
def test_mmeb_rows_become_the_published_strings_and_pictures(
    tmp_path: Path, stored: str, caplog: pytest.LogCaptureFixture
) -> None:
    case = _golden("mmeb")
    _mirrored(tmp_path, "TIGER-Lab/MMEB-train", "ImageNet_1K", "original", case["rows"])
    if stored == "parquet":
        (lines,) = tmp_path.rglob("original.jsonl")
        datasets.Dataset.from_list(case["rows"]).to_parquet(lines.with_suffix(".parquet"))
        lines.unlink()
    source = read_sources({"ImageNet_1K": {"weight": 1}}, tmp_path, Path())["ImageNet_1K"]
    pairs = source.open("ImageNet_1K", tmp_path)
    assert caplog.messages == [
        "source 'ImageNet_1K': 2 of 6 rows have nothing on one side and are left out, as published"
    ]
    assert len(pairs) == len(case["outputs"]) == 4
    for pair, published in zip(pairs, case["outputs"], strict=True):
        for item, side in (pair.query, "query"), (pair.positive, "pos"):
            paths = [path for path in published[f"{side}_image"]["paths"] if path]  # type: ignore[index]
            assert item.media == tuple(Image(tmp_path / path, as_stored=True) for path in paths)
            assert _visual(item.verbatim) == published[f"{side}_text"]
            assert item.instruction == ""
    assert [pair.query.text for pair in pairs][:2] == [
        "Represent the given image for classification",
        "Find me an everyday image: café ☕",
    ]


def test_visrag_rows_become_the_published_strings_and_pages(tmp_path: Path) -> None:
    case = _golden("visrag")
    names = [row["image"] for row in case["rows"]]
    columns = {"query": [row["query"] for row in case["rows"]], "source": [row["source"] for row in case["rows"]]}
    images = [{"bytes": str(name).encode(), "path": None} for name in names]
    folder = tmp_path / "annotations" / "openbmb__VisRAG-Ret-Train-In-domain-data" / "default"
    folder.mkdir(parents=True)
    data = datasets.Dataset.from_dict(columns | {"image": images}).cast_column("image", datasets.Image())
    data.to_parquet(folder / "train.parquet")
    source = read_sources({"visrag-indomain": {"weight": 1}}, tmp_path, Path())["visrag-indomain"]
    pairs = source.open("visrag-indomain", tmp_path)
    assert len(pairs) == len(case["outputs"]) == 11
    for pair, published, name in zip(pairs, case["outputs"], names, strict=True):
        assert _visual(pair.query.verbatim) == published["query_text"]
        assert _visual(pair.positive.verbatim) == published["pos_text"]
        assert published["pos_image"]["bytes"][0]["pixels_of"] == name  # type: ignore[index]
        assert pair.positive.media == (Image(str(name).encode(), as_stored=True),)
        assert pair.query.media == ()
    assert pairs[4].query.text == "q for Textbooks"
    assert pairs[4].positive.instruction == "A textbook page with structured educational content and explanations."
    assert (pairs[2].query.instruction, pairs[2].positive.instruction) == ("", "")
    assert pickle.loads(pickle.dumps(pairs))[3] == pairs[3]


@pytest.mark.parametrize("source", [None, "elsewhere", "", "textbooks", 7], ids=repr)
def test_a_visrag_row_without_a_known_source_has_no_prompts_as_published(tmp_path: Path, source: object) -> None:
    page = {"bytes": None, "path": "p.png"}
    (pair,) = _open(tmp_path, [{"query": "q", "image": page, "source": source}], parser="visrag")
    assert (pair.query.verbatim, pair.positive.verbatim) == ("q ", " <|media|>")
    assert (pair.query.instruction, pair.positive.instruction) == ("", "")
    assert pair.positive.media == (Image(tmp_path / "p.png", as_stored=True),)


def test_the_placeholder_may_stand_before_the_page_prompt(tmp_path: Path) -> None:
    rows = [{"query": "q", "image": "p.png", "source": name} for name in ("Textbooks", "elsewhere")]
    pairs = _open(tmp_path, rows, parser="visrag", placeholder_first=True)
    prompt = "A textbook page with structured educational content and explanations."
    assert [pair.positive.verbatim for pair in pairs] == [f"<|media|> {prompt}", "<|media|>"]
    assert pairs[0].positive.media == (Image(tmp_path / "p.png", as_stored=True),)


COLPALI = {"query": "What is shown?", "image": {"bytes": None, "path": "p.png"}, "answer": "A cat", "page": "3"}


def test_colpali_rows_ask_the_page_for_the_answer_as_published(tmp_path: Path) -> None:
    page = Image(tmp_path / "p.png", as_stored=True)
    (pair,) = _open(tmp_path, [COLPALI], parser="vidore")
    assert pair.query == Item("What is shown?", (page,), "", "<|media|> What is shown?")
    assert pair.positive == Item("A cat", (), "", "A cat")
    assert (pair.label, pair.origin, pair.negatives) == (None, f"{tmp_path}/rows.jsonl:1", ())


def test_colpali_rows_may_ask_for_the_page_as_the_evaluation_does(tmp_path: Path) -> None:
    (pair,) = _open(tmp_path, [COLPALI], parser="vidore", query_to_page=True)
    asked = "Find a document image that matches the given query: What is shown?"
    assert prompt_style("vlm2vec").compose(pair.query) == asked
    assert pair.query.text == "What is shown?"
    shown = "<|media|> Understand the content of the provided document image."
    assert prompt_style("vlm2vec").compose(pair.positive) == shown
    assert pair.positive.media == (Image(tmp_path / "p.png", as_stored=True),)


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    """A video of 17 frames, of which eight stand for it, and one of two; natural order and other files matter."""
    write_frames(tmp_path / "frames" / "long", [f"f{number}.jpeg" for number in range(1, 18)] + ["notes.txt"])
    write_frames(tmp_path / "frames" / "short", ["10.png", "9.JPG"])
    write_frames(tmp_path / "frames" / "empty", ["notes.txt"])
    return tmp_path


LONG = [1, 3, 5, 7, 10, 12, 14, 17]
"""1 + floor(i * 16 / 7)."""


def test_llavahound_captions_go_either_way(videos: Path) -> None:
    rows = [video_row("long", "<video>\nDescribe it.", "A dog runs."), video_row("short", "Say: <video> ?", "Two.")]
    fields = {"parser": "llavahound_caption", "frame_dir": "frames"}
    long = Video(tuple(videos / "frames" / "long" / f"f{number}.jpeg" for number in LONG), as_stored=True)
    short = Video((videos / "frames" / "short" / "9.JPG", videos / "frames" / "short" / "10.png"), as_stored=True)
    one, two = _open(videos, rows, mode="caption_retrieval", **fields)
    assert one.query == Item("Describe it.", (long,), "", "<|media|>\nDescribe it.")
    assert one.positive == Item("A dog runs.", (), "", "A dog runs.")
    assert two.query == Item("Say: <|media|> ?", (short,), "", "Say: <|media|> ?")
    one, two = _open(videos, rows, mode="video_retrieval", **fields)
    asked = "Find a video that contains the following visual content:"
    assert one.query == Item("A dog runs.", (), asked, f"{asked} A dog runs.")
    shown = "Understand the content of the provided video:"
    assert two.positive == Item("", (short,), shown, f"{shown} <|media|>")


def test_llavahound_questions_carry_an_instruction(videos: Path) -> None:
    rows = [video_row("long", "What runs?\n<video>", "A dog.")]
    (pair,) = _open(videos, rows, parser="llavahound_qa", frame_dir="frames", num_frames=2)
    video = Video((videos / "frames" / "long" / "f1.jpeg", videos / "frames" / "long" / "f17.jpeg"), as_stored=True)
    asked = "Answer a question based on the content of a video."
    assert pair.query == Item("What runs?", (video,), asked, f"{asked} What runs?\n<|media|>")
    assert pair.positive == Item("A dog.", (), "", "A dog.")


def test_mmeb_negatives_are_hard_negatives(tmp_path: Path) -> None:
    row = {"qry": "q", "qry_image_path": "", "pos_text": "p", "pos_image_path": None}
    rows = [
        row | {"neg_text": "<|image_1|> n", "neg_image_path": "n.png"},
        row | {"neg_text": ["a", "", ""], "neg_image_path": ["", "", "b.png"]},
        row | {"neg_text": "", "neg_image_path": None},
        row | {"neg_text": ["a", "b"]},
    ]
    pairs = _open(tmp_path, rows, parser="mmeb", image_dir="pics")

    def picture(name: str) -> Image:
        return Image(tmp_path / "pics" / name, as_stored=True)

    assert [pair.negatives for pair in pairs] == [
        (Item("n", (picture("n.png"),), "", "<|media|> n"),),
        (Item("a", (), "", "a"), Item("", (picture("b.png"),), "", "")),
        (),
        (Item("a", (), "", "a"), Item("b", (), "", "b")),
    ]


def test_rows_that_are_no_pairs_are_left_out_of_the_first_max_rows_and_unreadable_ones_kept(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    row = {"qry": "q", "qry_image_path": "", "pos_text": "p", "pos_image_path": ""}
    path = write_rows(tmp_path / "rows.jsonl", [row | {"qry": ""}, row, {"qry": "q"}, row])
    path.write_text("{\n" + path.read_text())
    fields = {"path": path, "parser": "mmeb", "image_dir": "pics"}
    sources = read_sources({"all": fields, "four": fields | {"max_rows": 4}}, None, tmp_path)
    pairs = sources["all"].open("all", None)
    four = sources["four"].open("four", None)
    left_out = "rows have nothing on one side and are left out, as published"
    assert caplog.messages == [f"source 'all': 1 of 5 {left_out}", f"source 'four': 1 of 4 {left_out}"]
    assert (len(pairs), len(four)) == (4, 3)
    assert (pairs[1].origin, pairs[3].origin) == (f"{path}:3", f"{path}:5")
    with pytest.raises(DataError, match=r"rows.jsonl:1 is not JSON"):
        pairs[0]
    with pytest.raises(DataError, match=r"rows.jsonl:4: column 'qry_image_path' is missing"):
        _ = pairs[2]


def test_columns_hold_texts_pictures_items_and_negatives_in_order(tmp_path: Path) -> None:
    rows = [
        {"negative_10": "ten", "anchor": "a", "positive": {"path": "p.png", "bytes": None}, "negative_2": "two"},
        {"anchor": {"image": "q.png", "instruction": "i"}, "positive": "b", "negative": None},
    ]
    one, two = _open(tmp_path, rows, image_dir="pics")
    assert one.query == Item("a")
    assert one.positive == Item(media=(Image(tmp_path / "pics" / "p.png"),))
    assert one.negatives == (Item("two"), Item("ten"))
    assert two.query == Item("", (Image(tmp_path / "pics" / "q.png"),), "i")
    assert two.negatives == ()


@pytest.mark.parametrize(
    ("fields", "row", "message"),
    [
        ({"parser": "visrag"}, {"query": None, "image": "p", "source": "s"}, "column 'query' holds None: it must be a"),
        ({"parser": "visrag"}, {"query": "q", "image": 3, "source": "s"}, "column 'image' holds 3: it must be a pict"),
        ({"parser": "vidore"}, {"query": "q", "answer": "a"}, "column 'image' is missing: the row has query, answer"),
        ({"parser": "vidore"}, COLPALI | {"query": "<|media|>"}, "column 'query' holds the text <|media|>, which"),
        (
            {},
            {"anchor": "a", "positive": "b", "score": 1},
            "unknown column 'score': use anchor, positive, and negative",
        ),
        ({}, {"anchor": None, "positive": "b"}, "column 'anchor' is null: it must hold a text, a picture or an item"),
        ({}, {"anchor": "", "positive": "b"}, "an item has neither text nor medium"),
        ({}, {"query": "a", "positive": 3}, "an item is a text or an object, not 3"),
        ({}, {"query": "a", "positive": "b", "negatives": "c"}, "'negatives' is 'c', it must be a list"),
        (
            {"parser": "mmeb", "image_dir": "."},
            {"qry": "q", "qry_image_path": 3, "pos_text": "p", "pos_image_path": ""},
            "column 'qry_image_path' holds 3: it must be a text",
        ),
        (
            {"parser": "mmeb", "image_dir": "."},
            {"qry": "q", "qry_image_path": "", "pos_text": "p", "pos_image_path": ""}
            | {"neg_text": ["a", "b"], "neg_image_path": ["c"]},
            "2 entries in 'neg_text' but 1 in 'neg_image_path'",
        ),
        (
            {"parser": "llavahound_qa", "frame_dir": "."},
            {"video": "v", "conversations": [{"value": "q"}]},
            "column 'conversations' holds [{'value': 'q'}]: it must be a list of two objects",
        ),
    ],
)
def test_a_row_that_cannot_be_a_pair_is_named_when_it_is_read(
    tmp_path: Path, fields: dict[str, object], row: dict[str, object], message: str
) -> None:
    pairs = _open(tmp_path, [row], **fields)
    with pytest.raises(DataError, match=re.escape(f"{tmp_path}/rows.jsonl:1: {message}")):
        pairs[0]


@pytest.mark.parametrize("video", ["empty", "gone"])
def test_a_video_without_frames_is_an_error_of_its_row(videos: Path, video: str) -> None:
    rows = [video_row("short", "<video>", "a"), video_row(video, "<video>", "b")]
    pairs = _open(videos, rows, parser="llavahound_qa", frame_dir="frames")
    assert len(pairs[0].query.media) == 1
    with pytest.raises(DataError, match=rf"rows.jsonl:2: .*{video}"):
        pairs[1]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"wieght": 2}, "wieght: Extra inputs are not permitted; did you mean 'weight'?"),
        ({"weight": 0}, "weight: a weight must be above 0"),
        ({"weight": [0, -1]}, "weight: a weight must be above 0"),
        ({"weight": "much"}, "weight: Input should be a valid number"),
        ({"max_rows": 0}, "max_rows: Input should be greater than 0"),
        ({"parser": "mmbe"}, "no parser is named 'mmbe'; did you mean 'mmeb'? use one of pairs, columns, mmeb, vidore"),
        ({"dataset": "a/b", "parser": "vidore"}, "give one of path, dataset and annotation_file, not path and dataset"),
        ({"parser": "mmeb"}, "parser 'mmeb' needs 'image_dir'"),
        ({"parser": "llavahound_caption", "frame_dir": "f"}, "parser 'llavahound_caption' needs 'mode'"),
        ({"parser": "pairs", "image_dir": "i"}, "'image_dir' has no effect with parser 'pairs', which has no options"),
        ({"parser": "vidore", "placeholder_first": True}, "no effect with parser 'vidore', which uses query_to_page"),
        ({"config": "c"}, "'config' and 'download' belong to 'dataset', which is not given"),
    ],
)
def test_a_mistake_in_a_source_is_named(tmp_path: Path, fields: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape("source 's': ")) as failure:
        read_sources({"s": {"path": "rows.jsonl"} | fields}, None, tmp_path)
    assert message in str(failure.value)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            "vlm2vec-v2-vidoe",
            "is neither a packaged mix (vlm2vec-v2, vlm2vec-v2-image, vlm2vec-v2-video, vlm2vec-v2-visdoc)",
        ),
        ("vlm2vec-v2-vidoe", "did you mean 'vlm2vec-v2-video'?"),
        ({"NIGTHS": {"weight": 1}}, "no packaged source has that name; did you mean 'NIGHTS'?"),
        ({"s": {"dataset": "a/b"}}, "source 's': give 'parser', one of pairs, columns, mmeb"),
        ({"s": 3}, "source 's': Input should be a valid dictionary"),
        ("vlm2vec-v2", "source 'ImageNet_1K': image_dir is relative to data_root, which is not set; set it"),
        ({"s": {"annotation_file": "a.jsonl", "parser": "pairs", "split": "x"}}, "'split' does not belong to"),
    ],
)
def test_a_mistake_in_the_whole_is_named(tmp_path: Path, data: str | dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        read_sources(data, None, tmp_path)


def test_data_of_another_form_are_refused_when_they_are_opened(tmp_path: Path) -> None:
    for rows, fields, message in (
        ([{"text": "a"}], {}, "source 's': the rows hold text: they need 'query' and 'positive', or 'anchor'"),
        ([], {}, "source 's': the data hold no row"),
        ([{"query": "a", "positive": "b"}], {"image_dir": "i"}, "'image_dir' has no effect with parser 'pairs'"),
        (
            [{"qry": "", "qry_image_path": "", "pos_text": "", "pos_image_path": ""}],
            {"parser": "mmeb", "image_dir": "i"},
            "source 's': none of 1 rows has a text or a picture on both sides",
        ),
    ):
        with pytest.raises(ConfigError if "image_dir" in message else DataError, match=re.escape(message)):
            _open(tmp_path, rows, **fields)
    datasets.Dataset.from_dict({"query": ["a"], "text": ["b"]}).save_to_disk(tmp_path / "saved")
    sources = read_sources({"s": {"path": "saved", "parser": "vidore"}}, None, tmp_path)
    with pytest.raises(DataError, match=r"source 's': the rows have no column 'image', only query, text"):
        sources["s"].open("s", None)


def test_the_examples_of_the_documentation_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = re.findall(r"^```(\w+)\n(.*?)^```$", DOCS.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    assert [language for language, _ in blocks] == ["jsonl", "yaml", "python", "yaml", "yaml", "yaml"]
    texts = [text for _, text in blocks]
    assert all(len(text.splitlines()) <= 6 for text in texts)
    for name in ("apple", "apple2", "pear"):
        PIL.Image.new("RGB", (4, 4)).save(tmp_path / f"{name}.png")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "fruit.jsonl").write_text(texts[0])
    exec(texts[2], {})

    def pairs(data: str | dict[str, object]) -> Sequence[Pair]:
        ((name, source),) = read_sources(data, tmp_path, tmp_path).items()
        return source.open(name, tmp_path)

    lines = pairs(yaml.safe_load(texts[1])["data"])
    assert len(list(lines)) == 4
    assert lines[3].negatives == (Item("an apple"), Item(media=(Image(tmp_path / "apple.png"),)))
    columns = pairs(yaml.safe_load(texts[3])["data"])
    assert [pair.negatives for pair in columns] == [(Item("a plum"),), (Item("a fig"),)]
    assert columns[1].positive == Item(media=(Image((tmp_path / "pear.png").read_bytes()),))
    (tmp_path / "mix.yaml").write_text(texts[4])
    row = {"qry": "<|image_1|> Which fruit?", "qry_image_path": "a.png", "pos_text": "apple", "pos_image_path": ""}
    _mirrored(tmp_path, "TIGER-Lab/MMEB-train", "Fruit", "original", [row])
    assert pairs("mix.yaml")[0].query.media == (Image(tmp_path / "pictures" / "a.png", as_stored=True),)
    ours = read_sources(yaml.safe_load(texts[5])["data"], tmp_path, tmp_path)
    colpali, visrag = (source.model_dump() for source in ours.values())
    assert (colpali["query_to_page"], visrag["placeholder_first"]) == (True, True)
