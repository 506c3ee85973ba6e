"""LoRA and DoRA adapters in PEFT's layout: load onto a base with every tensor accounted for, and merge."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from vlm2vec.errors import AdapterError
from vlm2vec.model.checkpoint import read_json

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import Qwen2VLModel

_PREFIX = "base_model.model."
OLD_NAMES = {
    "model.language_model.": "language_model.",
    "model.visual.": "visual.",
    "model.layers.": "language_model.layers.",
    "model.norm.": "language_model.norm.",
    "model.embed_tokens.": "language_model.embed_tokens.",
}
"""Where the parts of `Qwen2VLModel` lie in checkpoints and adapters of Transformers 4, and of whole models of 5."""


def is_adapter(folder: Path) -> bool:
    """Whether the folder holds a PEFT adapter rather than a whole model."""
    return (folder / "adapter_config.json").is_file()


def load_adapter(model: Qwen2VLModel, folder: Path) -> PeftModel:
    """Attach the adapter of a folder to its base, in evaluation mode.

    Keys may have the names of Transformers 4 (decoder at `model.layers`) or 5 (at `model.language_model.layers`).

    Raises:
        AdapterError: the adapter is no LoRA or DoRA, targets nothing in this base, or one of its tensors has no place
            in it, or the other way round; the message lists the strays.
    """
    from peft import LoraConfig, PeftConfig, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict

    kind = read_json(folder / "adapter_config.json").get("peft_type")
    if kind != "LORA":
        raise AdapterError(f"{folder} is an adapter of type {kind!r}: only LoRA and DoRA are supported")
    weights = folder / "adapter_model.safetensors"
    if not weights.is_file():
        raise AdapterError(f"{folder} holds no adapter_model.safetensors (pickled weights are not loaded)")
    try:
        config = PeftConfig.from_pretrained(str(folder))
        tensors = {_current_key(key): value for key, value in load_file(weights).items()}
    except (SafetensorError, TypeError, ValueError) as error:
        raise AdapterError(f"{folder} cannot be read as an adapter: {error}") from None
    assert isinstance(config, LoraConfig)
    # Names in the configuration may be full paths of either naming, like those of the tensors.
    config.rank_pattern = {_current_name(key): value for key, value in config.rank_pattern.items()}
    config.alpha_pattern = {_current_name(key): value for key, value in config.alpha_pattern.items()}
    if isinstance(config.target_modules, (list, set)):
        config.target_modules = {_current_name(name) for name in config.target_modules}
    config.inference_mode = True
    # The base was chosen by the caller; peft would warn that its folder has another name.
    config.base_model_name_or_path = None
    # Fresh adapter weights are drawn at random before they are replaced: keep the caller's generator out of it.
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        # peft reports tensors it could not place by warning; the comparison below is stricter.
        warnings.filterwarnings("ignore", message=".*missing adapter keys.*", category=UserWarning)
        # peft still reads a name that transformers has renamed; nothing a caller could mend.
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*", category=FutureWarning)
        try:
            attached = get_peft_model(model, config)
        except ValueError as error:
            raise AdapterError(f"{folder} does not fit its base: {error}") from None
        try:
            set_peft_model_state_dict(attached, tensors)
        except RuntimeError as error:
            raise AdapterError(f"{folder} does not fit its base: {error}") from None
    places = {key: tuple(value.shape) for key, value in get_peft_model_state_dict(attached).items()}
    strays = sorted(set(tensors) - set(places))
    missing = sorted(set(places) - set(tensors))
    if strays or missing:
        raise AdapterError(
            f"{folder}: {len(strays)} of {len(tensors)} tensors found no module in the base{_listed(strays)}; "
            f"{len(missing)} modules got no tensor{_listed(missing)}. Is this the adapter's own base model?"
        )
    attached.eval()
    return attached


def merge_adapter(attached: PeftModel) -> Qwen2VLModel:
    """The base model with the adapter folded into its weights."""
    merged: Qwen2VLModel = attached.merge_and_unload(safe_merge=True)
    return merged


def _current_key(key: str) -> str:
    """Name of an adapter tensor under `Qwen2VLModel`, from the naming of any Transformers version."""
    return _PREFIX + _current_name(key.removeprefix(_PREFIX))


def _current_name(module: str) -> str:
    for old, new in OLD_NAMES.items():
        if module.startswith(old):
            return new + module.removeprefix(old)
    return module


def _listed(keys: list[str]) -> str:
    return f" ({', '.join(keys[:3])}{', …' if len(keys) > 3 else ''})" if keys else ""
