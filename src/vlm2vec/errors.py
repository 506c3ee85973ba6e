"""What a user can do wrong, or meet: one class each.

    VLM2VecError
    ├── InputError ── VectorError, which is a ModelError too
    ├── MediaError ── LimitError
    ├── ModelError ── AdapterError, StyleError
    ├── IndexFolderError, ConfigError, DataError
    └── StorageError, HubError, BusyError, MissingError

Every message says what happened, with which value, and where. What to do next is in the message too where it is the
same for everybody; where the command line, the server and Python have different words for it, it is a `Hint`. Anything
that is not a `VLM2VecError` is a fault of this package.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple, Self, TypeAlias

Action: TypeAlias = Literal[
    "make_index", "rebuild", "rebuild_with", "other_index", "other_model", "other_out", "other_data", "other_path",
    "resume", "no_resume", "single_vectors", "evaluate", "download", "allow_outside", "list_tasks", "teach",
    "processes", "doctor", "extra",
]  # fmt: skip


class Hint(NamedTuple):
    """What would help; each surface has its own words for it.

    Args:
        action: what to do.
        about: what it is done with, such as the name of a benchmark, a model or an extra.
    """

    action: Action
    about: str = ""


IN_PYTHON: Mapping[Action, str] = {
    "make_index": "Library.open(folder).sync() makes one",
    "rebuild": "Library.open(folder, rebuild=True) makes it anew",
    "rebuild_with": "Library.open(folder, model={about!r}, rebuild=True) makes it anew",
    "other_index": "give another folder as index=",
    "other_model": "or open it with model={about!r}",
    "other_out": "give another folder as out=",
    "other_data": "give another folder as root=",
    "other_path": "give another path",
    "resume": "continue it with resume=True",
    "no_resume": "leave out resume=True",
    "single_vectors": "or rank single vectors: leave out late_interaction=True",
    "evaluate": "evaluate(..., out={about!r}), with the arguments that it was begun with, continues it",
    "download": "evaluate(..., download=True) fetches it",
    "allow_outside": "allow other places with allow_outside=True",
    "list_tasks": "get_tasks({about!r}) lists all",
    "teach": "vlm2vec.write_teacher makes them",
    "processes": "start {about}, or change 'processes'",
    "doctor": "'vlm2vec doctor' lists what this machine has",
    "extra": "install it: pip install 'vlm2vec[{about}]'",
}
"""What a hint means to a caller in Python; `{about}` stands for what it is about."""


class VLM2VecError(Exception):
    """Base of every error that a user can cause and mend.

    Args:
        message: what happened, with which value, and where.
        hints: what to do next, where that is worded otherwise on the command line than in Python.
    """

    def __init__(self, message: str, *hints: Hint | Action) -> None:
        super().__init__(message, *hints)
        self.message = message
        self.hints = tuple(Hint(hint) if isinstance(hint, str) else hint for hint in hints)

    def __str__(self) -> str:
        return self.worded(IN_PYTHON)

    def worded(self, words: Mapping[Action, str]) -> str:
        """The message, and what to do next in these words."""
        advice = [words[hint.action].format(about=hint.about) for hint in self.hints]
        # A message may end in a question: did you mean this?
        return (" " if self.message.endswith("?") else "; ").join(filter(None, [self.message, "; ".join(advice)]))

    def of(self, origin: str) -> Self:
        """The same error with what it is about in front of it."""
        return type(self)(f"{origin}: {self.message}", *self.hints)


class InputError(VLM2VecError, ValueError):
    """An item or an argument makes no sense."""


class MediaError(VLM2VecError, ValueError):
    """A file or byte string cannot be read as the medium it claims to be."""


class LimitError(MediaError):
    """A medium is larger than the limits allow."""


class ModelError(VLM2VecError):
    """A checkpoint is missing, incomplete or of an unknown kind."""


class VectorError(InputError, ModelError):
    """A model makes of an item a vector that is not finite, or zero."""


class AdapterError(ModelError):
    """An adapter's tensors do not fit its base model."""


class StyleError(ModelError):
    """A prompt style is unknown, or none could be inferred."""


class IndexFolderError(VLM2VecError):
    """A search index is missing, damaged or made by another model."""


class ConfigError(VLM2VecError):
    """A configuration, an option or a name holds a mistake."""


class DataError(VLM2VecError):
    """Rows, score files, stored vectors or a run's checkpoints are missing or damaged."""


class StorageError(VLM2VecError):
    """A disk is full, or a folder may not be written."""


class HubError(VLM2VecError):
    """A hub cannot be reached, or does not have what is asked for."""


class BusyError(VLM2VecError):
    """Another process holds what is needed; later it may be free."""


class MissingError(VLM2VecError):
    """A package that this work needs is not installed."""
