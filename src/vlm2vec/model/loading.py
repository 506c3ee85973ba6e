"""From a checkpoint folder to a backbone: weights, adapter, tokenizer and settings put together."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from vlm2vec.errors import ModelError
from vlm2vec.model.adapters import OLD_NAMES, is_adapter, load_adapter
from vlm2vec.model.checkpoint import PUBLISHED, Settings, find_checkpoint, read_json, read_settings, settle_style
from vlm2vec.model.pooling import known_pooling
from vlm2vec.model.processor import QwenVLProcessor
from vlm2vec.model.prompts import prompt_style
from vlm2vec.model.qwen_vl import QwenVLBackbone
from vlm2vec.model.tokenizer import TextTokenizer

if TYPE_CHECKING:
    from transformers import Qwen2VLModel

Dtype = Literal["auto", "float32", "bfloat16", "float16"]
TOKEN_HEAD = "token_head"
"""Name of the file that holds the weight of the token head, [E, D], in a checkpoint that has one."""


class Folders(NamedTuple):
    """Where the parts of a model lie."""

    base: Path
    adapter: Path | None
    names: tuple[str, ...]


def find_folders(
    name: str | Path, base: str | Path | None, adapter: str | Path | None, revision: str | None
) -> Folders:
    """Folders of a model given as a whole, as adapter with `base`, or as base with `adapter`.

    Raises:
        ModelError: a part is missing, or base and adapter are given in a way that contradicts itself.
    """
    folder = find_checkpoint(name, revision)
    if not is_adapter(folder):
        if base is not None:
            raise ModelError(f"{name} is a whole model, so base={base} has no meaning; did you mean adapter=?")
        if adapter is None:
            return Folders(folder, None, (str(name),))
        adapter_folder = find_checkpoint(adapter)
        if not is_adapter(adapter_folder):
            raise ModelError(f"adapter={adapter} holds no adapter_config.json, so it is no adapter")
        return Folders(folder, adapter_folder, (str(adapter), str(name)))
    if adapter is not None:
        raise ModelError(f"{name} is itself an adapter, so adapter={adapter} has no meaning; did you mean base=?")
    named = base if base is not None else read_json(folder / "adapter_config.json").get("base_model_name_or_path")
    if not named:
        raise ModelError(
            f"{name} does not name its base model; pass base=, or name it in {folder / 'adapter_config.json'} as "
            "base_model_name_or_path"
        )
    try:
        base_folder = find_checkpoint(named)
    except ModelError as error:
        raise ModelError(f"base model of {name}: {error}") from None
    return Folders(base_folder, folder, (str(name), str(named)))


def load_backbone(
    folders: Folders, wanted: Settings, *, device: torch.device, dtype: torch.dtype
) -> tuple[QwenVLBackbone, Settings]:
    """The model in evaluation mode on its device, and the settings that hold: wanted, else its own, else published.

    An adapter is folded into the weights in float32. In half precision it stays beside them, as published: merged
    weights would be rounded to about the size of the adapter's own change.

    Raises:
        ModelError: the checkpoint is of an unknown kind or incomplete.
    """
    settings = settle_settings(folders, wanted)
    processor = build_processor(folders, settings)
    model = load_weights(folders.base, dtype)
    if folders.adapter is not None:
        attached = load_adapter(model, folders.adapter)
        if dtype == torch.float32:
            model = attached.merge()
        else:
            model = attached.model
            # `model.to` would round rotary frequencies too: half a radian at a distance of 400 tokens.
            for parameter in model.parameters():
                parameter.data = parameter.data.to(dtype)
    backbone = QwenVLBackbone(model, processor, known_pooling(settings.pooling))
    for folder in (folders.adapter, folders.base):
        if folder is not None and (folder / f"{TOKEN_HEAD}.safetensors").is_file():
            _load_token_head(backbone, folder / f"{TOKEN_HEAD}.safetensors", dtype)
            break
    return backbone.to(device).eval().requires_grad_(False), settings


def settle_settings(folders: Folders, wanted: Settings) -> Settings:
    """The settings that hold: wanted, else the checkpoint's own (an adapter's before its base's), else published."""
    own = [read_settings(folder) for folder in (folders.adapter, folders.base) if folder is not None]
    for settings in (*own, PUBLISHED):
        wanted = wanted.over(settings)
    return settle_style(wanted, folders.names)


def build_processor(folders: Folders, settings: Settings) -> QwenVLProcessor:
    """The processor of a checkpoint; an adapter's own tokenizer goes before its base's."""
    with_tokenizer = [f for f in (folders.adapter, folders.base) if f is not None and (f / "tokenizer.json").is_file()]
    assert settings.prompt_style is not None
    assert settings.min_pixels is not None
    assert settings.max_pixels is not None
    assert settings.num_frames is not None
    return QwenVLProcessor(
        tokenizer=TextTokenizer(with_tokenizer[0] if with_tokenizer else folders.base),
        style=prompt_style(settings.prompt_style),
        min_pixels=settings.min_pixels,
        max_pixels=settings.max_pixels,
        max_frame_pixels=settings.max_frame_pixels,
        num_frames=settings.num_frames,
    )


def load_weights(folder: Path, dtype: torch.dtype) -> Qwen2VLModel:
    """transformers' Qwen2VLModel with the weights of a folder, each accounted for.

    Raises:
        ModelError: another architecture, unreadable weights, or weights that do not cover the model.
    """
    _check_config(folder)
    from transformers import Qwen2VLModel

    try:
        with no_progress_bar():
            model, report = Qwen2VLModel.from_pretrained(
                str(folder),
                dtype=dtype,
                use_safetensors=True,
                local_files_only=True,
                output_loading_info=True,
                # transformers knows old names itself only in some releases.
                key_mapping={f"^{re.escape(old)}": new for old, new in OLD_NAMES.items()},
            )
    # transformers computes with a configuration's values before it looks at them: wrong ones fail in every way.
    except Exception as error:
        raise ModelError(f"the weights of {folder} cannot be loaded: {_told(error)}") from None
    missing = sorted(report["missing_keys"])
    strays = sorted(key for key in report["unexpected_keys"] if not key.startswith("lm_head"))
    if missing or strays:
        raise ModelError(
            f"the weights of {folder} do not fit its config.json: {len(missing)} missing {missing[:3]}, "
            f"{len(strays)} without a place {strays[:3]}"
        )
    return cast("Qwen2VLModel", model)


def _told(error: Exception) -> str:
    """What an error says; with its class where that is a bare word, as of a KeyError."""
    return str(error) if " " in str(error) else f"{type(error).__name__} {error}"


def _load_token_head(backbone: QwenVLBackbone, path: Path, dtype: torch.dtype) -> None:
    try:
        weight_ED = load_file(path)["weight"]
    except (SafetensorError, KeyError) as error:
        raise ModelError(f"{path} cannot be read as a token head: {error}") from None
    if weight_ED.ndim != 2 or weight_ED.shape[1] != backbone.dim:
        raise ModelError(f"{path} has shape {tuple(weight_ED.shape)}; this model needs [.., {backbone.dim}]")
    backbone.add_token_head(len(weight_ED))
    assert backbone.token_head is not None
    backbone.token_head.weight.data = weight_ED.to(dtype)


def choose_device(device: str | torch.device | None) -> torch.device:
    """As asked, else the first CUDA device, else the CPU. Raises ModelError if it cannot be used."""
    if device is not None:
        try:
            chosen = torch.device(device)
            torch.empty(1, device=chosen)
        except (RuntimeError, AssertionError, TypeError) as error:
            reason = str(error).splitlines()[0]
            raise ModelError(f"device {str(device)!r} cannot be used: {reason}; 'vlm2vec doctor' lists them") from None
        return chosen
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def choose_dtype(dtype: Dtype | torch.dtype, device: torch.device) -> torch.dtype:
    """As asked; "auto" is bfloat16 on CUDA and float32 elsewhere."""
    if dtype == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    chosen = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype
    if chosen not in (torch.float32, torch.bfloat16, torch.float16):
        raise ModelError(f"dtype={dtype!r}: use 'auto', 'float32', 'bfloat16' or 'float16'")
    return chosen


def _check_config(folder: Path) -> None:
    config = read_json(folder / "config.json")
    _check_unquantized(folder, config)
    kind = config.get("model_type")
    if kind != "qwen2_vl":
        raise ModelError(f"{folder} is a model of type {kind!r}; the only type known so far is 'qwen2_vl'")
    text = config.get("text_config", config)
    if not isinstance(config.get("vision_config"), dict) or not isinstance(text, dict) or "hidden_size" not in text:
        # transformers would fill in the shape of the 7B model.
        raise ModelError(
            f"{folder / 'config.json'} lacks 'hidden_size' or 'vision_config': it is no whole configuration"
        )
    if text.get("use_sliding_window"):
        raise ModelError(f"{folder} uses sliding-window attention, which is not supported: its vectors would be wrong")


def _check_unquantized(folder: Path, config: dict[str, Any]) -> None:
    """Refuse weights that are stored as other than floating-point numbers of the usual kinds.

    Raises:
        ModelError: the configuration, or that of one of its towers, says so.
    """
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
