"""Mixes of training sources: the packaged ones, published YAML files, and mistakes in them named."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest
import yaml

from support.source_files import video_row, write_frames
from support.train_files import write_rows
from vlm2vec.errors import ConfigError
from vlm2vec.items import Video
from vlm2vec.sources.config import read_sources
from vlm2vec.sources.forms import SourceConfig, parse_source


def _of(parser: str, **fields: object) -> SourceConfig:
    return parse_source("s", {"parser": parser, **fields})


def test_the_packaged_mixes_are_the_published_ones(tmp_path: Path) -> None:
    mixes = {name: read_sources(name, tmp_path, Path()) for name in _PUBLISHED_FILES}
    weights = {name: [source.weight for source in mix.values()] for name, mix in mixes.items()}
    assert {name: (len(each), sum(each)) for name, each in weights.items()} == {  # type: ignore[arg-type]
        "vlm2vec-v2": (25, 52),
        "vlm2vec-v2-image": (20, 20),
        "vlm2vec-v2-video": (3, 15),
        "vlm2vec-v2-visdoc": (5, 25),
    }
    mix = mixes["vlm2vec-v2"]
    # Probabilities of the published table, as it prints them.
    shares = {name: round(source.weight / 52, 6) for name, source in mix.items()}  # type: ignore[operator]
    assert (shares["ImageNet_1K"], shares["colpali_train_set"]) == (0.019231, 0.192308)
    assert (shares["visrag-indomain"], shares["video_qa_240k"]) == (0.230769, 0.096154)
    half = {name for name, share in shares.items() if share == 0.009615}
    assert half == {
        *("HatefulMemes", "VOC2007", "SUN397", "OK-VQA", "A-OKVQA"),
        *("InfographicsVQA", "ChartQA", "CIRR", "NIGHTS", "WebQA"),
    }
    assert sum(source.max_rows or 0 for source in mix.values()) == 1_103_000
    parsers = {name: source.model_dump()["parser"] for name, source in mix.items()}
    assert Counter(parsers.values()) == {
        "mmeb": 20,
        "vidore": 1,
        "visrag": 1,
        "llavahound_caption": 2,
        "llavahound_qa": 1,
    }
    assert all(source.config == name for name, source in mix.items() if parsers[name] == "mmeb")
    colpali, visrag = (mix[name].model_dump() for name in ("colpali_train_set", "visrag-indomain"))
    assert (colpali["query_to_page"], visrag["placeholder_first"]) == (False, False)
    base = tmp_path / "vlm2vec_train"
    hound = base / "train_video_and_instruction"
    assert mix["CIRR"] == _of(
        "mmeb",
        weight=0.5,
        dataset="TIGER-Lab/MMEB-train",
        config="CIRR",
        split="original",
        image_dir=base / "MMEB-train" / "image",
        max_rows=30_000,
    )
    assert mix["video_caption_300k-video"] == _of(
        "llavahound_caption",
        weight=5,
        annotation_file=hound / "video_instruction" / "train" / "sft" / "video_caption_300k.jsonl",
        frame_dir=hound / "train_300k",
        num_frames=8,
        mode="video_retrieval",
    )


def test_a_published_yaml_file_is_read_as_it_is(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    image = {"dataset_parser": "mmeb", "dataset_name": "TIGER-Lab/MMEB-train", "subset_name": "CIRR", "weight": 0.5}
    image |= {"image_dir": "pics", "num_sample_per_subset": 7}
    video: dict[str, object] = {
        "dataset_parser": "llavahound_caption",
        "dataset_path": "a.jsonl",
        "video_frame_basedir": "frames",
    }
    video |= {"weight": 5, "num_frames": 4, "num_rows": 300_000, "data_mode": "video_retrieval"}
    page = {"dataset_parser": "visrag", "dataset_name": "openbmb/V", "global_dataset_name": "V", "weight": 12}
    (tmp_path / "mix.yaml").write_text(yaml.safe_dump({"CIRR": image, "video": video, "page": page}))
    root = tmp_path / "root"
    sources = read_sources("mix.yaml", root, tmp_path)
    assert caplog.messages == [f"{tmp_path}/mix.yaml: num_rows of video has no effect, as published"]
    assert sources == {
        "CIRR": _of(
            "mmeb",
            weight=0.5,
            dataset="TIGER-Lab/MMEB-train",
            config="CIRR",
            split="original",
            image_dir=root / "pics",
            max_rows=7,
        ),
        "video": _of(
            "llavahound_caption",
            weight=5,
            annotation_file=root / "a.jsonl",
            frame_dir=root / "frames",
            num_frames=4,
            mode="video_retrieval",
        ),
        "page": _of("visrag", weight=12, dataset="openbmb/V"),
    }
    write_rows(root / "a.jsonl", [video_row("v", "<video>", "A dog.")])
    write_frames(root / "frames" / "v", ["0.png"])
    (pair,) = sources["video"].open("video", root)
    assert pair.positive.media == (Video((root / "frames" / "v" / "0.png",), as_stored=True),)


_IMAGE_SETS = {
    "ImageNet_1K": (100_000, 1),
    "N24News": (50_000, 1),
    "HatefulMemes": (10_000, 0.5),
    "VOC2007": (10_000, 0.5),
    "SUN397": (20_000, 0.5),
    "OK-VQA": (10_000, 0.5),
    "A-OKVQA": (20_000, 0.5),
    "DocVQA": (40_000, 1),
    "InfographicsVQA": (25_000, 0.5),
    "ChartQA": (28_000, 0.5),
    "Visual7W": (70_000, 1),
    "VisDial": (130_000, 1),
    "CIRR": (30_000, 0.5),
    "VisualNews_t2i": (100_000, 1),
    "VisualNews_i2t": (100_000, 1),
    "MSCOCO_t2i": (100_000, 1),
    "MSCOCO_i2t": (120_000, 1),
    "NIGHTS": (20_000, 0.5),
    "WebQA": (20_000, 0.5),
    "MSCOCO": (100_000, 1),
}
_HOUND = "vlm2vec_train/train_video_and_instruction"


def _image_entry(name: str, rows: int, weight: float) -> dict[str, object]:
    """All keys that the published files have for a data set of MMEB."""
    return {
        "dataset_parser": "mmeb",
        "dataset_name": "TIGER-Lab/MMEB-train",
        "subset_name": name,
        "dataset_split": "original",
        "image_dir": "vlm2vec_train/MMEB-train/image",
        "num_sample_per_subset": rows,
        "weight": weight,
    }


def _video_entry(parser: str, name: str, file: str, rows: str, **more: str) -> dict[str, object]:
    """All keys that the published files have for a data set of LLaVA-Hound."""
    return {
        "dataset_parser": parser,
        "dataset_name": name,
        "dataset_path": f"{_HOUND}/video_instruction/train/sft/{file}.jsonl",
        "video_frame_basedir": f"{_HOUND}/train_300k",
        "weight": 5,
        "num_rows": rows,
        "num_frames": 8,
        **more,
    }


_VIDEOS = {
    "video_caption_300k": _video_entry(
        "llavahound_caption",
        "video_caption_300k",
        "video_caption_300k",
        "300_000",
        data_mode="caption_retrieval",
    ),
    "video_caption_300k-video": _video_entry(
        "llavahound_caption",
        "video_caption_300k",
        "video_caption_300k",
        "300_000",
        data_mode="video_retrieval",
    ),
    "video_qa_240k": _video_entry("llavahound_qa", "video_qa_240k", "video_240k_caption_15k", "240_000"),
}
_PAGES: dict[str, dict[str, object]] = {
    "colpali_train_set": {"dataset_parser": "vidore", "dataset_name": "vidore/colpali_train_set", "weight": 10},
    "visrag-indomain": {
        "dataset_parser": "visrag",
        "dataset_name": "openbmb/VisRAG-Ret-Train-In-domain-data",
        "global_dataset_name": "VisRAG-Indomain-data",
        "weight": 12,
    },
}
_IMAGES = {name: _image_entry(name, *numbers) for name, numbers in _IMAGE_SETS.items()}
_EVENLY = {name: entry | {"weight": 1} for name, entry in _IMAGES.items()}
_PUBLISHED_FILES: dict[str, dict[str, dict[str, object]]] = {
    "vlm2vec-v2": _IMAGES | _PAGES | _VIDEOS,
    "vlm2vec-v2-image": _EVENLY,
    "vlm2vec-v2-video": _VIDEOS,
    "vlm2vec-v2-visdoc": dict(list(_EVENLY.items())[:3]) | _PAGES,
}
"""Every entry of train_{alltasks,image,video,visdoc}.yaml, by the packaged mix that holds the same."""


@pytest.mark.parametrize("mix", _PUBLISHED_FILES)
def test_each_published_file_is_the_packaged_mix_of_its_name(tmp_path: Path, mix: str) -> None:
    # As they are written there: with underscores in numbers.
    text = yaml.safe_dump(_PUBLISHED_FILES[mix]).replace("'", "")
    (tmp_path / "published.yaml").write_text(text)
    published = read_sources("published.yaml", tmp_path, tmp_path)
    packaged = read_sources(mix, tmp_path, tmp_path)
    # Both say the same of data sets without configurations.
    packaged |= {
        name: source.model_copy(update={"split": None})
        for name, source in packaged.items()
        if source.model_dump()["parser"] in ("vidore", "visrag")
    }
    assert published == packaged


def test_keys_that_change_nothing_beside_a_path_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    entry = _VIDEOS["video_qa_240k"] | {"subset_name": "a", "dataset_split": "train", "num_rows": 3}
    (tmp_path / "mix.yaml").write_text(yaml.safe_dump({"v": entry, "w": _VIDEOS["video_qa_240k"]}))
    sources = read_sources("mix.yaml", tmp_path, tmp_path)
    assert [message.removeprefix(f"{tmp_path}/mix.yaml: ") for message in caplog.messages] == [
        "num_rows of v, w has no effect, as published",
        "subset_name of v has no effect, as published",
        "dataset_split of v has no effect, as published",
    ]
    assert sources["v"] == sources["w"]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (
            {"dataset_parser": "docmatix", "config_name": "pdf", "weight": 1},
            "mix.yaml: 'a': the key 'config_name' is the configuration of a data set for the parser 'docmatix', which "
            "is not among the parsers here: pairs, columns, mmeb, vidore, visrag, llavahound_caption, llavahound_qa",
        ),
        ({"dataset_nam": "x"}, "mix.yaml: 'a': unknown key 'dataset_nam'; did you mean 'dataset_name'?"),
        ({"dataset_parser": "visrag"}, "mix.yaml: 'a': the key 'weight' is missing"),
        (
            {"dataset_parser": "docmatix", "weight": 1},
            "source 'a': no parser is named 'docmatix'; use one of pairs, columns, mmeb",
        ),
        (3, "mix.yaml is not a mapping from names of data sets to their keys"),
    ],
)
def test_a_mistake_in_a_published_yaml_file_is_named(tmp_path: Path, keys: object, message: str) -> None:
    (tmp_path / "mix.yaml").write_text(yaml.safe_dump({"a": keys}))
    with pytest.raises(ConfigError, match=re.escape(message)):
        read_sources("mix.yaml", tmp_path, tmp_path)


def test_a_packaged_source_takes_what_is_changed(tmp_path: Path) -> None:
    sources = read_sources({"NIGHTS": {"weight": [1, 0], "max_rows": 5, "temperature": 0.1}}, tmp_path, Path())
    nights = sources["NIGHTS"]
    assert (nights.weight, nights.max_rows, nights.temperature, nights.config) == ((1, 0), 5, 0.1, "NIGHTS")


_AT_REST: dict[str, object] = {
    **dict.fromkeys(("path", "dataset", "config", "split", "annotation_file", "parser", "max_rows", "temperature")),
    **dict.fromkeys(("image_dir", "frame_dir", "num_frames", "mode", "max_pixels")),
    **dict.fromkeys(("download", "query_to_page", "placeholder_first", "allow_outside"), False),
    "weight": 1.0,
}
"""Every field that a run saved when all sources were of one class."""


@pytest.mark.parametrize(
    "fields",
    [
        {"path": "a.jsonl"},
        {"path": "a.jsonl", "image_dir": "pics"},
        {"path": "a.jsonl", "parser": "pairs"},
        {"dataset": "a/b", "parser": "mmeb", "image_dir": "pics"},
        {"dataset": "a/b", "parser": "visrag", "placeholder_first": True},
        {"annotation_file": "a.jsonl", "parser": "llavahound_qa", "frame_dir": "frames"},
    ],
    ids=str,
)
def test_a_source_that_a_run_saved_with_all_fields_is_the_same_source(
    tmp_path: Path, fields: dict[str, object]
) -> None:
    saved, own = (read_sources({"s": values}, tmp_path, tmp_path)["s"] for values in (_AT_REST | fields, fields))
    assert saved == own
    assert type(saved).model_validate_json(saved.model_dump_json()) == saved
