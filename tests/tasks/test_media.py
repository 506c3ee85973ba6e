"""Pictures and frames of tasks: as files under the data root, or packed in one file."""

from __future__ import annotations

import shutil
from pathlib import Path

import pyarrow.parquet
import pytest

from support.task_fixtures import write_fixture
from vlm2vec.errors import DataError, MediaError
from vlm2vec.items import Image, Video
from vlm2vec.tasks.reading import open_media
from vlm2vec.tasks.registry import get_tasks, parse_task


def test_a_task_reads_the_same_from_packed_media_as_from_files(tmp_path: Path) -> None:
    """Every form of medium: pictures, frames, and folders that are listed."""
    for name in ("ImageNet-1K", "MSVD", "QVHighlight"):
        (spec,) = get_tasks(names=[name])
        files, packed = tmp_path / name / "files", tmp_path / name / "packed"
        write_fixture(spec, files)
        shutil.copytree(files / "annotations", packed / "annotations")
        paths = sorted(path for path in (files / spec.media_dir).rglob("*") if path.is_file())
        table = {
            "path": [path.relative_to(files).as_posix() for path in paths],
            "bytes": [path.read_bytes() for path in paths],
        }
        pyarrow.parquet.write_table(pyarrow.table(table), packed / "media.parquet")
        loose, tight = parse_task(spec, files), parse_task(spec, packed)
        assert (tight.query_ids, tight.candidate_names, tight.pools) == (
            loose.query_ids,
            loose.candidate_names,
            loose.pools,
        )
        for one, other in zip([*tight.queries, *tight.candidates], [*loose.queries, *loose.candidates], strict=True):
            assert one.verbatim == other.verbatim
            assert [_bytes(medium) for medium in one.media] == [_bytes(medium) for medium in other.media]


def test_what_a_pack_of_media_lacks_is_named(tmp_path: Path) -> None:
    table = {"path": ["videos/v/1.webp", "videos/v/10.webp", "videos/v/2.webp"], "bytes": [b"a", b"c", b"b"]}
    pyarrow.parquet.write_table(pyarrow.table(table), tmp_path / "media.parquet")
    pack = open_media(tmp_path)
    assert pack.frames("videos/v") == [b"a", b"b", b"c"]
    assert (pack.folders("videos"), pack.folders("gone")) == (["v"], [])
    with pytest.raises(MediaError, match=r"media\.parquet holds no file videos/w"):
        pack.picture("videos/w")
    with pytest.raises(MediaError, match=r"media\.parquet holds no frames in videos$"):
        pack.frames("videos")
    pyarrow.parquet.write_table(pyarrow.table({"path": ["a"]}), tmp_path / "media.parquet")
    with pytest.raises(DataError, match=r"media\.parquet .*bytes"):
        open_media(tmp_path)


def _bytes(medium: Image | Video) -> list[object]:
    sources = medium.source if isinstance(medium.source, tuple) else (medium.source,)
    return [source.read_bytes() if isinstance(source, Path) else source for source in sources]
