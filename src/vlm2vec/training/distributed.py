"""Several processes in one step: rows of all for the loss, the sum of all gradients."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, distributed, nn
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor

from vlm2vec.errors import ConfigError
from vlm2vec.model.families.trainable import TrainableModule


class TrainingGroup:
    """The processes of a run, which hold one model and take each step together.

    Args:
        backbone: all its parameters become those of the first process, in place.
        objective: whole in each process.
        parallel: "ddp" keeps the whole backbone in each process; "fsdp" divides parameters, gradients and moments among
            them (FSDP2), with the whole backbone as one unit. Our forward pass calls the inner modules of transformers'
            blocks directly, so that blocks cannot be units. The weights are gathered at the start of a step and let go
            after its last backward pass; processes may encode different numbers of packs in between.

    Raises:
        ConfigError: for "fsdp" only one process takes part, nothing of the language model is trained, or this torch
            cannot do it.
    """

    def __init__(self, backbone: TrainableModule, objective: nn.Module, parallel: str, device: torch.device) -> None:
        self.backbone = backbone
        self.objective = objective
        self.device = device
        _same_everywhere(backbone.parameters())
        self.divided = _divided(backbone) if parallel == "fsdp" else None
        self.trained = [p for p in (*backbone.parameters(), *objective.parameters()) if p.requires_grad]

    def begin_step(self) -> None:
        """Make the weights whole. To be called before any forward pass: a frozen vision tower is called by itself."""
        self._synchronise(last=False)
        if self.divided is not None:
            self.divided.unshard()

    def before_last_backward(self) -> None:
        """Let the gradients of a divided model be added up within the next backward pass."""
        self._synchronise(last=True)

    def add_gradients(self, max_norm: float) -> float:
        """Add up the gradients of all processes, then scale them as `_clip_gradients`. Returns the norm before."""
        if self.divided is None:
            _sum_gradients(self.backbone.parameters())
        # Every process has the whole gradient of temperature and maps; rounding must not let them drift apart.
        _same_everywhere(parameter.grad for parameter in self.objective.parameters())
        return _clip_gradients(self.trained, max_norm)

    def divide(self) -> None:
        """Leave each process its own part of the weights: the optimiser knows, and a checkpoint stores, no other."""
        if self.divided is not None:
            self.divided.reshard()

    def total(self, number: int) -> int:
        """Sum of a number over all processes."""
        return int(torch.cat(gathered(torch.tensor([number], device=self.device))).sum())

    def messages(self, own: Sequence[str]) -> list[str]:
        """The messages of all processes in the order of their rank."""
        if not _is_distributed():
            return list(own)
        # Nearly always there is none, and a number travels faster than objects.
        if self.total(len(own)) == 0:
            return []
        parts: list[list[str]] = [[]] * distributed.get_world_size()
        distributed.all_gather_object(parts, list(own))
        return [message for part in parts for message in part]

    def _synchronise(self, *, last: bool) -> None:
        if self.divided is not None:
            self.divided.set_is_last_backward(last)
            self.divided.set_requires_gradient_sync(last)
            self.divided.set_reshard_after_backward(last)


def gathered(x: Tensor) -> list[Tensor]:
    """The rows of all processes in the order of their rank; this process's own keep their graph.

    Processes may have different numbers of rows.
    """
    if not _is_distributed():
        return [x]
    world, rank = distributed.get_world_size(), distributed.get_rank()
    sizes = [torch.zeros((), dtype=torch.int64, device=x.device) for _ in range(world)]
    distributed.all_gather(sizes, torch.tensor(len(x), device=x.device))
    longest = int(max(sizes))
    if longest == 0:
        return [x] * world
    padded = x.new_zeros(longest, *x.shape[1:])
    padded[: len(x)] = x.detach()
    parts = [torch.empty_like(padded) for _ in range(world)]
    distributed.all_gather(parts, padded)
    rows = [part[: int(size)] for part, size in zip(parts, sizes, strict=True)]
    rows[rank] = x
    return rows


def _divided(backbone: TrainableModule) -> FSDPModule:
    if not _is_distributed():
        raise ConfigError("parallel=fsdp divides the model among processes, but there is only one; use ddp")
    language = backbone.parameter_parts().get("language_model")
    if language is None or not any(parameter.requires_grad for parameter in language.parameters()):
        # A pack of texts would have no backward pass, in which the processes meet.
        raise ConfigError("parallel=fsdp needs something trained in the language model; use ddp")
    if not hasattr(FSDPModule, "set_reduce_scatter_unused_params"):
        raise ConfigError(f"parallel=fsdp needs torch 2.13 or newer, this is {torch.__version__}; use ddp")
    module = fully_shard(backbone, reshard_after_forward=False)
    # A process may have a step of texts alone, which do not reach the vision tower.
    module.set_reduce_scatter_unused_params(True)
    # Every process has the loss of the whole batch, so gradients add up.
    module.set_gradient_divide_factor(1.0)
    # Without this a factor asks for a kind of reduction that gloo lacks.
    module.set_force_sum_reduction_for_comms(True)
    return module


def _sum_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Add up the gradients of all processes, in place; a parameter that no input reached has a gradient of zero.

    Done once at the end of a step. DistributedDataParallel would do it within the last backward pass, but it leaves out
    parameters that this pass does not reach on any process, such as the vision tower's if it holds only texts.
    """
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    for parameter in trained:
        if parameter.grad is None:
            # Also in one process: the optimiser skips what has no gradient, momentum and decay included.
            parameter.grad = torch.zeros_like(parameter)
    if not _is_distributed():
        return
    gradients = [parameter.grad for parameter in trained if parameter.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    distributed.all_reduce(flat)
    for gradient, part in zip(gradients, flat.split([gradient.numel() for gradient in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))


def _clip_gradients(parameters: Iterable[nn.Parameter], max_norm: float) -> float:
    """Scale all gradients together so that their norm is at most `max_norm`, in place. Returns the norm before.

    Parameters may be divided among the processes or whole on each; torch's own function takes one kind at a time.
    """
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    divided = [gradient.to_local() for gradient in gradients if isinstance(gradient, DTensor)]
    whole = [gradient for gradient in gradients if not isinstance(gradient, DTensor)]
    squares = _sum_of_squares(divided, gradients[0].device)
    if divided:
        distributed.all_reduce(squares)
    norm = float((squares + _sum_of_squares(whole, gradients[0].device)).sqrt())
    for gradient in (*divided, *whole):
        # As torch does: a little more than the norm, so that nothing is divided by zero.
        gradient.mul_(min(1.0, max_norm / (norm + 1e-6)))
    return norm


def _same_everywhere(tensors: Iterable[Tensor | None]) -> None:
    """Give all processes the values of the first, in place."""
    if _is_distributed():
        for tensor in tensors:
            if tensor is not None:
                distributed.broadcast(tensor.data, src=0)


def _sum_of_squares(tensors: Sequence[Tensor], device: torch.device) -> Tensor:
    return sum((x.float().square().sum() for x in tensors), start=torch.zeros((), device=device))


def _is_distributed() -> bool:
    return distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1
