"""No bytes from outside end in a raw exception: every reader raises the package's own errors, which name the file."""

from __future__ import annotations

import json
import re
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vlm2vec.data.tables import open_table
from vlm2vec.documents import load_json, parse_json
from vlm2vec.errors import ConfigError, DataError, IndexFolderError, ModelError, VLM2VecError
from vlm2vec.evaluation.run_folder import RunFolder, RunSettings, read_examples
from vlm2vec.evaluation.scores import read_score_list
from vlm2vec.fetching.archives import unpack
from vlm2vec.model.checkpoint import Settings, read_json
from vlm2vec.search.stores import open_store
from vlm2vec.sources.config import read_yaml
from vlm2vec.training.checkpoint import TrainingFolder
from vlm2vec.training.config import TrainConfig, read_config

DEEP = 100_000


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b'{"a": [1, -2.5, "\\ud800", null, true]}', {"a": [1, -2.5, "\ud800", None, True]}),
        (b"1" + b"0" * 300, 10**300),
        ("1e308", 1e308),
        ("-1e-400", 0.0),
    ],
)
def test_json_is_read(text: str | bytes, value: object) -> None:
    assert parse_json(text) == value


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[" * DEEP, "its brackets lie too deep in one another"),
        ('{"a":' * DEEP, "its brackets lie too deep in one another"),
        ("9" * 5000, "the number 99999999999999999... of 5000 characters is too large"),
        ("-" + "9" * 400, "the number -9999999999999999... of 401 characters is too large"),
        ("1e400", "the number 1e400 is too large"),
        ('{"a": -1e999}', "the number -1e999 is too large"),
        (b"\xff", "'utf-8' codec can't decode byte 0xff in position 0: invalid start byte"),
        ("", "Expecting value: line 1 column 1 (char 0)"),
    ],
)
def test_what_is_no_json_is_a_value_error_that_says_why(text: str | bytes, said: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(said)}$"):
        parse_json(text)


def test_a_missing_document_is_the_systems_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load_json(tmp_path / "none.json")


SETTINGS = RunSettings(
    benchmark="mmeb-mini", model="tiny", fingerprint="fingerprint", limit=None, root=None, late_interaction=False
)
CONFIG = TrainConfig.model_validate(
    {
        "out": "out",
        "init": "tiny",
        "data": {"a": {"path": "a.jsonl"}},
        "steps": 1,
        "batch_size": 2,
        "sub_batch": 2,
        "learning_rate": 0.1,
    }
)
INDEX = {"format": 1, "model": "bundled", "fingerprint": "f", "dim": 4, "folder": "/f", "dtype": None}


def _rows(path: Path) -> object:
    table = open_table(path)
    return [table[row] for row in range(len(table))]


READERS: dict[
    str, tuple[str, object, Callable[[Path], object], type[VLM2VecError] | tuple[type[VLM2VecError], ...]]
] = {
    "settings": ("vlm2vec.json", {"pooling": "last", "max_pixels": 9}, lambda f: Settings.read(f.parent), ModelError),
    "model": ("config.json", {"hidden_size": 4, "rope": {"type": "default"}}, read_json, ModelError),
    "index": ("index.json", INDEX, lambda f: open_store(f.parent), IndexFolderError),
    "run": (
        "run.json",
        SETTINGS.model_dump(),
        lambda f: RunFolder.claim(f.parent, SETTINGS),
        (ConfigError, DataError),
    ),
    "trained": (
        "train_config.json",
        CONFIG.model_dump(mode="json", exclude_unset=True),
        lambda f: TrainingFolder(f.parent).check_same_run(CONFIG),
        (ConfigError, DataError),
    ),
    "splits": ("dataset_dict.json", {"splits": ["train"]}, lambda f: open_table(f.parent), DataError),
    "rows": ("rows.jsonl", {"query": {"text": "a"}, "positive": {"image": "a.png"}}, _rows, DataError),
    "scores": (
        "a.json",
        {
            "metadata": {"model_name": "a", "report_generated_date": "2025-01-01T00:00:00"},
            "metrics": {"image": {"HatefulMemes": {"hit@1": 0.5, "num_pred": 2, "num_data": 2}}},
        },
        read_score_list,
        DataError,
    ),
    "examples": (
        "examples/a.json",
        {"dataset": "a", "examples": [{"query": {"text": "a"}}]},
        lambda f: read_examples(f.parent.parent),
        DataError,
    ),
    "log": ("log.jsonl", {"step": 1, "loss": 0.5}, lambda f: TrainingFolder(f.parent).read_log(f.name), ConfigError),
    "YAML": ("a.yaml", {"steps": 1, "when": {"at": ["2024-01-01"]}}, read_yaml, ConfigError),
    "configuration": ("a.yaml", {"out": "out", "init": "tiny", "data": {}, "steps": 1}, read_config, ConfigError),
}

HOSTILE = (
    *("1e400", "-1e400", "9" * 5000, "9" * 400, "-1", "NaN", "1.5", "18446744073709551616"),
    *("null", "true", "[]", "{}", '""', '"\\ud800"', '"\\u0000"', '"9999-99-99"', "9999-99-99", '{"a": {"b": []}}'),
    *("!!bool 5", "!!timestamp x", "!!int x", "&a [*a]", "? [a]\n: b", "2024-13-45", "<<: 5", "%", "\t", "*"),
)
"""Values that are no values, or absurd ones, as they may stand in a document."""

NESTED = ("[" * 600, '{"a":' * 600, "[" * 150 + "]" * 150)


def _variants(value: object) -> Iterator[object]:
    """The document with "HOSTILE" in the place of each of its values, and of itself."""
    yield "HOSTILE"
    if isinstance(value, dict):
        for key, inner in value.items():
            for other in _variants(inner):
                yield value | {key: other}
            yield {name: one for name, one in value.items() if name != key}
    elif isinstance(value, list):
        for place, inner in enumerate(value):
            for other in _variants(inner):
                yield [*value[:place], other, *value[place + 1 :]]


def _read(name: str, data: bytes, folder: Path) -> None:
    """Read some bytes as a document of this name; an own error of the right class, which names the file, is fine."""
    file, _, read, error_class = READERS[name]
    path = folder / file
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    try:
        read(path)
    except VLM2VecError as error:
        said = error
    else:
        return
    assert type(said) in (error_class if isinstance(error_class, tuple) else (error_class,))
    assert str(folder) in str(said)


@pytest.mark.parametrize("name", READERS)
def test_absurd_values_in_a_document_are_named_by_our_own_errors(name: str, tmp_path: Path) -> None:
    for variant in _variants(READERS[name][1]):
        text = json.dumps(variant)
        for hostile in HOSTILE + (NESTED if variant == "HOSTILE" else ()):
            _read(name, text.replace('"HOSTILE"', hostile).encode(), tmp_path)


@pytest.mark.parametrize("name", READERS)
@given(data=st.data())
@settings(max_examples=40, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck), database=None)
def test_damaged_documents_are_named_by_our_own_errors(
    name: str, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    _fuzz(name, data, tmp_path_factory.mktemp("fuzz"))


@pytest.mark.torture
@pytest.mark.parametrize("name", READERS)
@given(data=st.data())
@settings(max_examples=5000, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck), database=None)
def test_documents_damaged_at_length_are_named_by_our_own_errors(
    name: str, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    _fuzz(name, data, tmp_path_factory.mktemp("fuzz"))


def _fuzz(name: str, data: st.DataObject, folder: Path) -> None:
    whole = json.dumps(READERS[name][1]).encode()
    first, last = sorted(data.draw(st.tuples(*[st.integers(0, len(whole))] * 2)))
    filling = data.draw(st.binary(max_size=8) | st.sampled_from(HOSTILE + NESTED).map(str.encode))
    _read(name, whole[:first] + filling + whole[last:], folder)


def _read_any(text: str, path: Path) -> None:
    path.write_text(text, "utf-8")
    try:
        read_yaml(path)
    except ConfigError as error:
        said = str(error)
    else:
        return
    assert said.startswith(f"{path} is not valid YAML: ")


@given(text=st.text(max_size=40))
@settings(max_examples=100, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck), database=None)
def test_any_text_is_yaml_or_an_error_that_names_the_file(text: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    _read_any(text, tmp_path_factory.getbasetemp() / "any.yaml")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: 2024-13-45", "month must be in 1..12"),
        ("!!timestamp x", "'NoneType' object has no attribute 'groupdict'"),
        ("!!bool 5", "'5'"),
        ("!!float x", "could not convert string to float: 'x'"),
        ("[" * 600, "its brackets lie too deep in one another"),
    ],
)
def test_values_that_are_none_are_errors_that_name_the_yaml_file(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(text, "utf-8")
    with pytest.raises(ConfigError, match=f"^{re.escape(f'{path} is not valid YAML: {said}')}$"):
        read_yaml(path)


def _zip(path: Path) -> bytes:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/b.txt", b"text " * 20)
    return path.read_bytes()


def _changed(data: bytes, offset: int, value: int) -> bytes:
    """The archive with a 16-bit field changed in both headers of its only member; offset in the local one."""
    found = bytearray(data)
    struct.pack_into("<H", found, offset, value)
    struct.pack_into("<H", found, data.index(b"PK\1\2") + 2 + offset, value)
    return bytes(found)


@pytest.mark.parametrize(
    ("offset", "value", "said"),
    [
        (6, 1, "a/b.txt is encrypted; unpack the archive by hand with its password"),
        (8, 97, "a/b.txt cannot be unpacked (That compression method is not supported); unpack the archive by hand"),
        (6, 0x20, "a/b.txt cannot be unpacked (compressed patched data (flag bit 5)); unpack the archive by hand"),
    ],
)
def test_a_zip_member_that_python_cannot_read_is_named(offset: int, value: int, said: str, tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(_changed(_zip(path), offset, value))
    with pytest.raises(DataError) as error:
        unpack([path], tmp_path / "out", "", lambda inner: inner, ["a/b.txt"])
    assert f"{path}: {said}" in str(error.value)


@given(place=st.integers(0, 10**6), value=st.integers(0, 255))
@settings(max_examples=150, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck), database=None)
def test_a_damaged_archive_is_unpacked_or_named(
    place: int, value: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("zip")
    path = folder / "a.zip"
    data = bytearray(_zip(path))
    data[place % len(data)] = value
    path.write_bytes(data)
    try:
        found = unpack([path], folder / "out", "", lambda inner: inner, ["a/b.txt"])
    except DataError as error:
        said = str(error)
    else:
        assert found.absent == ("a/b.txt",) or (folder / "out" / "a" / "b.txt").read_bytes() == b"text " * 20
        return
    assert str(path.name) in said or str(folder / "out") in said
