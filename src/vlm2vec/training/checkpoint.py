"""What a run leaves behind: a model that loads, and all that is needed to go on as if it had never stopped."""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from pydantic import TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer

from vlm2vec.documents import load_json
from vlm2vec.errors import ConfigError
from vlm2vec.model.checkpoint import write_settings
from vlm2vec.model.loading import TOKEN_HEAD, no_progress_bar
from vlm2vec.training.config import TrainConfig
from vlm2vec.training.trainee import Trainee

STATE = "training_state"
CONFIG = "train_config.json"
CARD = "README.md"
_LOCK = "run.lock"
_FREE = {
    "out",
    "processes",
    "loader_workers",
    "token_budget",
    "save_every",
    "keep",
    "max_bad_rows",
    "trackers",
    "parallel",
}
"""Fields that may differ when a run goes on: none changes which rows come. Another number of processes only draws
other dropout."""


@dataclass(slots=True)
class Progress:
    """What the loop changes besides weights and moments.

    Args:
        step: steps done.
        rows: rows seen on all processes.
        bad_rows: messages of those that could not be read.
        best: checkpoint with the best validation so far, and its recall at 1.
        heard: teachers that knew an item so far.
        sizes: rows of each source, on which the order of rows depends.
    """

    step: int = 0
    rows: int = 0
    bad_rows: list[str] = field(default_factory=list)
    best: tuple[str, float] | None = None
    heard: list[str] = field(default_factory=list)
    sizes: dict[str, int] = field(default_factory=dict)


def check_out(out: Path, *, resume: bool) -> None:
    """Refuse to start a run where another one lies.

    Raises:
        ConfigError: it does, or there is none to go on with.
    """
    if out.exists() and not out.is_dir():
        raise ConfigError(f"{out} is no folder, so no run can lie there; give another --out")
    whole, finished = checkpoints(out), (out / CONFIG).is_file()
    if resume and (is_finished(out) or not whole):
        state = "a finished run" if is_finished(out) else "no checkpoint"
        raise ConfigError(
            f"{out} holds {state}, so there is nothing to go on from; leave out --resume"
            + (" and give another --out" if finished else " to start")
        )
    if not resume and whole:
        raise ConfigError(f"{out} already holds a run; pass --resume to go on with it, or another --out")
    if not resume and finished:
        raise ConfigError(f"{out} already holds a finished run; give another --out")


def is_finished(out: Path) -> bool:
    """Whether a run has come to its end: it writes its model, then its card."""
    return (out / CONFIG).is_file() and (out / CARD).is_file()


@contextmanager
def alone(out: Path, first: bool) -> Iterator[None]:
    """Keep other runs out of a folder, which is made; only the first process of a run holds it.

    Raises:
        ConfigError: another run works there, or the folder cannot be made or written.
    """
    if not first:
        yield
        return
    lock = FileLock(out / _LOCK, timeout=0)
    try:
        with writing_to(out):
            out.mkdir(parents=True, exist_ok=True)
            lock.acquire()
    except Timeout:
        raise ConfigError(f"another run is training in {out}; wait for it, stop it, or give another --out") from None
    try:
        yield
    finally:
        lock.release()


@contextmanager
def writing_to(out: Path) -> Iterator[None]:
    """Say of what cannot be written into a run's folder how to go on.

    Raises:
        ConfigError: the disk is full, or the folder may not be written.
    """
    try:
        yield
    except Timeout:
        raise
    except (OSError, SafetensorError) as error:
        whole = checkpoints(out)
        then = f"go on from {whole[-1].name} with --resume" if whole else "start again"
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(
            f"cannot write to {out}: {reason}; free some space or mend its rights, then {then}"
        ) from error


def checkpoints(out: Path) -> list[Path]:
    """Complete checkpoints of a run, oldest first. One that was cut off while it was written is none."""
    found = [path for path in out.glob("checkpoint-*") if re.fullmatch(r"checkpoint-\d+", path.name)]
    return sorted(found, key=lambda path: int(path.name.rpartition("-")[2]))


def save_checkpoint(
    out: Path, trainee: Trainee, objective: nn.Module, optimizer: Optimizer, progress: Progress, config: TrainConfig
) -> Path:
    """Write `checkpoint-N` whole or not at all. All processes call it; the first one writes."""
    target = out / f"checkpoint-{progress.step}"
    tensors = dict(_state_tensors(trainee.backbone, objective, optimizer))
    weights = full_weights(trainee)
    if not _is_first():
        return target
    if target.is_dir():
        # Of the same step of the same run.
        return target
    partial = target.with_name(target.name + ".partial")
    with writing_to(out):
        shutil.rmtree(partial, ignore_errors=True)
        write_model(partial, trainee, weights, config)
        save_file(tensors, partial / f"{STATE}.safetensors")
        (partial / f"{STATE}.json").write_text(json.dumps(asdict(progress), indent=1) + "\n", "utf-8")
        _open_to_others(partial)
        for path in (*partial.iterdir(), partial):
            _flush(path)
        partial.rename(target)
        _flush(out)
    return target


def _open_to_others(folder: Path) -> None:
    """Give weights the mode of a folder's other files, which follows the umask; safetensors ignores it."""
    mode = stat.S_IMODE((folder / CONFIG).stat().st_mode)
    for path in folder.glob("*.safetensors"):
        path.chmod(mode)


def resume_checkpoint(
    out: Path,
    trainee: Trainee,
    objective: nn.Module,
    optimizer: Optimizer,
    config: TrainConfig,
    sizes: Mapping[str, int],
) -> Progress:
    """Put weights, moments and progress back to the latest checkpoint of a run.

    Args:
        sizes: rows of each source.

    Raises:
        ConfigError: the run had another configuration, in a field that changes what is learned, or sources of other
            sizes; each is named.
    """
    folder = checkpoints(out)[-1]
    check_same_run(folder, config)
    values = _load_object(folder / f"{STATE}.json")
    try:
        # What a state of an older version does not know is as it is now.
        progress = _PROGRESS.validate_python({"sizes": dict(sizes)} | values)
    except ValidationError as error:
        raise _damaged(folder / f"{STATE}.json", str(error.errors()[0]["msg"])) from None
    _check_sizes(progress.sizes, sizes, folder)
    path = folder / f"{STATE}.safetensors"
    tensors = _load_tensors(path)
    wanted = {f"parameter.{name}" for name, _ in _trained(trainee.backbone, objective)}
    if lacking := sorted(wanted - tensors.keys()):
        raise _damaged(path, f"it lacks {lacking[0]}")
    with torch.no_grad():
        for name, parameter in _trained(trainee.backbone, objective):
            _assign(parameter, tensors[f"parameter.{name}"])
            if progress.step == 0:
                continue
            moments: dict[str, Tensor] = {}
            for kind in ("exp_avg", "exp_avg_sq"):
                moments[kind] = torch.zeros_like(parameter)
                _assign(moments[kind], tensors[f"{kind}.{name}"])
            # On the CPU, where AdamW looks at it in every step.
            moments["step"] = tensors[f"step.{name}"]
            optimizer.state[parameter] = moments
    return progress


_PROGRESS = TypeAdapter(Progress)


def _load_object(path: Path) -> dict[str, Any]:
    """A JSON file of a checkpoint. Raises ConfigError if it is damaged."""
    try:
        values = load_json(path)
    except (OSError, ValueError) as error:
        raise _damaged(path, str(error)) from None
    if not isinstance(values, dict):
        raise _damaged(path, f"it holds a {type(values).__name__}, not an object")
    return values


def _load_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint. Raises ConfigError if the file is damaged."""
    try:
        tensors: dict[str, Tensor] = load_file(path)
    except (OSError, SafetensorError, ValueError) as error:
        raise _damaged(path, str(error)) from None
    return tensors


def _damaged(path: Path, reason: str) -> ConfigError:
    return ConfigError(
        f"the checkpoint file {path} cannot be read: {reason}; delete {path.parent.name}, and --resume continues from "
        "the checkpoint before it"
    )


def check_same_run(folder: Path, config: TrainConfig) -> None:
    """Refuse to go on with, or to count as done, what another configuration has made.

    Raises:
        ConfigError: it differs in a field that changes what is learned; each is named.
    """
    before = _load_object(folder / CONFIG)
    # What another version wrote may lack fields, which held as they hold where nothing is said, or have others, which
    # are named as they are, and so is a text that no JSON in UTF-8 holds.
    with suppress(ValidationError, PydanticSerializationError):
        before = json.loads(TrainConfig.model_validate(before).model_dump_json())
    now = json.loads(config.model_dump_json())
    changed = [
        change
        for key in sorted(now.keys() | before.keys())
        if key not in _FREE
        for change in _changes(key, before, now)
    ]
    if changed:
        raise ConfigError(
            f"{folder} comes from another configuration, so it is another run: {'; '.join(changed)}. "
            "Put that back, or start another run with another --out"
        )


def _changes(key: str, before: Mapping[str, Any], now: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """What differs under a key, by its path of keys."""
    was, is_now = before.get(key), now.get(key)
    if isinstance(was, dict) and isinstance(is_now, dict):
        for inner in sorted(was.keys() | is_now.keys()):
            yield from _changes(inner, was, is_now, f"{path}{key}.")
    elif was != is_now:
        yield f"{path}{key} was {was!r}, is {is_now!r}"


def _check_sizes(before: Mapping[str, int], now: Mapping[str, int], folder: Path) -> None:
    changed = [f"{name} had {size:,} rows, has {now[name]:,}" for name, size in before.items() if now[name] != size]
    if changed:
        raise ConfigError(
            f"other rows would come than in the run of {folder}: {'; '.join(changed)}. Put the sources back as they "
            f"were, or start another run whose 'init' is {folder}"
        )


def tidy(out: Path, keep: int, best: str | None) -> None:
    """Delete all but the latest checkpoints and the best one."""
    for folder in checkpoints(out)[:-keep]:
        if folder.name != best:
            shutil.rmtree(folder)


def full_weights(trainee: Trainee) -> dict[str, Tensor]:
    """What `write_model` stores, on the CPU, from all processes that hold a part of it."""
    source: nn.Module = trainee.backbone.model
    if trainee.attached is not None:
        from peft import get_peft_model_state_dict

        # Else peft asks the hub whether the base's vocabulary has grown.
        weights = get_peft_model_state_dict(trainee.attached, save_embedding_layers=False)
    else:
        weights = source.state_dict()
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
    write_settings(folder, trainee.settings)
    (folder / CONFIG).write_text(config.model_dump_json(indent=1) + "\n", "utf-8")
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


def _is_first() -> bool:
    distributed = torch.distributed
    return not (distributed.is_available() and distributed.is_initialized()) or distributed.get_rank() == 0


def _flush(path: Path) -> None:
    """Let what was written reach the disk, so that a name that appears names whole files."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
