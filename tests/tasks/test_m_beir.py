"""Queries and pools of M-BEIR: what they become, and which are odd or refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from support.task_fixtures import write_fixture, write_picture, write_pool, write_rows
from vlm2vec.errors import DataError, MediaError
from vlm2vec.items import Image, Item
from vlm2vec.tasks.data import TaskData, TaskSpec
from vlm2vec.tasks.registry import get_tasks, parse_task


def _task(benchmark: str, name: str) -> TaskSpec:
    return get_tasks(benchmark, names=[name])[0]


def _problems(data: TaskData) -> list[tuple[str, str, int]]:
    return [(warning.column, warning.problem, warning.count) for warning in data.warnings]


def _strings(items: object) -> list[str | None]:
    assert isinstance(items, (tuple, list))
    return [item.verbatim for item in items if isinstance(item, Item)]


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
POOL: list[dict[str, object]] = [
    {"did": "2:1", "txt": '"a red one', "img_path": "mbeir_images/a.jpg", "modality": "image,text"},
    {"did": "2:2", "txt": None, "img_path": "mbeir_images/a.jpg", "modality": "image"},
    {"did": "2:3", "txt": "Is it blue?\r ", "img_path": None, "modality": "text"},
]


def _m_beir(
    root: Path,
    name: str = "webqa_task2",
    columns: Mapping[str, object] = {},
    pool: Sequence[Mapping[str, object]] = POOL,
) -> TaskData:
    write_picture(root / "image-tasks/mbeir_images/a.jpg", "red")
    spec = _task("m-beir", name)
    write_rows(spec, root, [{**QUERY, **columns}])
    write_pool(spec, root, pool)
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
    picture = Image(tmp_path / "image-tasks/mbeir_images/a.jpg", as_stored=True)
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
    data = _m_beir(tmp_path, columns={"query_txt": text}, pool=[{"did": "2:1", "txt": text, "img_path": None}])
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
    assert _strings(_m_beir(tmp_path, name, columns).queries) == [verbatim]


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
    data = _m_beir(tmp_path, columns={"pos_cand_list": labels})
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
    with pytest.raises(DataError) as error:
        _m_beir(tmp_path, columns=columns)
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
    with pytest.raises(DataError) as error:
        _m_beir(tmp_path, pool=[POOL[0], row])
    rows = tmp_path / "annotations/TIGER-Lab__M-BEIR/cand_pool/local/mbeir_webqa_task2_cand_pool.jsonl"
    assert str(error.value) == f"webqa_task2: {rows}:2: {message}"


def test_missing_pictures_and_pools_of_m_beir_are_named(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=r"^webqa_task2: .*cand_pool\.jsonl:1: column 'img_path': .*gone\.jpg is not"):
        _m_beir(tmp_path, pool=[POOL[0] | {"img_path": "mbeir_images/gone.jpg"}])
    with pytest.raises(DataError, match=r"nights_task4: .*:1: column 'query_img_path' is empty: it must name a pict"):
        _m_beir(tmp_path, "nights_task4", {"query_modality": "image"})
    spec = _task("m-beir", "edis_task2")
    write_rows(spec, tmp_path, [QUERY])
    with pytest.raises(DataError, match=r"^TIGER-Lab/M-BEIR \(config cand_pool/local, split mbeir_edis_task2_cand"):
        parse_task(spec, tmp_path)
