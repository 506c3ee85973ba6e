"""The layers of docs/architecture.md hold: a package imports only those below it."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

import pytest

from support.places import SRC, tree_of

PACKAGE = SRC / "vlm2vec"
GROUND = {"errors", "extras", "text", "pages", "cores", "documents", "files", "processes", "items"}
ALLOWED = {
    "errors": set(),
    "extras": {"errors", "items"},
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
    *("model/families/", "model/adapters.py", "model/attention.py", "model/loading.py", "training/", "data/collate.py"),
)
# A file answers one question. One that takes more than 400 lines to do so says why it is not two.
OVER_400: dict[str, str] = {
    "sources/forms.py": "one union of fields: what all sources say, and each form with its options",
    "media/image.py": "one picture from its bytes to how its owner sees it; each oddity of a format is a few lines",
    "media/timeline.py": "one clock, from the packets to the frames that are picked",
    "media/worker.py": "both ends of one line: whoever changes a message changes the other end",
    "search/store.py": "one contract: values and the protocol that has them in its signatures",
    "vectors/ranking.py": "ranking by one vector and by tokens differ in the score alone",
    "vectors/store.py": "a store is its shards, and their damage is told of as its own",
}
OF_A_FAMILY = {"pixel_table", "token_head", "visual"}
KNOW_A_FAMILY = ("model/families/", "model/adapters.py", "training/")


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


def _module(path: Path) -> str:
    return ".".join(path.relative_to(SRC).with_suffix("").parts).removesuffix(".__init__")


def _run_time_imports(tree: ast.Module) -> set[str]:
    """The modules that a file imports anywhere, and those that its names may be; not those for types alone."""
    found: set[str] = set()
    types_only = {
        child
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for child in ast.walk(node)
    }
    for node in ast.walk(tree):
        if node in types_only:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


FILES = sorted(path for path in PACKAGE.rglob("*.py") if path.parent != PACKAGE or path.stem in ALLOWED)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_file_imports_only_what_lies_below_it(path: Path) -> None:
    room = _room(path)
    imported = {name.split(".")[1] for name in _imports(tree_of(path)) if name.startswith("vlm2vec.")}
    assert imported - {room} <= ALLOWED[room]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_torch_is_imported_at_module_level_only_where_tensors_are_made(path: Path) -> None:
    modules = _module_level_imports(tree_of(path))
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
    tree = tree_of(path)
    assert [name for name in _imports(tree) if name.startswith("vlm2vec.model.families")] == []
    assert {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}.isdisjoint(OF_A_FAMILY)


def test_a_file_over_400_lines_has_a_reason() -> None:
    long = {str(path.relative_to(PACKAGE)) for path in FILES if len(path.read_text("utf-8").splitlines()) > 400}
    assert long == OVER_400.keys()


def test_no_modules_import_each_other_in_a_circle() -> None:
    modules = {_module(path): path for path in PACKAGE.rglob("*.py")}
    waiting = {name: _run_time_imports(tree_of(path)) for name, path in modules.items()}
    waiting = {name: imported & modules.keys() - {name} for name, imported in waiting.items()}
    # Those that import nothing which still waits are done; a circle never is.
    while done := [name for name, imported in waiting.items() if not imported]:
        waiting = {name: imported - set(done) for name, imported in waiting.items() if imported}
    assert waiting == {}


def test_no_two_classes_have_the_same_name() -> None:
    trees = [tree_of(path) for path in PACKAGE.rglob("*.py")]
    names = [node.name for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    assert [name for name, number in Counter(names).items() if number > 1 and not name.startswith("_")] == []
