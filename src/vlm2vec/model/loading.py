"""From the files of a checkpoint to a module of torch: device, dtype, weights and token head, whatever the family."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from vlm2vec.errors import ModelError
from vlm2vec.model.checkpoint import Folders, read_json

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    Model = TypeVar("Model", bound=PreTrainedModel)

TOKEN_HEAD = "token_head"
"""Name of the file that holds the weight of the token head, [E, D], in a checkpoint that has one."""


def load_weights(kind: type[Model], folder: Path, dtype: torch.dtype, old_names: Mapping[str, str]) -> Model:
    """A model of transformers with the weights of a folder, each accounted for.

    Args:
        kind: its class, which has no language-model head.
        old_names: how names of weights begin in older checkpoints, with the beginning in this class.

    Raises:
        ModelError: unreadable or quantised weights, or weights that do not cover the model.
    """
    _check_unquantized(folder)
    try:
        with no_progress_bar():
            model, report = kind.from_pretrained(
                str(folder),
                dtype=dtype,
                use_safetensors=True,
                local_files_only=True,
                output_loading_info=True,
                # transformers knows old names itself only in some releases.
                key_mapping={f"^{re.escape(old)}": new for old, new in old_names.items()},
            )
    # transformers computes with a configuration's values before it looks at them: wrong ones fail in every way.
    except Exception as error:
        # A KeyError is a bare word.
        told = str(error) if " " in str(error) else f"{type(error).__name__} {error}"
        raise ModelError(f"the weights of {folder} cannot be loaded: {told}") from None
    missing = sorted(report["missing_keys"])
    strays = sorted(key for key in report["unexpected_keys"] if not key.startswith("lm_head"))
    if missing or strays:
        raise ModelError(
            f"the weights of {folder} do not fit its config.json: {len(missing)} missing {missing[:3]}, "
            f"{len(strays)} without a place {strays[:3]}"
        )
    loaded: Model = model
    return loaded


def load_token_head(folders: Folders, dim: int) -> Tensor | None:
    """The weight of a checkpoint's token head, [E, dim], an adapter's before its base's; None if there is none.

    Raises:
        ModelError: it cannot be read, or has another shape.
    """
    name = f"{TOKEN_HEAD}.safetensors"
    folder = folders.with_file(name)
    if folder is None:
        return None
    path = folder / name
    try:
        weight_ED: Tensor = load_file(path)["weight"]
    except (SafetensorError, KeyError) as error:
        raise ModelError(f"{path} cannot be read as a token head: {error}") from None
    if weight_ED.ndim != 2 or weight_ED.shape[1] != dim:
        raise ModelError(f"{path} has shape {tuple(weight_ED.shape)}; this model needs [.., {dim}]")
    return weight_ED


def choose_device(device: str | None, dtype: str) -> tuple[torch.device, torch.dtype]:
    """Device and dtype as asked; else the first CUDA device or the CPU; "auto" is bfloat16 on CUDA, else float32.

    Raises:
        ModelError: the device cannot be used, or there is no such dtype.
    """
    asked = device if device is not None else "cuda" if torch.cuda.is_available() else "cpu"
    try:
        chosen = torch.device(asked)
        torch.empty(1, device=chosen)
    except (RuntimeError, AssertionError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise ModelError(f"device {str(asked)!r} cannot be used: {reason}", "doctor") from None
    if dtype == "auto":
        return chosen, torch.bfloat16 if chosen.type == "cuda" else torch.float32
    known = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if dtype not in known:
        raise ModelError(f"dtype={dtype!r}: use 'auto', 'float32', 'bfloat16' or 'float16'")
    return chosen, known[dtype]


def _check_unquantized(folder: Path) -> None:
    """Refuse weights that the configuration, or that of one of its towers, says are quantised."""
    config = read_json(folder / "config.json")
    parts = [config, *(part for part in map(config.get, ("text_config", "vision_config")) if isinstance(part, dict))]
    for said in (part.get(key) for part in parts for key in ("quantization_config", "compression_config")):
        if said is None:
            continue
        if not isinstance(said, dict):
            raise ModelError(f"{folder / 'config.json'}: quantization_config is {said!r}, it must be an object")
        of_bitsandbytes = "bitsandbytes" if said.keys() & {"load_in_4bit", "load_in_8bit"} else "unnamed method"
        bits = 4 if said.get("load_in_4bit") else 8 if said.get("load_in_8bit") else said.get("bits", said.get("nbits"))
        method = said.get("quant_method") or of_bitsandbytes
        raise ModelError(
            f"{folder} is quantised ({method}{'' if bits is None else f', {bits} bits'}), and only weights in float32, "
            "float16 or bfloat16 can be loaded: take the checkpoint of which it was made"
        )


@contextmanager
def no_progress_bar() -> Iterator[None]:
    """Keep transformers from drawing bars of its own for shards of weights."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
