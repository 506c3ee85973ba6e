"""Which model makes the vectors of an index, and are those of another one of the same kind?"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vlm2vec.errors import Action, Hint, IndexFolderError
from vlm2vec.model.checkpoint import BUNDLED, SHIPPED
from vlm2vec.search.store import IndexInfo

if TYPE_CHECKING:
    from vlm2vec.model.embedder import Embedder


@dataclass(slots=True)
class LazyModel:
    """A model that is loaded when it is first needed: the one with this name, else the default one."""

    name: str | None
    device: str | None
    dtype: str | None
    embedder: Embedder | None = None

    def load(self) -> Embedder:
        if self.embedder is None:
            from vlm2vec.model.embedder import Embedder

            self.embedder = Embedder.load(
                self.name or BUNDLED,
                device=self.device,
                dtype=self.dtype or "auto",  # type: ignore[arg-type]  # load checks it.
            )
        return self.embedder


def chosen_model(model: str | Path | Embedder | None, device: str | None, dtype: str | None) -> LazyModel:
    """The model that a caller has named or loaded; without one, that of the index is still to be taken."""
    if not isinstance(model, (str, Path)):
        return LazyModel(None, device, dtype, model)
    # The index outlives the current folder, against which a model's folder may be given.
    is_folder = str(model) not in SHIPPED and Path(model).is_dir()
    return LazyModel(str(Path(model).resolve() if is_folder else model), device, dtype)


def check_model(path: Path, info: IndexInfo, embedder: Embedder) -> None:
    """Raise IndexFolderError unless `embedder` makes vectors like those of the index."""
    if embedder.fingerprint == info.fingerprint:
        return
    hints: list[Hint | Action] = ["rebuild", "other_index"]
    if embedder.name != info.model:
        # Without a name, an index is made anew with the model that made it before.
        why, hints = "", [Hint("rebuild_with", embedder.name), "other_index", Hint("other_model", info.model)]
    elif info.dtype not in (None, embedder.dtype):
        why = (
            f": it computes in {embedder.dtype} here, and did in {info.dtype} there; load the model with "
            f"dtype='{info.dtype}'"
        )
    else:
        why = ": its weights or settings have changed"
    raise IndexFolderError(
        f"the index {path} was made by the model '{info.model}' ({info.fingerprint[:8]}), and this is "
        f"'{embedder.name}' ({embedder.fingerprint[:8]}){why}. Their vectors cannot be compared",
        *hints,
    )
