"""How does a run keep its logs, a model that loads, and all that it needs to continue as if it had never stopped?"""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import InitVar, dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from pydantic import BaseModel, NonNegativeInt, TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer

from vlm2vec.documents import load_json, parse_json
from vlm2vec.errors import ConfigError, DataError, StorageError
from vlm2vec.files import locked, reason, write_atomically, writing
from vlm2vec.model.loading import TOKEN_HEAD
from vlm2vec.processes import Launch
from vlm2vec.training.config import TrainConfig
from vlm2vec.training.trainee import Trainee

T = TypeVar("T")

CARD = "README.md"
_STATE = "training_state"
_CONFIG = "train_config.json"
_FREE = {
    "out",
    "processes",
    "parallel",
    "loader_workers",
    "token_budget",
    "trackers",
    "save_every",
    "keep",
    "max_bad_rows",
}
"""Fields that may differ when a run continues: none changes which rows come. Another number of processes only draws
other dropout."""


@dataclass(frozen=True)
class TrainingFolder:
    """The folder of a run, which need not exist yet."""

    path: Path

    @property
    def is_finished(self) -> bool:
        """Whether a run has come to its end: it writes its model, then its card."""
        return (self.path / _CONFIG).is_file() and (self.path / CARD).is_file()

    @property
    def checkpoints(self) -> list[Path]:
        """Complete checkpoints, oldest first. One that was cut off while it was written is none."""
        found = [path for path in self.path.glob("checkpoint-*") if re.fullmatch(r"checkpoint-\d+", path.name)]
        return sorted(found, key=lambda path: int(path.name.rpartition("-")[2]))

    def check(self, *, resume: bool) -> None:
        """Refuse to start a run where another one lies, and to continue one that is finished or missing.

        Raises:
            ConfigError: it is so.
        """
        if self.path.exists() and not self.path.is_dir():
            raise ConfigError(f"{self.path} is no folder, so no run can lie there", "other_out")
        if resume and self.is_finished:
            raise ConfigError(f"{self.path} holds a finished run, so there is nothing to continue", "other_out")
        if resume and not self.checkpoints:
            raise ConfigError(f"{self.path} holds no checkpoint, so there is nothing to continue", "no_resume")
        if not resume and self.checkpoints:
            raise ConfigError(f"{self.path} already holds a run", "resume", "other_out")
        if not resume and (self.path / _CONFIG).is_file():
            raise ConfigError(f"{self.path} already holds a finished run", "other_out")

    def alone(self, first: bool) -> AbstractContextManager[None]:
        """Make the folder and keep other runs out of it; only the first process of a run holds it.

        Raises:
            BusyError: another run works there. StorageError: the folder cannot be made or written.
        """
        if not first:
            return nullcontext()
        with writing(self.path, "other_out"):
            self.path.mkdir(parents=True, exist_ok=True)
        return locked(self.path / "run.lock", f"another run is training in {self.path}", "other_out")

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Turn a failed write into an error that says how to continue.

        Raises:
            StorageError: the disk is full, or the folder may not be written.
        """
        try:
            yield
        except (OSError, SafetensorError) as error:
            why = reason(error)
            told = f"cannot write to {self.path}: {why}; free some space or mend its rights"
            if not (whole := self.checkpoints):
                raise StorageError(f"{told}, then start again") from error
            raise StorageError(f"{told}; the run is kept up to {whole[-1].name}", "resume") from error

    def check_same_run(self, config: TrainConfig, checkpoint: Path | None = None) -> None:
        """Refuse to continue a checkpoint, or without one to count the run as done, if its configuration is another.

        Raises:
            ConfigError: it differs in a field that changes the result; each is named.
            DataError: the file that holds it is damaged.
        """
        folder = checkpoint or self.path
        before = _load(folder / _CONFIG, _object)
        # Another version may lack fields, whose defaults held then, or have others, which are compared as they are
        # written, as is a text that no JSON in UTF-8 holds.
        with suppress(ValidationError, PydanticSerializationError):
            before = json.loads(TrainConfig.model_validate(before).model_dump_json())
        now = json.loads(config.model_dump_json())
        keys = sorted((now.keys() | before.keys()) - _FREE)
        if changed := [change for key in keys for change in _changes(key, before, now)]:
            raise ConfigError(
                f"{folder} comes from another configuration, so it is another run: {'; '.join(changed)}. "
                "Put that back, or start another run",
                "other_out",
            )

    def tidy(self, keep: int, best: str | None) -> None:
        """Delete all but the latest checkpoints and the best one."""
        for folder in self.checkpoints[:-keep]:
            if folder.name != best:
                shutil.rmtree(folder)

    def read_log(self, name: str) -> list[dict[str, Any]]:
        """Rows of a log, each with a step; a last line that was cut off while it was written is left out."""
        path, rows = self.path / name, []
        for line in path.read_bytes().split(b"\n") if path.is_file() else ():
            with suppress(ValueError):
                row = parse_json(line)
                if isinstance(row, dict) and isinstance(row.get("step"), int):
                    rows.append(row)
        return rows

    def cut_log(self, name: str, last_step: int) -> None:
        """Leave out the rows of later steps."""
        kept = [row for row in self.read_log(name) if row["step"] <= last_step]
        with self.writing():
            write_atomically(self.path / name, "".join(json.dumps(row) + "\n" for row in kept))

    def add_to_log(self, name: str, row: Mapping[str, Any]) -> None:
        with self.writing(), (self.path / name).open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


@dataclass
class Checkpoints:
    """Weights, moments and state of a run, on their way to its folder and back.

    Args:
        sizes: rows of each source.

    Attributes:
        folder: of the run.
        state: what the loop changes besides weights and moments.
    """

    trainee: Trainee
    objective: nn.Module
    optimizer: Optimizer
    config: TrainConfig
    sizes: InitVar[Mapping[str, int]]

    def __post_init__(self, sizes: Mapping[str, int]) -> None:
        self.folder = TrainingFolder(self.config.out)
        self.state = _RunState(sizes=dict(sizes))

    def save(self) -> Path:
        """Write `checkpoint-N` whole or not at all. All processes call it; the first one writes."""
        target = self.folder.path / f"checkpoint-{self.state.step}"
        tensors = dict(self._state_tensors())
        weights = self._weights()
        # One that is there is of the same step of the same run.
        if Launch.own().rank > 0 or target.is_dir():
            return target
        partial = target.with_name(target.name + ".partial")
        with self.folder.writing():
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True, exist_ok=True)
            save_file(tensors, partial / f"{_STATE}.safetensors")
            (partial / f"{_STATE}.json").write_text(json.dumps(self.state.model_dump(), indent=1) + "\n", "utf-8")
            self._write_model(partial, weights)
            for path in (*partial.iterdir(), partial):
                _flush(path)
            partial.rename(target)
            _flush(target.parent)
        return target

    def resume(self) -> None:
        """Put weights, moments and state back to the latest checkpoint of the run.

        Raises:
            ConfigError: the run had another configuration, in a field that changes the result; each is named.
            DataError: sources have other sizes than in the run, or the checkpoint is damaged.
        """
        folder, sizes = self.folder.checkpoints[-1], self.state.sizes
        self.folder.check_same_run(self.config, folder)
        # A state of an older version lacks the sizes.
        self.state = _load(
            folder / f"{_STATE}.json", lambda path: _RunState.model_validate({"sizes": sizes} | _object(path))
        )
        if changed := [
            f"{name} had {size:,} rows, has {sizes.get(name, 0):,}"
            for name, size in self.state.sizes.items()
            if sizes.get(name, 0) != size
        ]:
            raise DataError(
                f"other rows would come than in the run of {folder}: {'; '.join(changed)}. Put the sources back as "
                f"they were, or start another run whose 'init' is {folder}"
            )
        path = folder / f"{_STATE}.safetensors"
        tensors: dict[str, Tensor] = _load(path, load_file)
        moments = ("exp_avg", "exp_avg_sq", "step") if self.state.step else ()
        for name, parameter in self._trained():
            for kind in ("parameter", *moments):
                found = tensors.get(f"{kind}.{name}")
                if found is None or (kind != "step" and found.shape != parameter.shape):
                    raise _damaged(path, f"{kind}.{name} is missing or of another shape")
        for name, parameter in self._trained():
            _assign(parameter, tensors[f"parameter.{name}"])
            if moments:
                # The number of steps stays on the CPU, where AdamW looks at it in every step.
                self.optimizer.state[parameter] = {
                    kind: tensors[f"step.{name}"]
                    if kind == "step"
                    else _assign(torch.zeros_like(parameter), tensors[f"{kind}.{name}"])
                    for kind in moments
                }

    def write_model(self) -> None:
        """Write the model into the folder of the run. All processes call it; the first one writes."""
        weights = self._weights()
        if Launch.own().rank == 0:
            with self.folder.writing():
                self._write_model(self.folder.path, weights)

    def _weights(self) -> dict[str, Tensor]:
        """The tensors of the model on the CPU, from all processes that hold a part of them."""
        trainee = self.trainee
        if trainee.attached is not None:
            from peft import get_peft_model_state_dict

            # Otherwise peft asks the hub whether the base's vocabulary has grown.
            weights = get_peft_model_state_dict(trainee.attached, save_embedding_layers=False)
        else:
            weights = dict(trainee.backbone.stored_weights())
        if trainee.backbone.token_head is not None:
            weights = weights | {TOKEN_HEAD: trainee.backbone.token_head.weight.detach()}
        return {name: _full(tensor) for name, tensor in weights.items()}

    def _write_model(self, folder: Path, weights: dict[str, Tensor]) -> None:
        """All that the family writes, or an adapter in float32 and what belongs beside it; the run's configuration."""
        backbone, attached = self.trainee
        if (head := weights.pop(TOKEN_HEAD, None)) is not None:
            save_file({"weight": head}, folder / f"{TOKEN_HEAD}.safetensors")
        if attached is not None:
            adapter = attached.peft_config["default"]
            adapter.base_model_name_or_path = self.config.init
            adapter.save_pretrained(str(folder))
            save_file(weights, folder / "adapter_model.safetensors")
        backbone.write(folder, weights if attached is None else None)
        (folder / _CONFIG).write_text(self.config.model_dump_json(indent=1) + "\n", "utf-8")
        # safetensors ignores the umask, which the other files follow.
        mode = stat.S_IMODE((folder / _CONFIG).stat().st_mode)
        for path in folder.glob("*.safetensors"):
            path.chmod(mode)

    def _trained(self) -> Iterator[tuple[str, nn.Parameter]]:
        for number, module in enumerate((self.trainee.backbone, self.objective)):
            for name, parameter in module.named_parameters():
                if parameter.requires_grad:
                    yield f"{number}.{name}", parameter

    def _state_tensors(self) -> Iterator[tuple[str, Tensor]]:
        for name, parameter in self._trained():
            yield f"parameter.{name}", _full(parameter)
            for kind, value in self.optimizer.state.get(parameter, {}).items():
                yield f"{kind}.{name}", _full(value)


class _RunState(BaseModel):
    """Values that the loop changes besides weights and moments.

    Args:
        step: steps done.
        rows: rows seen on all processes.
        bad_rows: messages of those that could not be read.
        best: checkpoint with the best validation so far, and its recall at 1.
        heard: teachers that knew an item so far.
        sizes: rows of each source, on which the order of rows depends.
    """

    step: NonNegativeInt = 0
    rows: NonNegativeInt = 0
    bad_rows: list[str] = []
    best: tuple[str, float] | None = None
    heard: list[str] = []
    sizes: dict[str, int] = {}


def _object(path: Path) -> dict[str, Any]:
    return TypeAdapter(dict[str, Any]).validate_python(load_json(path))


def _load(path: Path, read: Callable[[Path], T]) -> T:
    """A file of a checkpoint. Raises DataError if it is damaged."""
    try:
        return read(path)
    except ValidationError as error:
        raise _damaged(path, str(error.errors()[0]["msg"])) from None
    except (OSError, SafetensorError, ValueError) as error:
        raise _damaged(path, str(error)) from None


def _damaged(path: Path, why: str) -> DataError:
    return DataError(
        f"the checkpoint file {path} cannot be read: {why}; delete {path.parent.name} to fall back to the checkpoint "
        "before it",
        "resume",
    )


def _changes(key: str, before: Mapping[str, Any], now: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """The differences under a key, each by its path of keys."""
    was, is_now = before.get(key), now.get(key)
    if isinstance(was, dict) and isinstance(is_now, dict):
        for inner in sorted(was.keys() | is_now.keys()):
            yield from _changes(inner, was, is_now, f"{path}{key}.")
    elif was != is_now:
        yield f"{path}{key} was {was!r}, is {is_now!r}"


def _full(tensor: Tensor) -> Tensor:
    tensor = tensor.detach()
    whole = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
    return whole.to("cpu", copy=True).contiguous()


@torch.no_grad()
def _assign(target: Tensor, value: Tensor) -> Tensor:
    if isinstance(target, DTensor):
        value = distribute_tensor(value.to(target.device), target.device_mesh, target.placements)
    return target.copy_(value)


def _flush(path: Path) -> None:
    """Let a file's content reach the disk before its new name does."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
