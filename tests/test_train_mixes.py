"""Mixes of training sources: the packaged ones, published YAML files, and mistakes in them named."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from source_files import video_row, write_frames
from train_files import write_rows
from vlm2vec.errors import ConfigError
from vlm2vec.items import Video
from vlm2vec.tasks.sources import SourceConfig, open_source, packaged_mixes, read_sources


def test_the_packaged_mixes_are_the_published_ones(tmp_path: Path) -> None:
    mixes = {name: read_sources(name, tmp_path, Path()) for name in packaged_mixes()}
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
    parsers = [source.parser for source in mix.values()]
    assert {name: parsers.count(name) for name in set(parsers)} == {
        "mmeb": 20,
        "vidore": 1,
        "visrag": 1,
        "llavahound_caption": 2,
        "llavahound_qa": 1,
    }
    assert all(source.config == name for name, source in mix.items() if source.parser == "mmeb")
    assert not any(source.query_to_page or source.placeholder_first for source in mix.values())
    base = tmp_path / "vlm2vec_train"
    hound = base / "train_video_and_instruction"
    assert mix["CIRR"] == SourceConfig(
        weight=0.5,
        parser="mmeb",
        dataset="TIGER-Lab/MMEB-train",
        config="CIRR",
        split="original",
        image_dir=base / "MMEB-train" / "image",
        max_rows=30_000,
    )
    assert mix["video_caption_300k-video"] == SourceConfig(
        weight=5,
        parser="llavahound_caption",
        annotation_file=hound / "video_instruction" / "train" / "sft" / "video_caption_300k.jsonl",
        frame_dir=hound / "train_300k",
        num_frames=8,
        mode="video_retrieval",
    )


def test_a_published_yaml_file_is_read_as_it_is(tmp_path: Path) -> None:
    image = {"dataset_parser": "mmeb", "dataset_name": "TIGER-Lab/MMEB-train", "subset_name": "CIRR", "weight": 0.5}
    image |= {"image_dir": "pics", "num_sample_per_subset": 7}
    video = {"dataset_parser": "llavahound_caption", "dataset_path": "a.jsonl", "video_frame_basedir": "frames"}
    video |= {"weight": 5, "num_frames": 4, "num_rows": 300_000, "data_mode": "video_retrieval"}
    page = {"dataset_parser": "visrag", "dataset_name": "openbmb/V", "global_dataset_name": "V", "weight": 12}
    (tmp_path / "mix.yaml").write_text(yaml.safe_dump({"CIRR": image, "video": video, "page": page}))
    root = tmp_path / "root"
    with pytest.warns(UserWarning, match="num_rows of video has no effect"):
        sources = read_sources("mix.yaml", root, tmp_path)
    assert sources == {
        "CIRR": SourceConfig(
            weight=0.5,
            parser="mmeb",
            dataset="TIGER-Lab/MMEB-train",
            config="CIRR",
            split="original",
            image_dir=root / "pics",
            max_rows=7,
        ),
        "video": SourceConfig(
            weight=5,
            parser="llavahound_caption",
            annotation_file=root / "a.jsonl",
            frame_dir=root / "frames",
            num_frames=4,
            mode="video_retrieval",
        ),
        "page": SourceConfig(weight=12, parser="visrag", dataset="openbmb/V"),
    }
    write_rows(root / "a.jsonl", [video_row("v", "<video>", "A dog.")])
    write_frames(root / "frames" / "v", ["0.png"])
    (pair,) = open_source("video", sources["video"], root)
    assert pair.positive.media == (Video((root / "frames" / "v" / "0.png",), as_stored=True),)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"dataset_nam": "x"}, "mix.yaml: 'a': unknown key 'dataset_nam'; did you mean 'dataset_name'?"),
        ({"dataset_parser": "visrag"}, "mix.yaml: 'a': the key 'weight' is missing"),
        ({"dataset_parser": "docmatix", "weight": 1}, "source 'a': parser: Input should be 'pairs'"),
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
