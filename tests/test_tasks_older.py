"""Benchmarks before MMEB-V2: their tables, a miniature of every task, and rows that are odd or refused."""

from __future__ import annotations

from pathlib import Path

import datasets
import pyarrow
import pyarrow.parquet
import pytest

from task_fixtures import picture_bytes, write_fixture, write_picture, write_pool, write_rows
from vlm2vec.errors import ConfigError, MediaError
from vlm2vec.items import MEDIA_MARKER, Image, Item
from vlm2vec.model.prompts import prompt_style
from vlm2vec.tasks.data import TaskData, TaskSpec
from vlm2vec.tasks.registry import get_tasks, parse_task

BENCHMARKS = ("mmeb-v1", "m-beir", "retrieval")
DESCRIBE = "Find an image caption describing the given image."


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def _task(benchmark: str, name: str) -> TaskSpec:
    return get_tasks(benchmark, names=[name])[0]


def _problems(data: TaskData) -> list[tuple[str, str, int]]:
    return [(warning.column, warning.problem, warning.count) for warning in data.warnings]


def _strings(items: object) -> list[str | None]:
    assert isinstance(items, (tuple, list))
    return [item.verbatim for item in items if isinstance(item, Item)]


# The tables


def test_mmeb_v1_has_the_picture_tasks_of_mmeb_v2_in_their_order_and_groups() -> None:
    tasks = get_tasks("mmeb-v1")
    assert [(s.name, s.group) for s in tasks] == [(s.name, s.group) for s in get_tasks(modality="image")]
    assert len(tasks) == 36
    assert {(s.modality, s.metric, s.pool, s.media_dir) for s in tasks} == {("image", "hit@1", "local", "image-tasks")}
    assert [s.source for s in tasks] == [("TIGER-Lab/MMEB-eval", s.name, "test") for s in tasks]


def test_m_beir_has_its_16_tests_with_the_first_wording_of_their_instructions() -> None:
    wiki = "Retrieve a Wikipedia paragraph that provides an answer to the given query about the image."
    pair = "Retrieve a Wikipedia image-description pair that provides evidence for the question of this image."
    assert [(s.name, s.metric, s.instruction) for s in get_tasks("m-beir")] == [
        ("visualnews_task0", "hit@5", "Identify the news-related image in line with the described event."),
        ("mscoco_task0", "hit@5", "Find me an everyday image that matches the given caption."),
        (
            "fashion200k_task0",
            "hit@10",
            "Based on the following fashion description, retrieve the best matching image.",
        ),
        ("webqa_task1", "hit@5", "Retrieve passages from Wikipedia that provide answers to the following question."),
        ("edis_task2", "hit@5", "Find a news image that matches the provided caption."),
        ("webqa_task2", "hit@5", "Find a Wikipedia image that answers this question."),
        ("visualnews_task3", "hit@5", "Find a caption for the news in the given photo."),
        ("mscoco_task3", "hit@5", "Find an image caption describing the following everyday image."),
        ("fashion200k_task3", "hit@10", "Find a product description for the fashion item in the image."),
        ("nights_task4", "hit@5", "Find a day-to-day image that looks similar to the provided image."),
        ("oven_task6", "hit@5", wiki),
        ("infoseek_task6", "hit@5", wiki),
        ("fashioniq_task7", "hit@10", "Find a fashion image that aligns with the reference image and style note."),
        (
            "cirr_task7",
            "hit@5",
            "Retrieve a day-to-day image that aligns with the modification instructions of the provided image.",
        ),
        ("oven_task8", "hit@5", pair),
        ("infoseek_task8", "hit@5", pair),
    ]
    assert {(s.modality, s.group, s.pool, s.media_dir) for s in get_tasks("m-beir")} == {
        ("image", "M-BEIR", "global", "image-tasks")
    }


def test_retrieval_has_three_data_sets_in_both_directions() -> None:
    flickr = ("nlphuji/flickr_1k_test_image_text_retrieval", "TEST", "test")
    coco = ("yerevann/coco-karpathy", None, "test")
    cc = ("google-research-datasets/conceptual_captions", "unlabeled", "validation")
    assert [(s.name, s.group, s.metric, s.pool, s.source) for s in get_tasks("retrieval")] == [
        ("Flickr30K_t2i", "Flickr30K", "hit@1", "global", flickr),
        ("Flickr30K_i2t", "Flickr30K", "hit@1", "global", flickr),
        ("COCO-5K_t2i", "MSCOCO", "hit@1", "global", coco),
        ("COCO-5K_i2t", "MSCOCO", "hit@1", "global", coco),
        ("CC_t2i", "CC", "hit@1", "global", cc),
        ("CC_i2t", "CC", "hit@1", "global", cc),
    ]


@pytest.mark.parametrize(("benchmark", "name"), [(b, spec.name) for b in BENCHMARKS for spec in get_tasks(b)])
def test_a_miniature_in_the_real_schema_parses(tmp_path: Path, benchmark: str, name: str) -> None:
    spec = _task(benchmark, name)
    write_fixture(spec, tmp_path)
    data = parse_task(spec, tmp_path)
    assert len(data.queries) == len(data.query_ids) == len(data.relevant) >= 3
    assert len(data.candidates) == len(data.candidate_names) == len(set(data.candidate_names)) >= 3
    assert data.warnings == ()
    for query in data.query_ids:
        assert data.relevant[query]
        assert data.relevant[query].keys() <= set(data.candidate_names)
    assert (data.pools is None) == (spec.pool == "global")
    published, other = prompt_style("vlm2vec"), prompt_style("qwen2-vl")
    for item in (*data.queries, *data.candidates):
        assert published.compose(item) == item.verbatim
        assert item.instruction is not None
        # Styles that place media themselves need no marker in the parts.
        assert MEDIA_MARKER not in item.text + item.instruction
        assert other.compose(item, item.instruction).count(MEDIA_MARKER) == len(item.media)


# MMEB in its first form

V1_ROW = {
    "qry_text": "<|image_1|>\nFind it: a cat\n",
    "qry_img_path": "a.png",
    "tgt_text": ["<|image_1|>\nIt.\n", "<|image_1|> A dog"],
    "tgt_img_path": ["a.png", "b.png"],
}


def _v1(root: Path, **columns: object) -> TaskData:
    for name in ("a.png", "b.png"):
        write_picture(root / "image-tasks" / name, "red")
    spec = _task("mmeb-v1", "CIRR")
    write_rows(spec, root, [V1_ROW | columns])
    return parse_task(spec, root)


def test_a_row_of_mmeb_v1_is_taken_as_it_is_with_the_visual_token_in_its_place(tmp_path: Path) -> None:
    data = _v1(tmp_path)
    first, second = (Image(tmp_path / "image-tasks" / name, exif=False) for name in ("a.png", "b.png"))
    assert data.queries == (Item("Find it: a cat", (first,), "", "<|media|>\nFind it: a cat\n"),)
    assert data.candidates == (
        Item("It.", (first,), "", "<|media|>\nIt.\n"),
        Item("A dog", (second,), "", "<|media|> A dog"),
    )
    assert data.candidate_names == ("a.png:It.", "b.png:A dog")
    assert data.pools == (("a.png:It.", "b.png:A dog"),)
    assert data.relevant == {"0": {"a.png:It.": 1}}
    assert data.warnings == ()


def test_texts_of_mmeb_v1_are_candidates_as_they_are(tmp_path: Path) -> None:
    data = _v1(tmp_path, tgt_text=["cat ", "dog", "cat ", ""], tgt_img_path=["", "", "", ""])
    assert data.candidate_names == ("cat ", "dog", "")
    assert _strings(data.candidates) == ["cat ", "dog", ""]
    assert data.empty == {""}
    assert _problems(data) == [
        ("tgt_text", "a candidate is empty; it ranks last", 1),
        ("tgt_text", "a candidate is listed twice; as a label it counts once", 1),
    ]


def test_a_candidate_of_mmeb_v1_is_one_by_text_and_picture_together(tmp_path: Path) -> None:
    data = _v1(tmp_path, tgt_text=["<|image_1|> x", "<|image_1|> y", "<|image_1|> x"], tgt_img_path=["a.png"] * 3)
    assert data.candidate_names == ("a.png:x", "a.png:y")
    assert data.pools == (("a.png:x", "a.png:y", "a.png:x"),)


def test_a_token_without_picture_stays_text(tmp_path: Path) -> None:
    """As in WebQA, whose queries show nothing."""
    data = _v1(tmp_path, qry_text="<|image_1|>\nFind an answer: why?\n", qry_img_path="")
    assert data.queries == (Item("Find an answer: why?", (), "", "<|image_pad|>\nFind an answer: why?\n"),)
    assert _problems(data) == [
        ("qry_text", "<|image_1|> stands in a query without picture; it stays text", 1),
    ]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"qry_text": None}, "column 'qry_text' holds None: it must be a text"),
        ({"qry_img_path": None}, "column 'qry_img_path' holds None: it must be a text"),
        (
            {"qry_text": "", "qry_img_path": ""},
            "column 'qry_text' is empty, and no picture goes with it: a query must hold something",
        ),
        (
            {"qry_text": "Find it"},
            "column 'qry_text' holds <|image_1|> 0 times beside a picture: it must hold it once, in its place",
        ),
        (
            {"tgt_text": ["<|image_1|> <|image_1|>", "x"]},
            "column 'tgt_text' holds <|image_1|> 2 times beside a picture: it must hold it once, in its place",
        ),
        (
            {"tgt_text": [], "tgt_img_path": []},
            "column 'tgt_text' is empty: it must list candidates, the right one first",
        ),
        (
            {"tgt_text": ["x"]},
            "column 'tgt_text' has 1 entries but 'tgt_img_path' has 2: give one for each",
        ),
    ],
)
def test_a_malformed_row_of_mmeb_v1_is_named(tmp_path: Path, columns: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        _v1(tmp_path, **columns)
    rows = tmp_path / "annotations" / "TIGER-Lab__MMEB-eval" / "CIRR" / "test.jsonl"
    assert str(error.value) == f"CIRR: {rows}:1: {message}"


def test_a_missing_picture_of_mmeb_v1_is_named(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=r"^CIRR: .*test\.jsonl:1: column 'tgt_img_path': .*gone\.png is not there"):
        _v1(tmp_path, tgt_img_path=["a.png", "gone.png"])


# M-BEIR

QUERY = {
    "qid": "2:7",
    "query_txt": "why is it red",
    "query_img_path": None,
    "query_modality": "text",
    "query_src_content": None,
    "pos_cand_list": ["2:1", "2:2"],
    "neg_cand_list": [],
    "task_id": 2,
}
POOL = [
    {"did": "2:1", "txt": '"a red one', "img_path": "mbeir_images/a.jpg", "modality": "image,text"},
    {"did": "2:2", "txt": None, "img_path": "mbeir_images/a.jpg", "modality": "image"},
    {"did": "2:3", "txt": "Is it blue?\r ", "img_path": None, "modality": "text"},
]


def _m_beir(
    root: Path, name: str = "webqa_task2", *, pool: list[dict[str, object]] | None = None, **columns: object
) -> TaskData:
    write_picture(root / "image-tasks/mbeir_images/a.jpg", "red")
    spec = _task("m-beir", name)
    write_rows(spec, root, [QUERY | columns])
    write_pool(spec, root, POOL if pool is None else pool)
    return parse_task(spec, root)


def test_files_of_m_beir_lie_in_the_mirror_as_they_are_published(tmp_path: Path) -> None:
    for name in ("webqa_task2", "mscoco_task3"):
        write_fixture(_task("m-beir", name), tmp_path)
    mirror = tmp_path / "annotations"
    assert sorted(path.relative_to(mirror).as_posix() for path in mirror.rglob("*.jsonl")) == [
        "TIGER-Lab__M-BEIR/cand_pool/local/mbeir_mscoco_task3_test_cand_pool.jsonl",
        "TIGER-Lab__M-BEIR/cand_pool/local/mbeir_webqa_task2_cand_pool.jsonl",
        "TIGER-Lab__M-BEIR/query/test/mbeir_mscoco_task3_test.jsonl",
        "TIGER-Lab__M-BEIR/query/test/mbeir_webqa_task2_test.jsonl",
    ]


def test_m_beir_has_sentences_behind_instructions_and_the_whole_pool(tmp_path: Path) -> None:
    data = _m_beir(tmp_path)
    asked = "Find a Wikipedia image that answers this question."
    given = "Represent the given Wikipedia image with related text information:"
    picture = Image(tmp_path / "image-tasks/mbeir_images/a.jpg", exif=False)
    assert data.query_ids == ("2:7",)
    assert data.queries == (Item("why is it red.", (), asked, f"{asked} why is it red."),)
    assert data.candidate_names == ("2:1", "2:2", "2:3")
    assert tuple(data.candidates) == (
        Item("A red one.", (picture,), given, f"<|media|> {given} A red one."),
        Item("", (picture,), given, f"<|media|> {given}"),
        Item("Is it blue?", (), "", "Is it blue?"),
    )
    assert data.relevant == {"2:7": {"2:1": 1, "2:2": 1}}
    assert (data.pools, data.warnings) == (None, ())


@pytest.mark.parametrize(
    ("text", "query", "candidate"),
    [
        ("a dog", "a dog.", "A dog."),
        (' "a dog!" ', ' "a dog!', "A dog!"),
        ("A dog?\r\n", "A dog?", "A dog?"),
        ('say "no"', 'say "no.', 'Say "no.'),
        ("é", "é.", "É."),
    ],
)
def test_words_of_m_beir_become_sentences_as_uniir_writes_them(
    tmp_path: Path, text: str, query: str, candidate: str
) -> None:
    data = _m_beir(tmp_path, query_txt=text, pool=[{"did": "2:1", "txt": text, "img_path": None}])
    assert _strings(data.queries) == [f"Find a Wikipedia image that answers this question. {query}"]
    assert _strings(data.candidates) == [candidate]


@pytest.mark.parametrize(
    ("name", "columns", "verbatim"),
    [
        (
            "nights_task4",
            {"query_modality": "image", "query_txt": None, "query_img_path": "mbeir_images/a.jpg"},
            "<|media|> Find a day-to-day image that looks similar to the provided image.",
        ),
        (
            "fashioniq_task7",
            {"query_modality": "image,text", "query_txt": "longer.", "query_img_path": "mbeir_images/a.jpg"},
            "<|media|> Find a fashion image that aligns with the reference image and style note. longer.",
        ),
    ],
)
def test_a_query_of_m_beir_shows_its_picture_first(
    tmp_path: Path, name: str, columns: dict[str, object], verbatim: str
) -> None:
    assert _strings(_m_beir(tmp_path, name, **columns).queries) == [verbatim]


@pytest.mark.parametrize(
    ("labels", "problem"),
    [
        (["2:1", "5:9"], "a right candidate is not in the pool; it is never found"),
        (["5:9"], "no right candidate is in the pool, so that no answer is right"),
    ],
)
def test_a_label_that_the_pool_lacks_stays_a_label_and_is_counted(
    tmp_path: Path, labels: list[str], problem: str
) -> None:
    data = _m_beir(tmp_path, pos_cand_list=labels)
    assert data.relevant == {"2:7": dict.fromkeys(labels, 1)}
    assert _problems(data) == [("pos_cand_list", problem, 1)]


def test_a_limit_of_queries_leaves_the_pool_of_m_beir_whole(tmp_path: Path) -> None:
    spec = _task("m-beir", "cirr_task7")
    write_fixture(spec, tmp_path)
    data = parse_task(spec, tmp_path, limit=1)
    assert (data.query_ids, data.candidate_names) == (("9:0",), ("9:10", "9:11", "9:12"))


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"pos_cand_list": []}, "column 'pos_cand_list' is empty: it must name a right candidate"),
        ({"pos_cand_list": None}, "column 'pos_cand_list' holds None: it must be a list"),
        (
            {"query_modality": "image"},
            "column 'query_modality' is 'image': the task's instruction is for queries of 'text'",
        ),
        ({"query_txt": None}, "column 'query_txt' is empty: a query of 'text' must hold words"),
        ({"qid": None}, "column 'qid' holds None: it must be a text"),
    ],
)
def test_a_malformed_query_of_m_beir_is_named(tmp_path: Path, columns: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        _m_beir(tmp_path, **columns)
    rows = tmp_path / "annotations/TIGER-Lab__M-BEIR/query/test/mbeir_webqa_task2_test.jsonl"
    assert str(error.value) == f"webqa_task2: {rows}:1: {message}"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (POOL[0], "column 'did' is '2:1', as that of an earlier candidate: give every candidate an id of its own"),
        (
            {"did": "2:9", "txt": None, "img_path": None},
            "column 'txt' is empty, and no picture goes with it: a candidate must hold something",
        ),
        ({"did": "2:9", "img_path": None}, "column 'txt' is missing: the row has did, img_path"),
    ],
)
def test_a_malformed_candidate_of_m_beir_is_named(tmp_path: Path, row: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        _m_beir(tmp_path, pool=[POOL[0], row])
    rows = tmp_path / "annotations/TIGER-Lab__M-BEIR/cand_pool/local/mbeir_webqa_task2_cand_pool.jsonl"
    assert str(error.value) == f"webqa_task2: {rows}:2: {message}"


def test_missing_pictures_and_pools_of_m_beir_are_named(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=r"^webqa_task2: .*cand_pool\.jsonl:1: column 'img_path': .*gone\.jpg is not"):
        _m_beir(tmp_path, pool=[POOL[0] | {"img_path": "mbeir_images/gone.jpg"}])
    with pytest.raises(ConfigError, match=r"nights_task4: .*:1: column 'query_img_path' is empty: it must name a pict"):
        _m_beir(tmp_path, "nights_task4", query_modality="image")
    spec = _task("m-beir", "edis_task2")
    write_rows(spec, tmp_path, [QUERY])
    with pytest.raises(ConfigError, match=r"^TIGER-Lab/M-BEIR \(config cand_pool/local, split mbeir_edis_task2_cand"):
        parse_task(spec, tmp_path)


# Pictures and captions


def _captioned(root: Path, name: str, *rows: dict[str, object], limit: int | None = None) -> TaskData:
    spec = _task("retrieval", name)
    for file in ("a.jpg", "b.jpg", "val2014/a.jpg"):
        write_picture(root / spec.media_dir / file, "red")
    write_rows(spec, root, rows)
    return parse_task(spec, root, limit=limit)


FLICKR = ({"filename": "a.jpg", "caption": ["one", "two "]}, {"filename": "b.jpg", "caption": ["two ", "three"]})


def test_captions_seek_their_picture(tmp_path: Path) -> None:
    data = _captioned(tmp_path, "Flickr30K_t2i", *FLICKR)
    pictures = [Image(tmp_path / "image-tasks/flickr30k" / name, exif=False) for name in ("a.jpg", "b.jpg")]
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


def test_a_picture_of_conceptual_captions_has_one_caption(tmp_path: Path) -> None:
    row = {"filename": "a.jpg", "caption": "a sign", "image_url": "http://host/a"}
    assert _captioned(tmp_path, "CC_i2t", row).relevant == {"a.jpg": {"a sign": 1}}
    assert _strings(_captioned(tmp_path, "CC_t2i", row).queries) == ["a sign"]


def test_rows_of_the_hub_that_hold_the_picture_too_are_read(tmp_path: Path) -> None:
    spec = _task("retrieval", "Flickr30K_i2t")
    write_fixture(spec, tmp_path)
    (lines,) = (tmp_path / "annotations").rglob("test.jsonl")
    lines.unlink()
    kind = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    image = pyarrow.array([{"bytes": picture_bytes("red"), "path": "0.jpg"}], kind)
    table = pyarrow.table({"image": image, "caption": [["a", "b"]], "filename": ["0.jpg"], "split": ["test"]})
    pyarrow.parquet.write_table(table, lines.with_suffix(".parquet"))
    data = parse_task(spec, tmp_path)
    assert data.relevant == {"0.jpg": {"a": 1, "b": 1}}
    assert data.queries[0].media == (Image(tmp_path / "image-tasks/flickr30k/0.jpg", exif=False),)


def test_a_picture_that_has_two_rows_is_one(tmp_path: Path) -> None:
    row = {"filename": "a.jpg", "caption": ["one"]}
    assert _captioned(tmp_path, "Flickr30K_t2i", row, row).candidate_names == ("a.jpg",)
    data = _captioned(tmp_path, "Flickr30K_i2t", row, row)
    assert data.relevant == {"a.jpg": {"one": 1}, "a.jpg#1": {"one": 1}}
    assert _problems(data) == [("caption", "a query id occurs twice; the later one gets its number behind it", 1)]


@pytest.mark.parametrize(
    ("name", "row", "message"),
    [
        ("Flickr30K_t2i", {"filename": "a.jpg", "caption": None}, "column 'caption' holds None: it must be a list"),
        ("Flickr30K_t2i", {"filename": "a.jpg", "caption": [None]}, "column 'caption' holds None: it must be a text"),
        (
            "Flickr30K_i2t",
            {"filename": "a.jpg", "caption": []},
            "column 'caption' is empty or holds an empty caption: a picture must have captions",
        ),
        (
            "CC_t2i",
            {"filename": "a.jpg", "caption": " "},
            "column 'caption' is empty or holds an empty caption: a picture must have captions",
        ),
        ("CC_i2t", {"image_url": "u", "caption": "x"}, "column 'filename' is missing: the row has image_url, caption"),
        ("Flickr30K_i2t", {"filename": "", "caption": ["x"]}, "column 'filename' is empty: it must name a picture"),
        (
            "COCO-5K_t2i",
            {"filepath": "val2014", "filename": "a.jpg", "sentences": [{"tokens": []}]},
            "column 'raw' is missing: the row has tokens",
        ),
    ],
)
def test_a_malformed_row_of_captions_is_named(tmp_path: Path, name: str, row: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        _captioned(tmp_path, name, row)
    assert str(error.value).startswith(f"{name}: ")
    assert str(error.value).endswith(f".jsonl:1: {message}")


def test_a_missing_picture_of_a_caption_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        MediaError, match=r"^COCO-5K_i2t: .*test\.jsonl:1: column 'filename': .*coco/val2014/gone\.jpg is"
    ):
        _captioned(tmp_path, "COCO-5K_i2t", {"filepath": "val2014", "filename": "gone.jpg", "sentences": ["x"]})
