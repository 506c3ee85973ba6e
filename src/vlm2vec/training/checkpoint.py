"""How does a run keep a model that loads, and all that it needs to continue as if it had never stopped?"""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
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

from vlm2vec.documents import load_json
from vlm2vec.errors import ConfigError, DataError, StorageError
from vlm2vec.files import locked, reason, writing
from vlm2vec.model.loading import TOKEN_HEAD, no_progress_bar
from vlm2vec.processes import Launch
from vlm2vec.training.config import TrainConfig
from vlm2vec.training.trainee import Trainee

T = TypeVar("T")

_STATE = "training_state"
_CONFIG = "train_config.json"
CARD = "README.md"
_LOCK = "run.lock"
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


class RunState(BaseModel):
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


def check_out(out: Path, *, resume: bool) -> None:
    """Refuse to start a run where another one lies, and to continue one that is finished or missing.

    Raises:
        ConfigError: it is so.
    """
    if out.exists() and not out.is_dir():
        raise ConfigError(f"{out} is no folder, so no run can lie there", "other_out")
    whole, finished = checkpoints(out), (out / _CONFIG).is_file()
    if resume and is_finished(out):
        raise ConfigError(f"{out} holds a finished run, so there is nothing to continue", "other_out")
    if resume and not whole:
        raise ConfigError(f"{out} holds no checkpoint, so there is nothing to continue", "no_resume")
    if not resume and whole:
        raise ConfigError(f"{out} already holds a run", "resume", "other_out")
    if not resume and finished:
        raise ConfigError(f"{out} already holds a finished run", "other_out")


def is_finished(out: Path) -> bool:
    """Whether a run has come to its end: it writes its model, then its card."""
    return (out / _CONFIG).is_file() and (out / CARD).is_file()


def alone(out: Path, first: bool) -> AbstractContextManager[None]:
    """Keep other runs out of a folder, which is made; only the first process of a run holds it.

    Raises:
        BusyError: another run works there. StorageError: the folder cannot be made or written.
    """
    if not first:
        return nullcontext()
    with writing(out, "other_out"):
        out.mkdir(parents=True, exist_ok=True)
    return locked(out / _LOCK, f"another run is training in {out}", "other_out")


@contextmanager
def writing_to(out: Path) -> Iterator[None]:
    """Turn a failed write into a run's folder into an error that says how to continue.

    Raises:
        StorageError: the disk is full, or the folder may not be written.
    """
    try:
        yield
    except (OSError, SafetensorError) as error:
        why = reason(error) if isinstance(error, OSError) else str(error)
        told = f"cannot write to {out}: {why}; free some space or mend its rights"
        if not (whole := checkpoints(out)):
            raise StorageError(f"{told}, then start again") from error
        raise StorageError(f"{told}; the run is kept up to {whole[-1].name}", "resume") from error


def checkpoints(out: Path) -> list[Path]:
    """Complete checkpoints of a run, oldest first. One that was cut off while it was written is none."""
    found = [path for path in out.glob("checkpoint-*") if re.fullmatch(r"checkpoint-\d+", path.name)]
    return sorted(found, key=lambda path: int(path.name.rpartition("-")[2]))


def save_checkpoint(
    trainee: Trainee, objective: nn.Module, optimizer: Optimizer, state: RunState, config: TrainConfig
) -> Path:
    """Write `checkpoint-N` whole or not at all. All processes call it; the first one writes."""
    out = config.out
    target = out / f"checkpoint-{state.step}"
    tensors = dict(_state_tensors(trainee.backbone, objective, optimizer))
    weights = full_weights(trainee)
    # One that is there is of the same step of the same run.
    if Launch.own().rank > 0 or target.is_dir():
        return target
    partial = target.with_name(target.name + ".partial")
    with writing_to(out):
        shutil.rmtree(partial, ignore_errors=True)
        write_model(partial, trainee, weights, config)
        save_file(tensors, partial / f"{_STATE}.safetensors")
        (partial / f"{_STATE}.json").write_text(json.dumps(state.model_dump(), indent=1) + "\n", "utf-8")
        _open_to_others(partial)
        for path in (*partial.iterdir(), partial):
            _flush(path)
        partial.rename(target)
        _flush(out)
    return target


def _open_to_others(folder: Path) -> None:
    """Give weights the mode of a folder's other files, which follows the umask; safetensors ignores it."""
    mode = stat.S_IMODE((folder / _CONFIG).stat().st_mode)
    for path in folder.glob("*.safetensors"):
        path.chmod(mode)


def resume_checkpoint(
    trainee: Trainee, objective: nn.Module, optimizer: Optimizer, config: TrainConfig, sizes: Mapping[str, int]
) -> RunState:
    """Put weights, moments and state back to the latest checkpoint of a run.

    Args:
        sizes: rows of each source.

    Raises:
        ConfigError: the run had another configuration, in a field that changes the result; each is named.
        DataError: sources have other sizes than in the run, or the checkpoint is damaged.
    """
    folder = checkpoints(config.out)[-1]
    check_same_run(folder, config)
    place = folder / f"{_STATE}.json"
    # A state of an older version lacks the sizes.
    state = _load(place, lambda path: RunState.model_validate({"sizes": dict(sizes)} | _object(path)))
    _check_sizes(state.sizes, sizes, folder)
    path = folder / f"{_STATE}.safetensors"
    tensors: dict[str, Tensor] = _load(path, load_file)
    kinds = ("parameter", "exp_avg", "exp_avg_sq", "step") if state.step else ("parameter",)
    for name, parameter in _trained(trainee.backbone, objective):
        for kind in kinds:
            found = tensors.get(f"{kind}.{name}")
            if found is None or (kind != "step" and found.shape != parameter.shape):
                raise _damaged(path, f"{kind}.{name} is missing or of another shape")
    with torch.no_grad():
        for name, parameter in _trained(trainee.backbone, objective):
            _assign(parameter, tensors[f"parameter.{name}"])
            if state.step == 0:
                continue
            moments: dict[str, Tensor] = {}
            for kind in ("exp_avg", "exp_avg_sq"):
                moments[kind] = torch.zeros_like(parameter)
                _assign(moments[kind], tensors[f"{kind}.{name}"])
            # On the CPU, where AdamW looks at it in every step.
            moments["step"] = tensors[f"step.{name}"]
            optimizer.state[parameter] = moments
    return state


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


def check_same_run(folder: Path, config: TrainConfig) -> None:
    """Refuse to continue, or to count as done, the work of another configuration.

    Raises:
        ConfigError: it differs in a field that changes the result; each is named.
        DataError: the file that holds it is damaged.
    """
    before = _load(folder / _CONFIG, _object)
    # Another version may lack fields, whose defaults held then, or have others, which are compared as they are written,
    # as is a text that no JSON in UTF-8 holds.
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


def _changes(key: str, before: Mapping[str, Any], now: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """The differences under a key, each by its path of keys."""
    was, is_now = before.get(key), now.get(key)
    if isinstance(was, dict) and isinstance(is_now, dict):
        for inner in sorted(was.keys() | is_now.keys()):
            yield from _changes(inner, was, is_now, f"{path}{key}.")
    elif was != is_now:
        yield f"{path}{key} was {was!r}, is {is_now!r}"


def _check_sizes(before: Mapping[str, int], now: Mapping[str, int], folder: Path) -> None:
    changed = [
        f"{name} had {size:,} rows, has {now.get(name, 0):,}"
        for name, size in before.items()
        if now.get(name, 0) != size
    ]
    if changed:
        raise DataError(
            f"other rows would come than in the run of {folder}: {'; '.join(changed)}. Put the sources back as they "
            f"were, or start another run whose 'init' is {folder}"
        )


def tidy(out: Path, keep: int, best: str | None) -> None:
    """Delete all but the latest checkpoints and the best one."""
    for folder in checkpoints(out)[:-keep]:
        if folder.name != best:
            shutil.rmtree(folder)


def full_weights(trainee: Trainee) -> dict[str, Tensor]:
    """The tensors that `write_model` stores, on the CPU, from all processes that hold a part of them."""
    if trainee.attached is not None:
        from peft import get_peft_model_state_dict

        # Otherwise peft asks the hub whether the base's vocabulary has grown.
        weights = get_peft_model_state_dict(trainee.attached, save_embedding_layers=False)
    else:
        weights = trainee.backbone.model.state_dict()
    if trainee.backbone.token_head is not None:
        weights = weights | {TOKEN_HEAD: trainee.backbone.token_head.weight.detach()}
    return {name: _full(tensor) for name, tensor in weights.items()}


def write_model(folder: Path, trainee: Trainee, weights: dict[str, Tensor], config: TrainConfig) -> None:
    """Weights (float16; an adapter's in float32), tokenizer, `vlm2vec.json` and the run's configuration."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = dict(weights)
    head = weights.pop(TOKEN_HEAD, None)
    if head is not None:
        save_file({"weight": head.contiguous()}, folder / f"{TOKEN_HEAD}.safetensors")
    model = trainee.backbone.model
    if trainee.attached is not None:
        adapter = trainee.attached.peft_config["default"]
        adapter.base_model_name_or_path = config.init
        adapter.save_pretrained(str(folder))
        save_file({name: tensor.contiguous() for name, tensor in weights.items()}, folder / "adapter_model.safetensors")
    else:
        with no_progress_bar():
            model.save_pretrained(str(folder), state_dict={name: x.to(torch.float16) for name, x in weights.items()})
        values = json.loads((folder / "config.json").read_text("utf-8")) | {"dtype": "float16"}
        (folder / "config.json").write_text(json.dumps(values, indent=1) + "\n", "utf-8")
    tokenizer = trainee.backbone.processor.tokenizer.path.parent
    for name in ("tokenizer.json", "tokenizer_config.json"):
        if (tokenizer / name).is_file():
            shutil.copyfile(tokenizer / name, folder / name)
    trainee.backbone.settings.write(folder)
    (folder / _CONFIG).write_text(config.model_dump_json(indent=1) + "\n", "utf-8")
    _open_to_others(folder)


def _trained(*modules: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    for number, module in enumerate(modules):
        for name, parameter in module.named_parameters():
            if parameter.requires_grad:
                yield f"{number}.{name}", parameter


def _state_tensors(backbone: nn.Module, objective: nn.Module, optimizer: Optimizer) -> Iterator[tuple[str, Tensor]]:
    for name, parameter in _trained(backbone, objective):
        yield f"parameter.{name}", _full(parameter)
        for kind, value in optimizer.state.get(parameter, {}).items():
            yield f"{kind}.{name}", _full(value)


def _full(tensor: Tensor) -> Tensor:
    tensor = tensor.detach()
    whole = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
    return whole.to("cpu", copy=True).contiguous()


def _assign(target: Tensor, value: Tensor) -> None:
    if isinstance(target, DTensor):
        value = distribute_tensor(value.to(target.device), target.device_mesh, target.placements)
    target.copy_(value)


def _flush(path: Path) -> None:
    """Let a file's content reach the disk before its new name does."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
