"""The layers of docs/architecture.md hold: a package imports only those below it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from support.places import SRC

PACKAGE = SRC / "vlm2vec"
GROUND = {"errors", "extras", "text", "pages", "cores", "documents", "files", "processes", "items"}
ALLOWED = {
    "errors": set(),
    "extras": {"errors"},
    "text": set(),
    "pages": {"text"},
    "cores": set(),
    "documents": {"text"},
    "files": {"errors"},
    "processes": {"errors", "cores"},
    "items": {"errors", "text"},
    "media": GROUND,
    "model": {*GROUND, "media"},
    "data": {*GROUND, "media"},
    "vectors": {*GROUND, "media", "model"},
    "tasks": {*GROUND, "media", "data"},
    "sources": {*GROUND, "media", "data"},
    "fetching": {*GROUND, "media", "data", "tasks", "sources"},
    "training": {*GROUND, "media", "model", "data", "vectors", "sources", "fetching"},
    "search": {*GROUND, "media", "model", "vectors"},
    "evaluation": {*GROUND, "media", "model", "data", "vectors", "tasks", "fetching"},
    "cli": {
        *(*GROUND, "media", "model", "data", "vectors", "tasks", "sources", "fetching"),
        *("training", "search", "evaluation"),
    },
}
TORCH_ALLOWED = (
    *("model/families/", "model/adapters.py", "model/attention.py", "model/feed_forward.py", "model/loading.py"),
    *("model/packing.py", "model/pooling.py", "training/", "data/collate.py"),
)
OF_A_FAMILY = {"pixel_table", "token_head", "visual"}
KNOW_A_FAMILY = ("model/families/", "model/adapters.py", "model/packing.py", "training/")


def _room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def _below(path: Path, places: tuple[str, ...]) -> bool:
    """Whether a file is one of these, or lies in one of these folders."""
    return path.relative_to(PACKAGE).as_posix().startswith(places)


def _imports(node: ast.AST) -> list[str]:
    found = []
    for child in ast.walk(node):
        if isinstance(child, ast.Import):
            found += [alias.name for alias in child.names]
        elif isinstance(child, ast.ImportFrom) and child.module:
            found.append(child.module)
    return found


def _module_level_imports(tree: ast.Module) -> list[str]:
    """Imports that run when the module is imported: not those in functions or under TYPE_CHECKING."""
    found = []
    for statement in tree.body:
        if isinstance(statement, (ast.Import, ast.ImportFrom)):
            found += _imports(statement)
    return found


FILES = sorted(path for path in PACKAGE.rglob("*.py") if path.parent != PACKAGE or path.stem in ALLOWED)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_file_imports_only_what_lies_below_it(path: Path) -> None:
    room = _room(path)
    imported = {
        name.split(".")[1] for name in _imports(ast.parse(path.read_text("utf-8"))) if name.startswith("vlm2vec.")
    }
    assert imported - {room} <= ALLOWED[room]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_torch_is_imported_at_module_level_only_where_tensors_are_made(path: Path) -> None:
    modules = _module_level_imports(ast.parse(path.read_text("utf-8")))
    top = {name.split(".")[0] for name in modules}
    if not _below(path, TORCH_ALLOWED):
        assert top.isdisjoint({"torch", "transformers", "safetensors"})
        # Nor by way of another file.
        files = {name.replace(".", "/").removeprefix("vlm2vec/") + ".py" for name in modules}
        assert [file for file in files if _below(PACKAGE / file, TORCH_ALLOWED)] == []
    assert top.isdisjoint({"peft", "lancedb", "av", "pypdfium2"})


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_families_and_the_trainer_look_inside_a_model(path: Path) -> None:
    if _below(path, KNOW_A_FAMILY):
        return
    tree = ast.parse(path.read_text("utf-8"))
    assert [name for name in _imports(tree) if name.startswith("vlm2vec.model.families")] == []
    assert {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}.isdisjoint(OF_A_FAMILY)


def test_no_file_has_more_than_400_lines() -> None:
    assert [p.name for p in FILES if len(p.read_text("utf-8").splitlines()) > 400] == []
