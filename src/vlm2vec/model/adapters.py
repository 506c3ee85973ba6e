"""LoRA and DoRA adapters in PEFT's layout: load onto a base with every tensor accounted for, and merge."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from vlm2vec.errors import AdapterError
from vlm2vec.model.checkpoint import read_json

if TYPE_CHECKING:
    from peft import LoraConfig, PeftModel
    from transformers import PreTrainedModel

Model = TypeVar("Model", bound="PreTrainedModel")

_PREFIX = "base_model.model."
_HEAD = "lm_head"
# How an adapter starts decides nothing once it is trained, unless peft changes the base's weights for it.
_HARMLESS_STARTS = ("gaussian", "eva", "orthogonal", "mica")
# Both take from the base's weights, at every load, a part that they compute anew: the same one each time.
_REPEATABLE_STARTS = ("pissa", "olora")
# Variants of LoRA that compute something else than a sum with the base's weights, or another base.
_OTHER_KINDS = ("alora_invocation_tokens", "arrow_config", "layer_replication", "monteclora_config")


class Naming(NamedTuple):
    """The names that modules had in the class for which adapters were trained.

    Args:
        parts: attribute of that class -> attribute of the base, or "" for the base itself.
        has_head: whether it has a language-model head too.
    """

    parts: Mapping[str, str]
    has_head: bool


def load_adapter(
    model: Model, folder: Path, namings: Sequence[Naming], old_names: Mapping[str, str], *, merged: bool
) -> Model:
    """The base with the adapter of a folder, in evaluation mode, as peft puts it on the generation class.

    Tensors of the LM head, which an embedding has no use for, are passed over.

    Args:
        namings: of the classes that adapters of this family were trained on; keys and patterns may be of any.
        old_names: how names of tensors begin in those classes, with the beginning in the base.
        merged: whether it is folded into the weights; otherwise the modules that it changes are wrapped.

    Raises:
        AdapterError: the adapter is no LoRA or DoRA, one of its patterns matches no module of this base, one of its
            tensors has no place in it, or the other way round (the message lists the strays), or the change that peft
            would make to the base's weights cannot be repeated, or merged weights are not finite.
    """
    from peft import get_peft_model

    config = _read_config(folder)
    stored = _read_tensors(folder)
    named = _named_as_trained(model, config, list(stored), folder, namings)
    current = partial(_current_key, old_names=old_names)
    tensors = {current(key): value for key, value in stored.items() if f"{_HEAD}." not in key}
    with _quiet_peft():
        try:
            attached = get_peft_model(named, config)
        # peft lets through whatever a wrong value in the configuration leads to.
        except Exception as error:
            raise AdapterError(f"{folder} does not fit its base: {type(error).__name__}: {error}") from None
        if hasattr(named, _HEAD):
            # With it goes the part of an adapter on it.
            del named.lm_head
        _fill(attached, tensors, current, folder)
    attached.eval()
    if merged:
        try:
            named = attached.merge_and_unload(safe_merge=True)
        except ValueError as error:
            raise AdapterError(f"the adapter cannot be merged: {error}") from None
    named.give_back(model)
    return model


def _fill(attached: PeftModel, tensors: Mapping[str, Tensor], current: Callable[[str], str], folder: Path) -> None:
    """Put each tensor into its place, by names in the base."""
    from peft import get_peft_model_state_dict, set_peft_model_state_dict

    places = {current(key): key for key in get_peft_model_state_dict(attached, save_embedding_layers=False)}
    # An adapter on the embeddings keeps a copy of them.
    embeddings = {current(key): key for key in attached.state_dict() if ".embed_tokens." in key}
    strays = sorted(set(tensors) - set(places) - set(embeddings))
    missing = sorted(set(places) - set(tensors))
    if strays or missing:
        raise AdapterError(
            f"{folder}: {len(strays)} of {len(tensors)} tensors found no module in the base{_listed(strays)}; "
            f"{len(missing)} modules got no tensor{_listed(missing)}. Is this the adapter's own base model?"
        )
    try:
        set_peft_model_state_dict(attached, {(embeddings | places)[key]: x for key, x in tensors.items()})
    except RuntimeError as error:
        raise AdapterError(f"{folder} does not fit its base: {error}") from None


def _read_tensors(folder: Path) -> dict[str, Tensor]:
    weights = folder / "adapter_model.safetensors"
    if not weights.is_file():
        raise AdapterError(f"{folder} holds no adapter_model.safetensors (pickled weights are not loaded)")
    try:
        tensors: dict[str, Tensor] = load_file(weights)
    except (SafetensorError, OSError) as error:
        raise AdapterError(f"{folder} cannot be read as an adapter: {error}") from None
    return tensors


def _read_config(folder: Path) -> LoraConfig:
    """The configuration of an adapter, to be loaded and not to be trained."""
    from peft import PeftConfig

    values = read_json(folder / "adapter_config.json")
    kind = values.get("peft_type")
    if kind != "LORA":
        raise AdapterError(f"{folder} is an adapter of type {kind!r}: only LoRA and DoRA are supported")
    for key in _OTHER_KINDS:
        if values.get(key):
            raise AdapterError(f"{folder} uses {key}={values[key]!r}: only LoRA and DoRA are supported")
    start = values.get("init_lora_weights", True)
    if not isinstance(start, bool) and str(start).lower() not in (*_HARMLESS_STARTS, *_REPEATABLE_STARTS):
        raise AdapterError(
            f"{folder} was trained from init_lora_weights={start!r}, for which the base's weights are changed at every "
            "load, in a way that cannot be repeated exactly. Where it was trained, save it as a plain adapter (peft's "
            "save_pretrained with path_initial_model_for_weight_conversion), or save the changed base, set "
            "init_lora_weights to true in adapter_config.json and load the adapter on that base"
        )
    with _quiet_peft():
        try:
            config: LoraConfig = PeftConfig.from_pretrained(str(folder))
        except (TypeError, ValueError, AttributeError, KeyError) as error:
            raise AdapterError(f"{folder} cannot be read as an adapter: {error}") from None
    if str(start).lower() in _HARMLESS_STARTS:
        config.init_lora_weights = True
    config.inference_mode = True
    # Classes of peft for a task add methods of generation, which the base lacks.
    config.task_type = None
    # The base was chosen by the caller; peft would warn that its folder has another name.
    config.base_model_name_or_path = None
    # This concerns the LM head alone.
    config.ensure_weight_tying = False
    return config


@contextmanager
def _quiet_peft() -> Iterator[None]:
    """Keep peft from drawing from the caller's random numbers, and from warnings that mean nothing here."""
    # Fresh adapter weights are drawn at random before they are replaced.
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        # The comparison of tensors with places is stricter.
        warnings.filterwarnings("ignore", message=".*missing adapter keys.*", category=UserWarning)
        # `_unmatched` is the judge of patterns; one that matches only modules without an adapter has no effect.
        warnings.filterwarnings("ignore", message=".*did not match any targeted module", category=RuntimeWarning)
        warnings.filterwarnings("ignore", message=".*but no modules were excluded", category=UserWarning)
        # peft takes the bias of a matrix for one; shapes are compared when they are loaded.
        warnings.filterwarnings("ignore", message=".*have invalid shape", category=UserWarning)
        # How the adapter started decides nothing any more.
        warnings.filterwarnings("ignore", message=".*(eva|corda|lora_ga|loftq)_config`", category=UserWarning)
        warnings.filterwarnings("ignore", message=".*low_cpu_mem_usage", category=UserWarning)
        # peft still reads a name that transformers has renamed; nothing a caller could mend.
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*", category=FutureWarning)
        yield


# --- names


class _Named(nn.Module):
    """The modules of a base under other names, for peft to change; never run."""

    def __init__(self, model: PreTrainedModel, naming: Naming) -> None:
        super().__init__()
        for name, own in naming.parts.items():
            self.add_module(name, model.get_submodule(own))
        if naming.has_head:
            # Without memory, for patterns that match it; nothing reads its weights.
            text = model.config.get_text_config()
            self.lm_head = nn.Linear(text.hidden_size, text.vocab_size, bias=False, device="meta")
        self._naming = naming

    def give_back(self, model: PreTrainedModel) -> None:
        """Put modules that were replaced as a whole into the base."""
        for name, own in self._naming.parts.items():
            if own:
                model.add_module(own, self.get_submodule(name))


def _named_as_trained(
    model: PreTrainedModel, config: LoraConfig, keys: Sequence[str], folder: Path, namings: Sequence[Naming]
) -> _Named:
    """The model under the names that fit the adapter's patterns, trying first those that most of its tensors have."""
    tops = [".".join(key.removeprefix(_PREFIX).split(".")[:2]) for key in keys]
    every = [(named, dict(named.named_modules())) for named in (_Named(model, naming) for naming in namings)]
    fault = ""
    for named, modules in sorted(every, key=lambda one: -sum(top in one[1] for top in tops)):
        names = [name for name in modules if name]
        try:
            unmatched = next(_unmatched(config, names), None)
        except (re.error, TypeError, AttributeError) as error:
            raise AdapterError(f"{folder} has a malformed pattern in adapter_config.json: {error}") from None
        if unmatched is None:
            return named
        if not fault:
            (field, pattern), examples = unmatched, [name for name in names if isinstance(modules[name], nn.Linear)]
            fault = (
                f"{field} in adapter_config.json has {pattern!r}, which matches no module of the base by peft's rules; "
                f"names are such as {', '.join((examples[0], examples[-1]))}. Mend it, or take it out"
            )
    raise AdapterError(f"{folder}: {fault}")


def _unmatched(config: LoraConfig, names: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Patterns of a configuration that match none of these names, by peft's rules: (field, pattern).

    A list of targets, or of exclusions, is one pattern: published adapters list names of several architectures.
    """
    for field in ("rank_pattern", "alpha_pattern"):
        for key in getattr(config, field) or {}:
            if not any(re.match(rf"(.*\.)?({key})$", name) for name in names):
                yield field, key
    for field in ("target_modules", "exclude_modules"):
        pattern = getattr(config, field, None)
        if pattern and str(pattern).lower() != "all-linear" and not _matches(pattern, names):
            yield field, pattern if isinstance(pattern, str) else ", ".join(sorted(pattern))
    for ending in config.modules_to_save or []:
        if not any(name.endswith(ending) for name in names):
            yield "modules_to_save", ending


def _matches(pattern: str | Collection[str], names: Sequence[str]) -> bool:
    if isinstance(pattern, str):
        return any(re.fullmatch(pattern, name) for name in names)
    return any(f".{name}".endswith(tuple(f".{ending}" for ending in pattern)) for name in names)


def _current_key(key: str, old_names: Mapping[str, str]) -> str:
    """Name of an adapter's tensor in the base."""
    module = key.removeprefix(_PREFIX)
    old = next((old for old in old_names if module.startswith(old)), "")
    return _PREFIX + old_names.get(old, "") + module.removeprefix(old)


def _listed(keys: list[str]) -> str:
    return f" ({', '.join(keys[:3])}{', …' if len(keys) > 3 else ''})" if keys else ""
