"""The tables of benchmarks before MMEB-V2, and a miniature of every task in them."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.task_fixtures import write_fixture
from vlm2vec.items import MEDIA_MARKER
from vlm2vec.model.prompts import prompt_style
from vlm2vec.tasks.data import TaskSpec
from vlm2vec.tasks.registry import get_tasks, parse_task

BENCHMARKS = ("mmeb-v1", "m-beir", "retrieval")


def _task(benchmark: str, name: str) -> TaskSpec:
    return get_tasks(benchmark, names=[name])[0]


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
    flickr = ("nlphuji/flickr_1k_test_image_text_retrieval", None, "test")
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
