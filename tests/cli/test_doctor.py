"""What `vlm2vec doctor FOLDER` says of an index."""

from __future__ import annotations

import json
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pytest

from support.cli_runs import Result
from support.golden_cases import MODEL
from support.index_folders import library_of_rows
from support.stores import INFO
from vlm2vec.search.library import Library
from vlm2vec.search.stores import create_store


def test_doctor_reads_all_of_a_sound_index(three: Library) -> None:
    (three.folder / "bad.png").write_bytes(b"words")
    three.sync()
    result = Result("doctor", three.folder, "--json")
    report = json.loads(result.out)
    values = {finding["name"]: finding["value"] for finding in report["findings"]}
    assert (result.code, report["ok"]) == (0, True)
    # A checksum for each file, its name, and each vector.
    assert values == {
        "index": str(three.path),
        "model": str(MODEL),
        "vectors": "3 of 3 files",
        "checksums": "9 hold",
        "files not read": "1; 'vlm2vec index' says why",
    }


def test_doctor_names_the_damage_of_a_vector(three: Library) -> None:
    three.close()
    with closing(sqlite3.connect(three.path / "library.db")) as database, database:
        database.execute("UPDATE units SET vector = zeroblob(length(vector)) WHERE id = 2")
    result = Result("doctor", three.folder)
    assert result.code == 1
    [line] = [line for line in result.out.splitlines() if line.startswith("x damage")]
    assert "its vector 2 is not as it was written" in line
    assert result.out.endswith("damage: 'vlm2vec index FOLDER --rebuild' makes the index anew\n")


def test_doctor_says_that_an_index_that_cannot_be_opened_has_to_be_made_anew(three: Library) -> None:
    three.close()
    (three.path / "library.db").write_bytes(b"words")
    result = Result("doctor", three.folder)
    assert result.code == 1
    assert result.out.splitlines()[-1].startswith("state: ")
    assert result.out.endswith("; 'vlm2vec index FOLDER --rebuild' makes it anew\n")


def test_doctor_says_how_to_make_an_index_where_none_is(tmp_path: Path) -> None:
    result = Result("doctor", tmp_path)
    assert (result.code, result.err) == (1, "")
    message = f"there is no index at {tmp_path / '.vlm2vec'}; 'vlm2vec index FOLDER' makes one"
    assert result.out.splitlines()[-1] == f"state: {message}"
    missing = Result("doctor", tmp_path / "missing")
    assert (missing.code, missing.err[:21]) == (2, "error: there is no fo")


@pytest.mark.slow
def test_doctor_names_the_extra_without_which_an_index_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create_store(tmp_path / ".vlm2vec", INFO, kind="lance")
    monkeypatch.setitem(sys.modules, "lancedb", None)
    result = Result("doctor", tmp_path, "--json")
    assert result.code == 1
    assert "install it: pip install 'vlm2vec[scale]'" in json.loads(result.out)["findings"][-1]["advice"]


def test_the_index_elsewhere_is_looked_at_without_its_folder(tmp_path: Path) -> None:
    with library_of_rows(tmp_path) as library:
        result = Result("doctor", "--index", library.path)
    assert (result.code, "0 of 0 files" in result.out) == (0, True)


def test_doctor_says_what_a_missing_program_would_show(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    values = {finding["name"]: finding["value"] for finding in json.loads(Result("doctor", "--json").out)["findings"]}
    assert values["Chromium"] == "not installed; with it, the pages of .htm .html .mht .mhtml .xhtml can be seen"
    assert values["LibreOffice"].startswith("not installed; with it, the pages of .docm .docx ")
