"""Searching one's files needs the base; what comes with an extra is imported only where it is used."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import PIL.Image
import pytest

from support.places import ROOT, SRC, tree_of
from support.train_files import write_config
from vlm2vec.errors import MissingError
from vlm2vec.extras import require

PACKAGE = SRC / "vlm2vec"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
EXTRAS = {
    extra: [one for one in needed if not one.startswith("vlm2vec[")]
    for extra, needed in PROJECT["optional-dependencies"].items()
    if extra not in ("test", "check")
}
FILES = sorted(PACKAGE.rglob("*.py"))
# Imported by `Embedder.load`, which names the extra, by a command that has asked for its extra, or after a look.
WITH_TORCH = (
    *("model/families/", "model/adapters.py", "model/attention.py", "model/loading.py", "training/", "data/collate.py"),
    *("model/similarity.py", "processes.py", "cli/doctor.py", "cli/evaluate.py"),
)
OF_MODELS = {"torch", "transformers", "peft", "safetensors"}


def _names(requirements: list[str]) -> set[str]:
    """Of packages, as their modules are called."""
    return {re.split(r"[\[<>=;]", one)[0].lower().replace("-", "_") for one in requirements}


IN_BASE = _names(PROJECT["dependencies"])
ONLY_IN_EXTRAS = set().union(*map(_names, EXTRAS.values())) - IN_BASE


def _imported(tree: ast.AST) -> Iterator[tuple[ast.stmt, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node, alias.name.split(".")[0]) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node, node.module.split(".")[0]


def _for_type_checking(tree: ast.AST) -> set[ast.AST]:
    """The statements that run for type checkers only."""
    return {
        child
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for child in ast.walk(node)
    }


def test_the_base_has_none_of_the_large_packages_that_search_does_not_need() -> None:
    large = {"accelerate", "datasets", "lancedb", "matplotlib", "pyarrow", "rapidocr", "tensorboard"}
    rare = {"pillow_heif", "pylibjxl", "rawpy"}
    assert large | rare | OF_MODELS == ONLY_IN_EXTRAS


def test_the_same_package_is_wanted_in_the_same_versions_everywhere() -> None:
    wanted: dict[str, set[str]] = {}
    for one in [*PROJECT["dependencies"], *(one for needed in EXTRAS.values() for one in needed)]:
        wanted.setdefault(next(iter(_names([one]))), set()).add(one)
    assert [versions for versions in wanted.values() if len(versions) > 1] == []


def test_every_package_of_the_base_and_of_each_extra_is_pinned() -> None:
    pinned = _names((ROOT / "constraints.txt").read_text("utf-8").split())
    needed = [*PROJECT["dependencies"], *(one for extra in PROJECT["optional-dependencies"].values() for one in extra)]
    assert _names(needed) - {"vlm2vec"} <= pinned


def test_all_is_every_extra_for_users() -> None:
    [everything] = PROJECT["optional-dependencies"]["all"]
    assert everything == f"vlm2vec[{','.join(extra for extra in EXTRAS if extra != 'all')}]"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_a_package_of_an_extra_is_never_imported_at_module_level(path: Path) -> None:
    tree = tree_of(path)
    at_once = {name for node, name in _imported(tree) if node in tree.body}
    assert not at_once & _extras_to_ask_for(path)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_a_module_refuses_its_work_by_name_where_a_package_of_an_extra_is_missing(path: Path) -> None:
    tree = tree_of(path)
    silent = _for_type_checking(tree)
    imported = {name for node, name in _imported(tree) if node not in silent} & _extras_to_ask_for(path)
    if not _refuses_by_itself(path):
        assert imported <= {module for _, module in _required(tree)}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_an_extra_that_an_error_names_has_the_package(path: Path) -> None:
    for extra, module in _required(tree_of(path)):
        assert module in _brought_by(extra)


def _extras_to_ask_for(path: Path) -> set[str]:
    """Packages that a module may import only after `require`."""
    under_torch = path.relative_to(PACKAGE).as_posix().startswith(WITH_TORCH)
    return ONLY_IN_EXTRAS - OF_MODELS if under_torch else ONLY_IN_EXTRAS


def _required(tree: ast.AST) -> set[tuple[str, str]]:
    """The extras and modules that calls of `require` name, or the constant `NEEDED` that some of them take."""
    named = [
        [ast.literal_eval(argument) for argument in node.args if not isinstance(argument, ast.Starred)]
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "require"
    ]
    named += [
        ast.literal_eval(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == "NEEDED"
    ]
    return {(extra, module) for extra, *modules in filter(None, named) for module in modules}


def _brought_by(extra: str) -> set[str]:
    """The packages of an extra and of the extras that it takes in."""
    wanted = PROJECT["optional-dependencies"][extra]
    others = [name for one in wanted if one.startswith("vlm2vec[") for name in one[8:-1].split(",")]
    return _names(wanted).union(*map(_brought_by, others))


def _refuses_by_itself(path: Path) -> bool:
    """Whether a module, or the front door of its package, has an error of its own for a package that is missing."""
    return any("MissingError(" in one.read_text("utf-8") for one in (path, path.with_name("__init__.py")))


def test_missing_packages_are_refused_with_the_extra_that_has_them() -> None:
    with pytest.raises(MissingError) as caught:
        require("train", "json", "no_such_package")
    assert str(caught.value) == "no_such_package is not installed; install it: pip install 'vlm2vec[train]'"
    require("train", "json")


# Without the extras


def _without_extras(*arguments: str) -> subprocess.CompletedProcess[str]:
    """A command in a process in which no package of an extra can be imported, nor pandas, which they bring."""
    blocked = dict.fromkeys([*sorted(ONLY_IN_EXTRAS - {"accelerate"}), "pandas"])
    code = (
        f"import sys; sys.modules.update({blocked!r}); sys.argv = ['vlm2vec', *{arguments!r}]\n"
        "from vlm2vec.cli.app import main\nmain()"
    )
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("arguments", [("--help",), ("tasks", "--json"), ("models", "--json")], ids=lambda one: one[0])
def test_a_command_that_needs_no_extra_runs_without(arguments: tuple[str, ...]) -> None:
    done = _without_extras(*arguments)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout


@pytest.mark.slow
def test_doctor_runs_without_the_extras() -> None:
    done = _without_extras("doctor", "--json")
    assert done.stderr == ""
    assert {"python", "device", "model bundled", "video"} <= {
        one["name"] for one in json.loads(done.stdout)["findings"]
    }


def test_a_model_that_needs_an_extra_ends_in_one_line_that_names_it() -> None:
    done = _without_extras("embed", "--text", "a red square", "--model", "tiny")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "error: torch is not installed, which tiny needs; install it: pip install 'vlm2vec[models]'\n"
    )


@pytest.mark.slow
def test_vectors_are_made_without_the_extras() -> None:
    done = _without_extras("embed", "--text", "a red square")
    assert (done.returncode, done.stderr) == (0, "")
    assert len(json.loads(done.stdout)["vector"]) > 1


@pytest.mark.slow
def test_files_are_indexed_and_searched_without_the_extras(tmp_path: Path) -> None:
    PIL.Image.new("RGB", (56, 56), "red").save(tmp_path / "red.png")
    made = _without_extras("index", str(tmp_path), "--json")
    assert (made.returncode, made.stderr) == (0, "")
    assert json.loads(made.stdout)["added"] == 1
    found = _without_extras("search", "a red square", str(tmp_path), "--json", "--html", str(tmp_path / "hits.html"))
    assert found.returncode == 0, found.stderr
    assert [hit["path"] for hit in json.loads(found.stdout)["hits"]] == ["red.png"]
    assert (tmp_path / "hits.html").is_file()


def test_an_evaluation_without_its_extra_ends_in_one_line_that_names_it() -> None:
    done = _without_extras("evaluate", "--limit", "1")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: datasets is not installed; install it: pip install 'vlm2vec[evaluate]'\n"


@pytest.mark.slow
def test_training_without_its_extra_ends_before_anything_is_loaded(tmp_path: Path) -> None:
    done = _without_extras("train", str(write_config(tmp_path)))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: torch is not installed; install it: pip install 'vlm2vec[train]'\n"
    assert not (tmp_path / "out").exists()


def test_a_public_name_that_needs_an_extra_names_it() -> None:
    blocked = dict.fromkeys(sorted(OF_MODELS))
    code = f"import sys; sys.modules.update({blocked!r})\nimport vlm2vec\nvlm2vec.train"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1] == (
        "vlm2vec.errors.MissingError: torch is not installed, which train needs; install it: pip install "
        "'vlm2vec[train]'"
    )
