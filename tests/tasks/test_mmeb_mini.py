"""mmeb-mini, the benchmark that ships with the package: its size, its pools, its media and what it holds out."""

from __future__ import annotations

import runpy
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import groupby
from typing import Any

import pyarrow.parquet
import pytest

from support.places import ROOT
from vlm2vec.items import Image, Item
from vlm2vec.media.image import open_image
from vlm2vec.tasks.data import TaskData
from vlm2vec.tasks.reading import PACK, TaskMedia, open_media
from vlm2vec.tasks.registry import get_tasks, packaged_root, parse_task

REPOSITORY = ROOT
ROOT = REPOSITORY / "src" / "vlm2vec" / "mmeb_mini"
TASKS = {spec.name: spec for spec in get_tasks("mmeb-mini")}
CONTROL = "motion-shuffled"
OF_THINGS = [name for name, spec in TASKS.items() if spec.modality != "visdoc" and not name.startswith("chart-")]
"""The other tasks are of charts, slides and pages."""

POOLS = {
    "emoji-subgroup": 95,
    "emoji-group": 8,
    "chart-kind": 10,
    "scene-questions": 20,
    "chart-questions": 10,
    "caption-to-image": 100,
    "image-to-caption": 100,
    "noto-to-3d": 100,
    "skin-tone": 110,
    "title-to-drawing": 66,
    "scene-crop": 6,
    "motion": 10,
    "moving-object": 50,
    "which-comes-when": 5,
    "which-way": 4,
    "sentence-to-clip": 100,
    "order-to-clip": 80,
    "shot-of-film": 5,
    "slide-by-title": 100,
    "slide-by-question": 96,
    "chart-by-question": 77,
    "manual-by-section": 90,
    "foreign-manual": 97,
    "motion-shuffled": 10,
}
"""How many candidates are ranked for each query: chance is one in so many."""


@cache
def media() -> TaskMedia:
    return open_media(ROOT)


@cache
def parsed(name: str) -> TaskData:
    return parse_task(TASKS[name], ROOT, media=media())


@cache
def holdouts() -> dict[str, Any]:
    """The rule by which the package's models were trained."""
    return runpy.run_path(str(REPOSITORY / "recipes" / "default" / "holdouts.py"))


def rows_of(name: str, config: str = "default") -> list[dict[str, object]]:
    path = ROOT / "annotations" / f"mmeb-mini__{name}" / config / "test.parquet"
    rows: list[dict[str, object]] = pyarrow.parquet.read_table(path).to_pylist()
    return rows


def content(item: Item) -> tuple[object, ...]:
    """What of an item tells it from another one."""
    return item.verbatim, *(medium.source for medium in item.media)


def pool_of(data: TaskData, number: int) -> Sequence[str]:
    return data.candidate_names if data.pools is None else data.pools[number]


def test_its_data_are_the_root_that_the_registry_names_and_take_at_most_ten_megabytes() -> None:
    assert packaged_root("mmeb-mini") == ROOT
    assert sum(path.stat().st_size for path in ROOT.rglob("*") if path.is_file()) <= 10_000_000


def test_equal_frames_are_stored_once() -> None:
    unique = {data for paths in media_by_folder().values() for data in paths}
    stored = (ROOT / PACK).stat().st_size
    assert stored <= sum(map(len, unique)) + 500_000


def test_it_has_twelve_groups_like_mmeb_v2_and_one_control_beside_them() -> None:
    groups = Counter(spec.group for spec in TASKS.values() if not spec.control)
    assert groups == {
        "I-CLS": 3, "I-QA": 2, "I-RET": 5, "I-VG": 1, "V-CLS": 2, "V-QA": 2, "V-RET": 2, "V-MR": 1,
        "VD-Slides": 2, "VD-Charts": 1, "VD-Manuals": 1, "VD-OOD": 1,
    }  # fmt: skip
    assert [name for name, spec in TASKS.items() if spec.control] == [CONTROL]
    mini = [spec for spec in TASKS.values() if spec.modality != "visdoc"]
    like, own = (
        {(spec.modality, spec.group, type(spec.parser), spec.metric) for spec in specs}
        for specs in (get_tasks("mmeb-v2"), mini)
    )
    assert own <= like


@pytest.mark.parametrize("name", TASKS)
def test_a_task_reads_without_warning_and_ranks_the_right_one_in_a_pool_of_the_stated_size(name: str) -> None:
    data = parsed(name)
    assert data.warnings == ()
    assert 60 <= len(data.queries) <= 200
    assert len(set(data.query_ids)) == len(data.queries)
    for number, query in enumerate(data.query_ids):
        pool = pool_of(data, number)
        assert (len(pool), len(set(pool))) == (POOLS[name], POOLS[name])
        right = data.relevant[query]
        assert len(right) == 1
        assert set(right) <= set(pool)


@pytest.mark.parametrize("name", TASKS)
def test_no_two_candidates_of_a_pool_are_the_same(name: str) -> None:
    data = parsed(name)
    items = dict(zip(data.candidate_names, map(content, data.candidates), strict=True))
    for number in range(len(data.queries) if data.pools else 1):
        pool = pool_of(data, number)
        assert len({items[candidate] for candidate in pool}) == len(pool)


@pytest.mark.parametrize("name", TASKS)
def test_the_media_of_a_task_can_be_opened(name: str) -> None:
    data = parsed(name)
    sample = (*data.queries[::25], *(data.candidates[place] for place in range(0, len(data.candidates), 25)))
    opened = [open_image(picture) for item in sample for picture in pictures(item)]
    assert opened
    assert all(min(picture.size) >= 20 for picture in opened)


@pytest.mark.parametrize("name", OF_THINGS)
def test_no_row_shows_or_names_a_concept_that_is_trained(name: str) -> None:
    rows = rows_of(name)
    rule = holdouts()
    concepts = {concept for row in rows for concept in listed(row["concepts"])}
    assert concepts
    assert {concept for concept in concepts if rule["bucket"](rule["root"](concept)) >= rule["HELD_SHARE"]} == set()


def test_titles_of_slides_and_whole_manuals_are_held_out() -> None:
    rule = holdouts()
    titles = [str(row["title"]) for row in rows_of("slide-by-title", "queries")]
    manuals = {str(row["manual"]) for row in rows_of("manual-by-section", "queries")}
    foreign = {str(row["manual"]) for row in rows_of("foreign-manual", "queries")}
    assert [name for name in (*titles, *sorted(manuals)) if rule["bucket"](name) >= rule["HELD_SHARE"]] == []
    assert foreign == {"gle", "debmake", "reportlab"}


@pytest.mark.parametrize("folder", ["clips/motion", "clips/shuffled", "clips/shown", "clips/way"])
def test_a_clip_and_its_reverse_hold_the_same_frames(folder: str) -> None:
    pairs = {}
    for pair, clips in groupby(media().folders(folder), lambda clip: clip.removesuffix("-a").removesuffix("-b")):
        pairs[pair] = [Counter(media().frames(f"{folder}/{clip}")) for clip in clips]
    assert len(pairs) == 50
    assert {len(clips) for clips in pairs.values()} == {2}
    assert all(forward == reverse for forward, reverse in pairs.values())


def test_the_control_is_the_motion_task_with_frames_in_an_order_without_a_direction() -> None:
    """Earlier frames come neither sooner nor later on the whole, so the order leans to neither motion of a pair."""
    assert [(row["video_id"], row["pos_text"]) for row in rows_of(CONTROL)] == [
        (row["video_id"], row["pos_text"]) for row in rows_of("motion")
    ]
    for clip in media().folders("clips/motion"):
        frames, shuffled = media().frames(f"clips/motion/{clip}"), media().frames(f"clips/shuffled/{clip}")
        assert Counter(frames) == Counter(shuffled)
        if len(set(frames)) == len(frames):
            # Covariance of the two places of a frame: sum of products less 28 * 28 / 8.
            assert sum(place * shuffled.index(frame) for place, frame in enumerate(frames)) == 98


def test_a_film_is_its_five_shots_one_after_the_other_and_each_is_sought_once() -> None:
    films = media().folders("clips/joined")
    assert len(films) == 100
    for film in films:
        shots = [clip for clip in media().folders(f"clips/joined/{film}") if clip != "query"]
        order = [int(film[-1]) if shot == "positive" else int(shot[-1]) for shot in shots]
        by_place = [shot for _, shot in sorted(zip(order, shots, strict=True))]
        joined = [frame for shot in by_place for frame in media().frames(f"clips/joined/{film}/{shot}")]
        assert order != []
        assert media().frames(f"clips/joined/{film}/query") == joined


def test_a_frame_file_is_never_larger_than_four_kilobytes() -> None:
    clips = {folder: files for folder, files in media_by_folder().items() if folder.startswith("clips/")}
    assert max(len(data) for files in clips.values() for data in files) <= 4096


def pictures(item: Item) -> Iterator[Image]:
    for medium in item.media:
        sources = medium.source if isinstance(medium.source, tuple) else (medium.source,)
        yield from (Image(source) for source in sources)


def listed(value: object) -> list[str]:
    assert isinstance(value, list)
    return value


@cache
def media_by_folder() -> dict[str, list[bytes]]:
    table = pyarrow.parquet.read_table(ROOT / PACK)
    folders: dict[str, list[bytes]] = {}
    for path, data in zip(table["path"].to_pylist(), table["bytes"].to_pylist(), strict=True):
        folders.setdefault(path.rpartition("/")[0], []).append(data)
    return folders
