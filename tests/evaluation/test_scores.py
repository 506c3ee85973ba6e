"""The averages that the published score files amount to, and what a score file must hold."""

from __future__ import annotations

import json
import math
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from support.places import DATA
from vlm2vec.errors import ConfigError, DataError, StorageError
from vlm2vec.evaluation.rendering import as_markdown
from vlm2vec.evaluation.report import VERSIONS, Entry, build_report, published_entries
from vlm2vec.evaluation.scores import ModelScores, read_scores, write_scores
from vlm2vec.tasks.registry import get_tasks, packaged_root
from vlm2vec.vectors.metrics import METRICS

GOLDEN = DATA / "golden"
# As the golden files call them, and as we do; the last is v2.1 with two datasets of v2.0.1.
EDITIONS: list[tuple[str, str | None]] = [
    ("v2.0.0", "v2.0.0"),
    ("v2.0.1", "v2.0.1"),
    ("v2.1-baselines-visdoc-page-fixed", "v2.1"),
    ("v2.1 with the two -doc sets of v2.0.1", None),
]


@cache
def _published(version: str | None) -> list[ModelScores]:
    """The eight models; of no version the newest, made whole."""
    return [entry.scores for entry in published_entries("published" if version is None else f"published:{version}")]


def _document(**changed: object) -> dict[str, Any]:
    """A score file of one dataset."""
    values = dict.fromkeys(METRICS, 0.5) | {"num_pred": 4, "num_data": 4} | changed
    return {
        "metadata": {"model_name": "m", "report_generated_date": "2026-01-02T03:04:05"},
        "metrics": {"image": {"N24News": values}},
    }


# The eight models


@pytest.mark.parametrize(("name", "version"), EDITIONS)
def test_every_average_of_the_eight_models_is_the_published_one(name: str, version: str | None) -> None:
    expected = json.loads((GOLDEN / "published_aggregates.json").read_text("utf-8"))[name]
    got = {}
    for scores in _published(version):
        found = scores.means(get_tasks())
        got[scores.model] = {"n": found["overall"].found} | {
            name: round(mean.score, 4) for name, mean in found.items() if mean.score is not None
        }
    assert len(got) == 8
    assert got == expected


@pytest.mark.parametrize(("place", "version"), list(enumerate(version for _, version in EDITIONS)))
def test_the_report_prints_the_published_table(place: int, version: str | None) -> None:
    tables = [part.splitlines() for part in (GOLDEN / "published_tables.md").read_text("utf-8").split("\n\n")]
    expected = [table for table in tables if table[0].startswith("| model |")][place]
    report = build_report([Entry(scores, "published") for scores in _published(version)])
    got = as_markdown(report).split("\n\n")[2].replace("*", "").splitlines()
    # The published rows stand in another order.
    assert (got[:2], sorted(got[2:])) == (expected[:2], sorted(expected[2:]))


def test_the_lists_have_their_fixed_sizes() -> None:
    tasks = get_tasks()
    assert Counter(task.modality for task in tasks) == {"image": 36, "video": 18, "visdoc": 24}
    sizes = Counter(task.group for task in tasks)
    assert sizes == {
        "I-CLS": 10,
        "I-QA": 10,
        "I-RET": 12,
        "I-VG": 4,
        "V-CLS": 5,
        "V-QA": 5,
        "V-RET": 5,
        "V-MR": 3,
        "VD-Vidore-V1": 10,
        "VD-Vidore-V2": 4,
        "VD-VisRAG": 6,
        "VD-OOD": 4,
    }
    found = ModelScores.of_document(_document(), "x").means(tasks)
    assert list(found) == ["overall", "image", "video", "visdoc", *sizes]


def test_what_is_missing_is_named_with_every_mean_that_lacks_it() -> None:
    for scores in _published("v2.1"):
        lacking = {name: mean.missing for name, mean in scores.means(get_tasks()).items() if mean.missing}
        assert lacking == dict.fromkeys(("overall", "visdoc", "VD-OOD"), ("ViDoSeek-doc", "MMLongBench-doc"))


def test_a_mean_of_nothing_is_none() -> None:
    found = ModelScores.of_document(_document(), "x").means(get_tasks())
    assert (found["overall"].score, found["I-CLS"].score, found["video"].score) == (50, 50, None)
    assert (found["I-CLS"].found, found["I-QA"].found, len(found["overall"].missing)) == (1, 0, 77)


def test_a_control_counts_for_no_mean() -> None:
    tasks = get_tasks("mmeb-mini")
    root = packaged_root("mmeb-mini")
    assert root is not None
    scores = read_scores(root / "baselines" / "untrained.json")
    found = scores.means(tasks)
    assert found == scores.means([task for task in tasks if not task.control])
    assert (len(tasks), found["overall"].found) == (24, 23)


def test_grades_make_a_difference_on_exactly_three_datasets() -> None:
    graded = {
        name
        for version in VERSIONS
        for scores in _published(version)
        for datasets in scores.datasets.values()
        for name, one in datasets.items()
        if one.metrics["ndcg_linear@10"] != pytest.approx(one.metrics["ndcg_exponential@10"], abs=1e-9)
    }
    assert graded == {"ViDoRe_esg_reports_human_labeled_v2", "ViDoSeek-doc", "MMLongBench-doc"}


def test_an_unknown_published_version_is_refused() -> None:
    with pytest.raises(ConfigError, match="nothing named 'published:v3' to compare with; there are published, publis"):
        _published("v3")


# Score files


@pytest.mark.parametrize("version", VERSIONS)
def test_published_files_are_read_and_written_whole(version: str, tmp_path: Path) -> None:
    for scores in _published(version):
        path = tmp_path / "new" / f"{scores.model}.json"
        write_scores(path, scores)
        assert read_scores(path) == scores


def test_a_written_file_has_the_published_form(tmp_path: Path) -> None:
    write_scores(tmp_path / "s.json", ModelScores.of_document(_document(), "x"))
    assert json.loads((tmp_path / "s.json").read_text("utf-8")) == _document()
    assert list(_document()["metrics"]["image"]["N24News"])[:4] == ["hit@1", "hit@5", "hit@10", "ndcg_linear@1"]


def test_the_benchmark_is_named_where_it_is_not_mmeb_v2() -> None:
    document = _document()
    document["metadata"]["benchmark"] = "mmeb-mini"
    scores = ModelScores.of_document(document, "x")
    assert (scores.benchmark, scores.as_document()) == ("mmeb-mini", document)


MARKS = ("FILE_N/A", "DIR_N/A", "JSON_ERROR", "READ_ERROR")


def _scripted(**visdoc: object) -> dict[str, Any]:
    """A file as the publication's newest script writes it: every dataset of its lists stands there."""
    document = _document()
    document["metadata"] |= {"model_backbone": "b", "model_size": 2.2, "data_source": "Self-Reported", "url": None}
    document["metrics"] |= {"visdoc": visdoc, "video": {"MVBench": "DIR_N/A", "MSVD": "DIR_N/A"}}
    return document


def _values(share: float) -> dict[str, float]:
    return dict.fromkeys(METRICS, share) | {"num_pred": 4, "num_data": 4}


@pytest.mark.parametrize(
    ("visdoc", "expected"),
    [
        *(({"ViDoSeek-doc": mark, "ViDoRe_arxivqa": _values(0.5)}, {"ViDoRe_arxivqa": 0.5}) for mark in MARKS),
        ({"ViDoSeek-page-fixed": _values(0.5)}, {"ViDoSeek-page": 0.5}),
        ({"MMLongBench-page-fixed": _values(0.5)}, {"MMLongBench-page": 0.5}),
        ({"MMLongBench-page": _values(0.5)}, {"MMLongBench-page": 0.5}),
        ({"ViDoSeek-page": "FILE_N/A", "ViDoSeek-page-fixed": _values(0.5)}, {"ViDoSeek-page": 0.5}),
        ({"ViDoSeek-page-fixed": _values(0.5), "ViDoSeek-page": "FILE_N/A"}, {"ViDoSeek-page": 0.5}),
        ({"ViDoSeek-page-fixed": "FILE_N/A", "ViDoSeek-page": _values(0.5)}, {"ViDoSeek-page": 0.5}),
        (
            {"ViDoSeek-page": _values(0.25), "ViDoSeek-page-fixed": _values(0.5)},
            {"ViDoSeek-page (labels before the fix)": 0.25, "ViDoSeek-page": 0.5},
        ),
        ({"ViDoSeek-doc-fixed": _values(0.5)}, {"ViDoSeek-doc-fixed": 0.5}),
    ],
)
def test_files_of_the_newest_published_script_are_read(visdoc: dict[str, object], expected: dict[str, float]) -> None:
    scores = ModelScores.of_document(_scripted(**visdoc), "x")
    assert {name: one.metrics["hit@1"] for name, one in scores.datasets["visdoc"].items()} == expected
    assert scores.datasets["video"] == {}
    # Once more, as it is written here.
    assert ModelScores.of_document(scores.as_document(), "x") == scores


def test_a_file_of_no_scores_at_all_is_none() -> None:
    document = _scripted(GQA="FILE_N/A")
    document["metrics"]["image"] = {"N24News": "READ_ERROR"}
    assert _problems(document) == ["metrics holds no dataset with scores"]
    document["metrics"]["image"] = {"N24News": "n/a"}
    assert _problems(document) == ["metrics.image.N24News is not an object"]


def test_names_of_other_benchmarks_stay_as_they_are() -> None:
    document = _scripted(**{"ViDoSeek-page-fixed": _values(0.5)})
    document["metadata"]["benchmark"] = "mine"
    assert list(ModelScores.of_document(document, "x").datasets["visdoc"]) == ["ViDoSeek-page-fixed"]


def test_dropped_frames_are_kept_by_dataset() -> None:
    document = _document()
    document["metadata"]["dropped_frames"] = {"N24News": 3}
    scores = ModelScores.of_document(document, "x")
    assert scores.datasets["image"]["N24News"].dropped_frames == 3
    assert scores.as_document() == document
    for wrong in ({"N24News": 0}, {"N24News": True}, {"N24News": "1"}, [1], 3):
        document["metadata"]["dropped_frames"] = wrong
        assert all(one.startswith("metadata.dropped_frames") for one in _problems(document))


def _problems(document: object) -> list[str]:
    """What is said of a document that is no score file."""
    with pytest.raises(DataError) as told:
        ModelScores.of_document(document, "x")
    return str(told.value).removeprefix("x is no score file: ").split("; ")


def _without(key: str) -> dict[str, Any]:
    document = _document()
    del document["metrics"]["image"]["N24News"][key]
    return document


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ([], ["it is not an object"]),
        ({}, ["metadata is missing", "metrics is missing"]),
        (
            {"metadata": {"model_name": ""}, "metrics": {}},
            [
                "metadata.model_name is '': value should have at least 1 item after validation, not 0",
                "metadata.report_generated_date is missing",
            ],
        ),
        (_document() | {"metrics": {}}, ["metrics holds no dataset with scores"]),
        (_without("map@5"), ["metrics.image.N24News: map@5 missing"]),
        (_without("num_data"), ["metrics.image.N24News.num_data is missing"]),
        (
            _document(**{"hit@5": 50.0}),
            ["metrics.image.N24News.hit@5 is 50.0: not a number from 0 to 1"],
        ),
        (_document(**{"f1@1": math.nan}), ["metrics.image.N24News.f1@1 is NaN: not a number from 0 to 1"]),
        (_document(**{"f1@1": None}), ["metrics.image.N24News.f1@1 is null: input should be a valid number"]),
        (_document(**{"f1@1": True}), ["metrics.image.N24News.f1@1 is true: input should be a valid number"]),
        (_document(num_data=0), ["metrics.image.N24News.num_data is 0: input should be greater than 0"]),
        (
            _document(num_pred=3),
            ["metrics.image.N24News: num_pred is 3 but num_data is 4", "queries have no prediction"],
        ),
    ],
)
def test_the_validator_names_what_is_missing_or_out_of_range(document: object, expected: list[str]) -> None:
    assert _problems(document) == expected


def test_the_validator_knows_modalities_and_shapes() -> None:
    document = _document()
    document["metrics"] |= {"audio": {"x": {}}, "video": 3, "visdoc": {"y": 1}}
    document["metadata"]["benchmark"] = 7
    assert _problems(document) == [
        "metadata.benchmark is 7: input should be a valid string",
        "metrics.audio.[key] is 'audio': input should be 'image', 'video' or 'visdoc'",
        f"metrics.audio.x: {', '.join(METRICS)} missing",
        "metrics.video is not an object",
        "metrics.visdoc.y is not an object",
    ]


def test_a_mean_of_ones_may_be_rounded_up() -> None:
    assert (
        ModelScores.of_document(_document(**{"hit@5": 1.0000000000000002}), "x")
        .datasets["image"]["N24News"]
        .num_queries
        == 4
    )


def test_a_share_may_be_a_whole_number_and_more_may_stand_beside() -> None:
    scores = ModelScores.of_document(_document(**{"hit@5": 1, "latency": "fast"}), "x")
    assert scores.datasets["image"]["N24News"].metrics["hit@5"] == 1.0


def test_a_bad_file_is_named_with_its_first_problems(tmp_path: Path) -> None:
    document = _document()
    document["metrics"]["image"] = {f"d{number}": {} for number in range(7)}
    (tmp_path / "s.json").write_text(json.dumps(document))
    with pytest.raises(DataError, match=r"s\.json is no score file: metrics\.image\.d0: hit@1, .*; and 2 more"):
        read_scores(tmp_path / "s.json")


def test_what_is_no_json_is_refused(tmp_path: Path) -> None:
    (tmp_path / "s.json").write_bytes(b"\xff")
    with pytest.raises(DataError, match=r"s\.json is no score file: not JSON in UTF-8"):
        read_scores(tmp_path / "s.json")
    with pytest.raises(DataError, match=r"cannot read .*absent\.json: no such file"):
        read_scores(tmp_path / "absent.json")


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match=r"cannot write .*file/s\.json"):
        write_scores(tmp_path / "file" / "s.json", ModelScores.of_document(_document(), "x"))
