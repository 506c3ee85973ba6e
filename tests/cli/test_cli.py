"""What the command line prints, where, and with which exit code."""

from __future__ import annotations

import codecs
import gc
import io
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from support.cli_runs import Result, save_picture, write_files, write_model, write_pictures
from support.places import DATA
from vlm2vec.cli.app import app
from vlm2vec.cli.doctor import _examine_packages, _Finding
from vlm2vec.cli.embed import _embedded, _Input, _read_inputs, _without_mark
from vlm2vec.cli.search import _without_garbage_collection
from vlm2vec.errors import InputError, VLM2VecError
from vlm2vec.items import Image
from vlm2vec.media.sandbox import Sandbox
from vlm2vec.model.embedder import Embedder
from vlm2vec.search.library import Library


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("checkpoint") / "tiny")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_files(tmp_path / "files")


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    return write_pictures(tmp_path / "files")


def _python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


# The program


def test_help_lists_all_commands_and_imports_no_heavy_library() -> None:
    done = _python(
        "import sys; sys.argv = ['vlm2vec', '--help']\n"
        "from vlm2vec.cli.app import main\n"
        "try: main()\n"
        "except SystemExit as stop: print('code', stop.code)\n"
        "heavy = 'torch transformers lancedb pyarrow numpy PIL av pypdfium2'.split()\n"
        "print('heavy', [name for name in heavy if name in sys.modules])"
    )
    assert done.stdout.endswith("code 0\nheavy []\n"), done.stderr
    commands = re.findall(r"^│ (\w+) {2,}[A-Z]", done.stdout, re.MULTILINE)
    assert commands == [
        *("index", "search", "watch", "duplicates", "embed", "models", "train", "ablate", "mine", "teach"),
        *("evaluate", "tasks", "data", "report", "doctor"),
    ]


@pytest.mark.slow
def test_a_file_in_a_ready_index_is_asked_for_by_its_stored_vector_without_torch(folder: Path, model: Path) -> None:
    assert Result("index", folder, "--model", model).code == 0
    arguments = ["vlm2vec", "search", "", str(folder), "--image", str(folder / "red.png"), "-k", "1", "--json"]
    program = (
        "import sys\n"
        f"sys.argv = {arguments!r}\n"
        "from vlm2vec.cli.app import main\n"
        "try: main()\n"
        "except SystemExit: print('torch' in sys.modules, file=sys.stderr)"
    )
    done = _python(program)
    (hit,) = json.loads(done.stdout)["hits"]
    assert (hit["path"], round(hit["score"], 5), done.stderr) == ("red.png", 1.0, "False\n")
    # A new file has to be embedded first, and the model with it.
    save_picture(folder / "new.png", "green")
    done = _python(program)
    assert (json.loads(done.stdout)["hits"][0]["path"], done.stderr.endswith("True\n")) == ("red.png", True)


def test_searching_a_ready_index_by_vector_imports_no_torch(pictures: Path, model: Path) -> None:
    assert Result("index", pictures, "--model", model).code == 0
    done = _python(
        "import sys; import numpy as np; from vlm2vec import Library\n"
        f"library = Library.open({str(pictures)!r})\n"
        "print(len(library.search(np.ones(library.info.dim, dtype=np.float32), 4)), 'torch' in sys.modules)"
    )
    assert done.stdout == "2 False\n", done.stderr


@pytest.mark.parametrize("enabled", [True, False])
def test_a_start_leaves_garbage_collection_on_or_off_as_it_was(enabled: bool) -> None:
    (gc.enable if enabled else gc.disable)()
    try:
        with _without_garbage_collection():
            assert not gc.isenabled()
        assert gc.isenabled() == enabled
    finally:
        gc.enable()


def test_a_mistake_is_one_line_on_stderr_and_exit_2(tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    result = Result("index", missing)
    assert (result.code, result.out) == (2, "")
    assert result.err == (f"error: there is no folder {missing}; give the path of the folder whose files to search\n")


def test_debug_shows_the_traceback_of_a_mistake(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["--debug", "index", str(tmp_path / "missing")])
    assert (type(result.exception).__name__, result.exit_code) == ("IndexFolderError", 1)


@pytest.mark.parametrize(
    "arguments", [["nonsense"], ["index"], ["search", "x", "--kind", "song"], ["search", "x", "-k", "0"]]
)
def test_wrong_usage_exits_with_2(arguments: list[str]) -> None:
    result = Result(*arguments)
    assert (result.code, result.out) == (2, "")
    assert "Usage: " in result.err


# index


def test_index_prints_its_counts(folder: Path, model: Path) -> None:
    first = Result("index", folder, "--model", model)
    assert (first.code, first.out, first.err) == (
        0,
        "3 added, 0 changed, 0 removed, 0 unchanged, 0 failed, 4 embedded, 1 ignored (1 .xyz)\n",
        "",
    )
    save_picture(folder / "red.png", "orange")
    again = Result("index", folder, "--json")
    assert json.loads(again.out) == {
        "added": 0,
        "changed": 1,
        "removed": 0,
        "unchanged": 2,
        "embedded": 1,
        "ignored": 1,
        "failed": [],
        "left_out": {".xyz": 1},
        "excluded": 0,
    }


def test_what_is_left_out_is_named_by_ending_and_number_most_frequent_first(pictures: Path, model: Path) -> None:
    for name in ("a.blend", "b.BLEND", "c.stl", "README", "d.ts"):
        (pictures / name).write_text("let words = 'words';\n")
    plain = Result("index", pictures, "--model", model)
    assert plain.out.endswith("6 ignored (2 .blend, 1 without an ending, 1 .stl, 1 .ts, 1 .xyz)\n")
    report = json.loads(Result("index", pictures, "--json").out)
    assert report["ignored"] == 6
    assert list(report["left_out"].items()) == [(".blend", 2), ("", 1), (".stl", 1), (".ts", 1), (".xyz", 1)]
    for number in range(30):
        (pictures / f"x.z{number:02}{'9' * 100}").touch()
    line = Result("index", pictures).out
    assert line.endswith(
        "1 .ts, 1 .xyz, 1 .z00999999999999, "
        + ", ".join(f"1 .z{n:02}999999999999" for n in range(1, 7))
        + ", and 23 other endings)\n"
    )
    assert len(line) < 400


def test_files_that_cannot_be_read_are_listed_and_strict_makes_them_fatal(pictures: Path, model: Path) -> None:
    (pictures / "empty.jpg").touch()
    plain = Result("index", pictures, "--model", model)
    assert (plain.code, plain.out) == (
        0,
        "2 added, 0 changed, 0 removed, 0 unchanged, 1 failed, 2 embedded, 1 ignored (1 .xyz)\n",
    )
    reason = "cannot be read as an image: it is empty"
    assert plain.err == f"not read: empty.jpg: {reason}\n"
    strict = Result("index", pictures, "--strict", "--json")
    assert strict.code == 1
    assert json.loads(strict.out)["failed"] == [{"path": "empty.jpg", "reason": reason}]


@pytest.mark.slow
def test_an_index_of_another_model_is_refused_until_it_is_made_anew(folder: Path, model: Path, tmp_path: Path) -> None:
    Result("index", folder, "--model", model)
    other = tmp_path / "other"
    other.mkdir()
    for file in model.iterdir():
        (other / file.name).write_bytes(file.read_bytes())
    (other / "vlm2vec.json").write_text(json.dumps({"prompt_style": "vlm2vec"}))
    refused = Result("index", folder, "--model", other)
    assert (refused.code, refused.out) == (2, "")
    assert "was made by the model" in refused.err
    assert f"'vlm2vec index FOLDER --rebuild --model '{other}''" in refused.err.replace("\n", " ")
    anew = Result("index", folder, "--model", other, "--rebuild")
    assert anew.out == "3 added, 0 changed, 0 removed, 0 unchanged, 0 failed, 4 embedded, 1 ignored (1 .xyz)\n"
    assert Library.open(folder).info.model == str(other)


def test_an_index_may_lie_elsewhere(pictures: Path, model: Path, tmp_path: Path) -> None:
    place = tmp_path / "place"
    Result("index", pictures, "--index", place, "--model", model)
    assert not (pictures / ".vlm2vec").exists()
    found = Result("search", "", "--image", pictures / "red.png", "--index", place, "-k", "1", "--kind", "image")
    assert (found.code, found.out.split()[2:]) == (0, ["red.png"])


# embed


def test_embed_prints_a_json_line_for_every_input_in_order(folder: Path, model: Path) -> None:
    result = Result(
        "embed", folder / "doc.pdf", folder / "red.png", "-", "--text", "last", "--model", model, stdin="one\ntwo\n"
    )
    rows = [json.loads(line) for line in result.out.splitlines()]
    assert [(row["input"], row.get("page")) for row in rows] == [
        (str(folder / "doc.pdf"), 1),
        (str(folder / "doc.pdf"), 2),
        (str(folder / "red.png"), None),
        ("one", None),
        ("two", None),
        ("last", None),
    ]
    embedder = Embedder.load(model)
    pages = [Image(folder / "doc.pdf", page=number) for number in (1, 2)]
    expected = embedder.encode([*pages, folder / "red.png", "one", "two", "last"])
    np.testing.assert_allclose(np.array([row["vector"] for row in rows]), expected, atol=2e-6)


def test_the_mark_before_text_from_a_pipe_is_no_text(model: Path) -> None:
    content = (DATA / "bom.txt").read_bytes()
    assert content.startswith(codecs.BOM_UTF8)
    result = Result("embed", "-", "--model", model, stdin=content.decode("utf-8"))
    rows = [json.loads(line) for line in result.out.splitlines()]
    assert [row["input"] for row in rows] == ["cat", "dog", "bird"]
    expected = Embedder.load(model).encode(["cat", "dog", "bird"])
    np.testing.assert_allclose([row["vector"] for row in rows], expected, atol=2e-6)
    # The blank line of the file is an empty text.
    assert (result.code, result.err.startswith("error: an empty text: ")) == (1, True)


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
def test_text_in_another_encoding_is_refused_by_its_mark(encoding: str) -> None:
    lines = io.TextIOWrapper(
        io.BytesIO("\ufeffcat\ndog\n".encode(encoding)), encoding="utf-8", errors="surrogateescape"
    )
    with pytest.raises(InputError, match="stdin is text in UTF-16 or UTF-32: convert it to UTF-8"):
        list(_without_mark(lines))


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "cp1252"])
@pytest.mark.parametrize(
    ("content", "lines"),
    [
        (b"", []),
        (codecs.BOM_UTF8, []),
        (codecs.BOM_UTF8 + b"\n", ["\n"]),
        (codecs.BOM_UTF8 + b"cat\r\n\ndog", ["cat\n", "\n", "dog"]),
        (b"cat\n" + b"dog", ["cat\n", "dog"]),
    ],
)
def test_only_the_mark_is_taken_from_the_lines_of_a_pipe(encoding: str, content: bytes, lines: list[str]) -> None:
    stream = io.TextIOWrapper(io.BytesIO(content), encoding=encoding, errors="surrogateescape")
    assert list(_without_mark(stream)) == lines


def test_embed_answers_in_parts_of_so_many_inputs(model: Path) -> None:
    embedder, texts, taken = Embedder.load(model), ["one", "", "three", "last"], list[str]()

    def inputs() -> Iterator[_Input]:
        for source in _read_inputs([], texts, decoder):
            taken.append(source.name)
            yield source

    with Sandbox() as decoder:
        results = [(*one, len(taken)) for one in _embedded(embedder, inputs(), decoder, num_at_once=2)]
    assert [(source.name, num_taken) for source, _, num_taken in results] == list(zip(texts, (2, 2, 4, 4), strict=True))
    vectors = [result for _, result, _ in results if not isinstance(result, VLM2VecError)]
    np.testing.assert_allclose(vectors, embedder.encode(["one", "three", "last"]), atol=2e-6)


def test_embed_reports_a_vector_that_is_not_finite(model: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(model, broken)
    weights = load_file(broken / "model.safetensors")
    weights["model.norm.weight"] = torch.full_like(weights["model.norm.weight"], torch.nan)
    save_file(weights, broken / "model.safetensors", {"format": "pt"})
    result = Result("embed", "--text", "words", "--model", broken)
    assert (result.code, result.out) == (1, "")
    assert result.err == (
        "error: words: the vector that the model makes of it is not finite; look for nan in the model's weights\n"
    )


def test_embed_writes_an_array(folder: Path, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "vectors"
    result = Result("embed", folder / "red.png", "--text", "words", "--out", out, "--model", model)
    array = np.load(out)
    assert (result.code, result.out) == (0, "")
    assert result.err == f"wrote 2 vectors of {array.shape[1]} numbers to {out}\n"
    np.testing.assert_allclose(array, Embedder.load(model).encode([folder / "red.png", "words"]), atol=2e-6)


def test_embed_reports_what_it_cannot_embed_and_exits_with_1(folder: Path, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "vectors.npy"
    arguments = ("embed", folder / "no.png", "--text", "words", "--model", model)
    lines = Result(*arguments)
    assert lines.code == 1
    assert [json.loads(line)["input"] for line in lines.out.splitlines()] == ["words"]
    assert lines.err.startswith(f"error: {folder / 'no.png'}: ")
    array = Result(*arguments, "--out", out)
    assert (array.code, out.exists()) == (1, False)
    assert array.err.endswith(f"{out} was not written, because its rows would not match the inputs\n")


# models, doctor


def test_models_lists_names_styles_and_whether_they_are_here() -> None:
    listed = json.loads(Result("models", "--json").out)["models"]
    assert [model["name"] for model in listed][:3] == ["bundled", "tiny", "VLM2Vec/VLM2Vec-V2.0"]
    assert listed[0] == {"name": "bundled", "prompt_style": None, "ready": True}
    assert {"name": "VLM2Vec/VLM2Vec-V2.0", "prompt_style": "vlm2vec"}.items() <= listed[2].items()
    table = Result("models").out.splitlines()
    assert [line.split()[0] for line in table] == [model["name"] for model in listed]


def test_a_model_of_which_a_part_is_in_the_hub_cache_is_not_ready(tmp_path: Path) -> None:
    name = "VLM2Vec/VLM2Vec-V2.0"
    adapter, base = (tmp_path / f"models--{repo.replace('/', '--')}" for repo in (name, "Qwen/Qwen2-VL-2B-Instruct"))

    def ready() -> bool:
        environment = os.environ | {"HF_HUB_CACHE": str(tmp_path), "HF_HUB_OFFLINE": "1"}
        command = [sys.executable, "-m", "vlm2vec", "models", "--json"]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
        return bool({one["name"]: one["ready"] for one in json.loads(done.stdout)["models"]}[name])

    def put(repo: Path, file: str, text: str = "") -> None:
        (repo / "refs").mkdir(parents=True, exist_ok=True)
        (repo / "refs" / "main").write_text("a" * 40)
        (repo / "snapshots" / ("a" * 40)).mkdir(parents=True, exist_ok=True)
        (repo / "snapshots" / ("a" * 40) / file).write_text(text)

    put(adapter, "adapter_config.json", json.dumps({"base_model_name_or_path": "Qwen/Qwen2-VL-2B-Instruct"}))
    assert not ready()
    put(adapter, "adapter_model.safetensors")
    put(base, "config.json", "{}")
    assert not ready()
    put(base, "model.safetensors")
    assert ready()


def test_doctor_names_what_is_missing_or_too_old_by_the_metadata_of_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needed = [
        "pillow>=2.0",
        "numpy>=999",
        "no-such-package>=1.5",
        "numpy>=1; extra == 'train'",
        "no-other-package; extra == 'all'",
        "no-third-package; extra == 'all'",
        "no-other-package; extra == 'train'",
        "toy[train]; extra == 'all'",
        "no-package-of-tests; extra == 'test'",
    ]
    lines = ["Metadata-Version: 2.1", "Name: toy", "Version: 1.0"]
    lines += [f"Requires-Dist: {one}" for one in needed]
    lines += [f"Provides-Extra: {extra}" for extra in ("all", "test", "train")]
    (tmp_path / "toy-1.0.dist-info").mkdir()
    (tmp_path / "toy-1.0.dist-info" / "METADATA").write_text("\n".join(lines) + "\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert list(_examine_packages("toy")) == [
        _Finding("pillow", version("pillow")),
        _Finding("numpy", version("numpy"), "too old: pip install --upgrade 'numpy>=999'"),
        _Finding("no-such-package", "missing", "install it: pip install 'no-such-package>=1.5'"),
        _Finding("no-other-package", "not installed; it comes with the extra 'train'"),
        _Finding("no-third-package", "not installed; it comes with the extra 'all'"),
    ]


def test_doctor_ends_with_what_is_wrong_and_its_exit_code_agrees() -> None:
    report = Result("doctor", "--json")
    findings = {finding["name"]: finding for finding in json.loads(report.out)["findings"]}
    wrong = [finding for finding in findings.values() if finding["advice"]]
    assert json.loads(report.out)["ok"] is (not wrong)
    assert report.code == (1 if wrong else 0)
    assert {
        "python",
        "torch",
        "lancedb",
        "CPU threads",
        "CUDA",
        "device",
        "model bundled",
        "model tiny",
        "hub cache",
        "video",
    } <= set(findings)
    assert "h264" in findings["video"]["value"]
    end = Result("doctor").out.split("\n\n")[1].splitlines()
    assert end == [f"{finding['name']}: {finding['advice']}" for finding in wrong] or end == ["Nothing is wrong."]
