"""Names on the hub lead to no place outside of the folder of what is fetched."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlm2vec.fetching.hub import HubFile, RefusedError


@pytest.mark.parametrize(
    ("repo", "path"),
    [
        ("a/b", "../x"),
        ("a/b", "data/../../x"),
        ("a/b", "/etc/x"),
        ("a/b", "data//x"),
        ("a/b", "./x"),
        ("a/b", ""),
        ("a/b", "data/"),
        ("a/b", ".."),
        ("a/b", "..\\x"),
        ("a/b", "data\\..\\..\\x"),
        ("a/b", "\\x"),
        ("a/b", "C:x"),
        ("a/b", "C:\\x"),
        ("a/b", "data/c:/x"),
        ("a/b", "a\0b"),
        ("..", "x"),
        ("", "x"),
        ("../b", "x"),
        ("a\\b\\..", "x"),
        ("C:", "x"),
    ],
)
def test_a_name_on_the_hub_that_would_leave_its_folder_is_refused(tmp_path: Path, repo: str, path: str) -> None:
    message = f"{repo!r} on the hub names a file {path!r}, which leads out of its folder: it is not fetched"
    with pytest.raises(RefusedError, match=f"^{re.escape(message)}$"):
        HubFile(repo, "1", path, 1, "e").place(tmp_path)


@given(path=st.text(alphabet="ab./\\:\0C", max_size=12), repo=st.sampled_from(["a/b", "squad"]))
def test_a_name_on_the_hub_stays_in_its_folder_or_is_refused(path: str, repo: str) -> None:
    folder = Path("/data/.download")
    try:
        place = HubFile(repo, "1", path, 1, "e").place(folder)
    except RefusedError:
        return
    assert os.path.normpath(place) == str(place)
    assert os.path.normpath(place).startswith(f"/data/.download/{repo.replace('/', '__')}/")


@pytest.mark.parametrize("path", ["x", "data/x.parquet", "a/..b/...", "data/x y:z.tar.gz-00"])
def test_other_names_on_the_hub_are_places_as_they_are(tmp_path: Path, path: str) -> None:
    assert HubFile("a/b", "1", path, 1, "e").place(tmp_path) == tmp_path / "a__b" / path
