"""Benchmark tasks: the table of MMEB-V2, the published strings of 13 tasks, and a miniature of all 78."""

from __future__ import annotations

import io
import json
from pathlib import Path

import PIL.Image
import pytest

from support.places import DATA
from support.task_fixtures import write_corpus, write_fixture, write_rows
from vlm2vec.errors import ConfigError
from vlm2vec.items import MEDIA_MARKER, Item, Video
from vlm2vec.model.prompts import prompt_style
from vlm2vec.tasks.data import TaskData, TaskSpec
from vlm2vec.tasks.registry import get_tasks, parse_task
from vlm2vec.tasks.video import _ChoiceParser

GOLDEN = DATA / "golden"
PARSERS = GOLDEN / "parsers"
MEDIA = PARSERS / "media"
GROUPS = {
    "I-CLS": 10, "I-QA": 10, "I-RET": 12, "I-VG": 4, "V-CLS": 5, "V-QA": 5, "V-RET": 5, "V-MR": 3,
    "VD-Vidore-V1": 10, "VD-Vidore-V2": 4, "VD-VisRAG": 6, "VD-OOD": 4,
}  # fmt: skip


def task(name: str) -> TaskSpec:
    (spec,) = get_tasks(names=[name])
    return spec


# The table


def test_the_table_has_the_78_tasks_of_the_publication_in_its_order() -> None:
    facts = json.loads((GOLDEN / "mmeb_v2_tasks.json").read_text("utf-8"))
    tasks = get_tasks()
    assert [[s.name, s.modality, s.group, s.metric, s.pool, *s.source] for s in tasks] == facts
    assert len(tasks) == 78
    assert {group: len(get_tasks(group=group)) for group in GROUPS} == GROUPS
    assert [len(get_tasks(modality=modality)) for modality in ("image", "video", "visdoc")] == [36, 18, 24]


def test_names_modality_and_group_select_together_in_the_order_of_the_table() -> None:
    assert [s.name for s in get_tasks(names=["MSVD", "CIRR", "K700"], modality="video")] == ["K700", "MSVD"]
    assert [s.name for s in get_tasks(modality="video", group="V-MR")] == [
        "QVHighlight",
        "Charades-STA",
        "MomentSeeker",
    ]


_UNKNOWN = "no task of mmeb-v2 is named '{}'{}get_tasks('mmeb-v2') lists all"


@pytest.mark.parametrize(
    ("selection", "message"),
    [
        ({"names": ["ImageNet"]}, _UNKNOWN.format("ImageNet", "; did you mean 'ImageNet-1K'? ")),
        ({"names": ["msrvtt"]}, _UNKNOWN.format("msrvtt", "; did you mean 'MSR-VTT'? ")),
        ({"names": ["zzz"]}, _UNKNOWN.format("zzz", "; ")),
        ({"modality": "vide"}, "no modality named 'vide'; did you mean 'video'? there are: image, video, visdoc"),
        (
            {"benchmark": "mmeb"},
            "no benchmark named 'mmeb'; did you mean 'mmeb-v2'? there are: mmeb-v2, mmeb-v1, mmeb-mini, m-beir, "
            "retrieval",
        ),
        (
            {"names": ["CIRR"], "group": "I-VG"},
            "no task of mmeb-v2 fits names, modality and group together; leave one of them out",
        ),
    ],
)
def test_an_unknown_name_is_an_error_with_a_suggestion(selection: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        get_tasks(**selection)  # type: ignore[arg-type]
    assert str(error.value) == message


def test_tasks_whose_name_differs_from_their_data_set_read_the_right_one() -> None:
    assert task("K700").source.dataset == "VLM2Vec/Kinetics-700"
    assert task("YouCook2").source == ("lmms-lab/YouCook2", None, "val")
    assert task("ViDoSeek-page").source.dataset == "VLM2Vec/ViDoSeek-page-fixed"
    # All languages: the subsets in English are not among the 78.
    assert task("ViDoRe_esg_reports_v2_multilingual").source.dataset == "vidore/esg_reports_v2"
    assert task("SmthSmthV2").max_rows == 1000
    assert task("Charades-STA").media_dir == "video-tasks/frames/video_mret/Charades_STA"


# The published parsers


def _golden_root(tmp_path: Path, case: dict[str, object], spec: TaskSpec) -> Path:
    for folder in ("image-tasks", "video-tasks"):
        (tmp_path / folder).symlink_to(MEDIA / folder)
    if spec.modality == "visdoc":
        write_rows(spec, tmp_path, case["query_rows"], "queries")  # type: ignore[arg-type]
        write_rows(spec, tmp_path, case["qrel_rows"], "qrels")  # type: ignore[arg-type]
        pages = [(row["corpus-id"], (MEDIA / row["image"]).read_bytes()) for row in case["corpus_rows"]]  # type: ignore[attr-defined]
        write_corpus(spec, tmp_path, pages)
    elif isinstance(spec.parser, _ChoiceParser) and spec.parser.configs:
        for config in spec.parser.configs:
            rows = [row for row in case["rows"] if row["subset"] == config]  # type: ignore[attr-defined]
            write_rows(spec, tmp_path, rows, config)
    else:
        write_rows(spec, tmp_path, case["rows"])  # type: ignore[arg-type]
    return tmp_path


def _published(item: Item) -> str:
    """The string with the published visual token."""
    token = "<|video_pad|>" if item.media and isinstance(item.media[0], Video) else "<|image_pad|>"
    assert not item.verbatim or prompt_style("vlm2vec").compose(item) == item.verbatim
    assert item.verbatim is not None
    return item.verbatim.replace(MEDIA_MARKER, token)


def _files(item: Item, root: Path) -> list[str] | None:
    """Paths of an item's picture or frames, relative to the data root."""
    if not item.media:
        return None
    (medium,) = item.media
    assert medium.as_stored
    sources = medium.source if isinstance(medium, Video) else (medium.source,)
    return [source.relative_to(root).as_posix() for source in sources]  # type: ignore[union-attr]


CASES = sorted(f"{path.parent.name}/{path.stem}" for path in PARSERS.glob("[iv][mi][ads]*/*.json"))


def test_thirteen_published_cases_are_there() -> None:
    assert len(CASES) == 13


@pytest.mark.parametrize("name", CASES)
def test_a_task_becomes_what_the_published_parser_makes_of_it(tmp_path: Path, name: str) -> None:
    case = json.loads((PARSERS / f"{name}.json").read_text("utf-8"))
    spec = task(case["name"])
    calls = {tuple(call) for call in case["hf_calls"]}
    configs = spec.parser.configs if isinstance(spec.parser, _ChoiceParser) else ()
    if spec.modality == "visdoc":
        configs = ("queries", "corpus", "qrels")
    dataset, config, split = spec.source
    assert calls == {(dataset, one, split) for one in configs} or calls == {
        (dataset, *([config] * bool(config)), split)
    }
    assert spec.pool == case["eval_type"]
    root = _golden_root(tmp_path, case, spec)
    data = parse_task(spec, root)

    expected = [(query["query_text"][0], (query["query_media"] or [None])[0]) for query in case["queries"]]
    assert [(_published(query), _files(query, root)) for query in data.queries] == expected
    infos = [query["infos"] for query in case["queries"]]
    labels = [info["label_name"] if isinstance(info["label_name"], list) else [info["label_name"]] for info in infos]
    grades = [info.get("rel_scores", [1]) for info in infos]
    assert [list(data.relevant[query].items()) for query in data.query_ids] == [
        [(str(label), grade) for label, grade in zip(*both, strict=True)] for both in zip(labels, grades, strict=True)
    ]
    if spec.pool == "local":
        assert data.pools == tuple(tuple(info["cand_names"]) for info in infos)
    else:
        assert data.pools is None
    assert data.candidate_names == tuple(str(entry[0]) for entry in case["candidates"])
    assert [_published(item) for item in data.candidates] == [entry[1] for entry in case["candidates"]]
    if spec.modality != "visdoc":
        assert [_files(item, root) for item in data.candidates] == [entry[2] for entry in case["candidates"]]
        return
    pages = {str(row["corpus-id"]): row["image"] for row in reversed(case["corpus_rows"])}
    for item, (page, _, (saved,)) in zip(data.candidates, case["candidates"], strict=True):
        fact = case["saved_images"][saved]
        with PIL.Image.open(io.BytesIO(item.media[0].source)) as picture:  # type: ignore[arg-type]
            assert (picture.format, picture.mode, list(picture.size)) == (fact["format"], fact["mode"], fact["size"])
            assert picture.tobytes() == _saved(MEDIA / pages[str(page)], fact["format"])


def _saved(path: Path, form: str) -> bytes:
    """The pixels of a picture that Pillow saved in a format."""
    buffer = io.BytesIO()
    with PIL.Image.open(path) as picture:
        picture.save(buffer, form)
    with PIL.Image.open(buffer) as picture:
        return picture.tobytes()


def _warned(data: TaskData) -> dict[tuple[str, str], int]:
    return {(warning.column, warning.problem): warning.count for warning in data.warnings}


@pytest.mark.parametrize(
    ("name", "warnings"),
    [
        (
            "image/ImageNet-1K",
            {
                ("tgt_text", "a candidate is listed twice; as a label it counts once"): 1,
                ("tgt_text", "a candidate is empty; it ranks last"): 1,
            },
        ),
        (
            "image/MSCOCO_t2i",
            {
                ("qry_inst", "<|image_1|> stands in a query without picture; it stays text"): 1,
                ("tgt_img_path", "a candidate is listed twice; as a label it counts once"): 2,
                ("tgt_img_path", "two candidates of one name differ; the first one is taken"): 8,
            },
        ),
        (
            "video/SmthSmthV2",
            {
                ("neg_text", "the label is not among the candidates, so that no answer is right"): 1,
                ("neg_text", "a candidate is listed twice; as a label it counts once"): 1,
            },
        ),
        ("video/HMDB51", {("pos_text", "the label is not on the list HMDB51; it becomes a candidate"): 1}),
        (
            "video/MVBench",
            {
                ("candidates", "the label is not among the candidates, so that no answer is right"): 2,
                ("candidates", "several candidates equal the answer; the last one is right"): 1,
            },
        ),
        (
            "video/QVHighlight",
            {("video_path", "several folders begin with 'positive'; the last one by name is right"): 1},
        ),
        ("visdoc/ViDoRe_docvqa", {("corpus-id", "a page occurs twice; the first one is taken"): 1}),
        ("video/MSR-VTT", {}),
    ],
)
def test_oddities_that_are_read_as_published_are_counted(
    tmp_path: Path, name: str, warnings: dict[tuple[str, str], int]
) -> None:
    case = json.loads((PARSERS / f"{name}.json").read_text("utf-8"))
    spec = task(case["name"])
    assert _warned(parse_task(spec, _golden_root(tmp_path, case, spec))) == warnings


def test_a_warning_names_task_column_and_row(tmp_path: Path) -> None:
    case = json.loads((PARSERS / "video/SmthSmthV2.json").read_text("utf-8"))
    first, _ = parse_task(task("SmthSmthV2"), _golden_root(tmp_path, case, task("SmthSmthV2"))).warnings
    rows = tmp_path / "annotations/VLM2Vec__SmthSmthV2/default/test.jsonl"
    assert str(first) == (
        "SmthSmthV2: the label is not among the candidates, so that no answer is right "
        f"(column 'neg_text', 1 times, first in {rows}:2)"
    )


# A miniature of every task


@pytest.mark.parametrize("name", [spec.name for spec in get_tasks()])
def test_a_miniature_in_the_real_schema_parses(tmp_path: Path, name: str) -> None:
    spec = task(name)
    write_fixture(spec, tmp_path)
    data = parse_task(spec, tmp_path)
    assert len(data.queries) == len(data.query_ids) == len(data.relevant) >= 2
    assert len(data.candidates) == len(data.candidate_names) == len(set(data.candidate_names)) >= 2
    assert data.warnings == ()
    for query in data.query_ids:
        assert data.relevant[query].keys() <= set(data.candidate_names)
    assert (data.pools is None) == (spec.pool == "global")
    style = prompt_style("vlm2vec")
    strings = [style.compose(item) for item in (*data.queries, *data.candidates)]
    assert all(strings)
    other = prompt_style("qwen2-vl")
    for item in (*data.queries, *data.candidates):
        assert item.instruction is not None
        # Styles that place media themselves need no marker in the parts.
        assert MEDIA_MARKER not in item.text + item.instruction
        assert other.compose(item, item.instruction).count(MEDIA_MARKER) == len(item.media)
