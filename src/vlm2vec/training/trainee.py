"""The model that a run trains: where it starts, and which of its parameters move."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch

from vlm2vec.errors import ConfigError
from vlm2vec.model.checkpoint import PUBLISHED, Folders, Settings, read_json
from vlm2vec.model.families.qwen_inputs import QwenVLProcessor
from vlm2vec.model.families.qwen_vl import QwenVLBackbone, load
from vlm2vec.model.families.towers_trainable import TrainableTowers, load_trainable
from vlm2vec.model.families.trainable import Processor, TrainableModule
from vlm2vec.training.config import Adapter, Scratch, TrainConfig

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import Qwen2VLModel


class Trainee(NamedTuple):
    """A model in training.

    Args:
        backbone: in float32; parameters that are not trained have `requires_grad` off.
        attached: the adapter with its base, if an adapter is trained.
    """

    backbone: TrainableModule
    attached: PeftModel | None

    @classmethod
    def build(cls, config: TrainConfig) -> Trainee:
        """The model of a run before its first step.

        Raises:
            ConfigError: the tokenizer of a new model is missing, the adapter has no target, or `matryoshka` is too
                large.
            ModelError: the checkpoint to start from cannot be loaded.
        """
        backbone = _initial_backbone(config)
        if too_large := [dim for dim in config.loss.matryoshka if dim > backbone.dim]:
            raise ConfigError(f"loss.matryoshka: {too_large[0]} is more than the model's {backbone.dim} dimensions")
        attached = None
        if config.adapter is not None:
            if not isinstance(backbone, QwenVLBackbone):
                raise ConfigError(f"adapter: {config.init} takes none; leave it out, and freeze parts of the model")
            attached = attach_adapter(backbone.model, config.adapter)
        else:
            _freeze(backbone, config.freeze)
        if backbone.token_head is not None:
            backbone.token_head.requires_grad_(config.loss.token_dim is not None)
        return cls(backbone, attached)

    @staticmethod
    def build_processor(config: TrainConfig) -> Processor:
        """The processor that prepares the inputs of a run, without the model's weights.

        Raises:
            ConfigError: the tokenizer of a new model is missing.
            ModelError: the checkpoint to start from is missing or of an unknown kind.
        """
        start = config.start
        if isinstance(start, Scratch):
            return _new_processor(config, start)
        folders = Folders.find(start)
        if folders.kind == "towers":
            return TrainableTowers.processor_of(folders, _asked_settings(config))
        return QwenVLProcessor.of(folders, folders.settled(_asked_settings(config)))

    def trained_counts(self) -> dict[str, int]:
        """Trained parameters by module, layers of a kind together: `language_model.layers.*.mlp.down_proj.lora_A`."""
        counts: Counter[str] = Counter()
        for name, parameter in self.backbone.named_parameters():
            if parameter.requires_grad:
                parts = ["*" if part.isdigit() else part for part in name.split(".")]
                # The last part is `weight` or `bias`, behind it peft's name of the adapter.
                kept = [part for part in parts if part not in {"weight", "bias", "default", "model", "base_model"}]
                counts[".".join(kept)] += parameter.numel()
        return dict(counts)


def attach_adapter(model: Qwen2VLModel, adapter: Adapter) -> PeftModel:
    """Put a new LoRA or DoRA on the modules whose names end in its targets; nothing else is trained any more.

    Matrices A are drawn from a normal distribution, as published.

    Raises:
        ConfigError: no module has such a name.
    """
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=adapter.rank,
        lora_alpha=adapter.alpha,
        lora_dropout=adapter.dropout,
        use_dora=adapter.dora,
        target_modules=list(adapter.targets),
        init_lora_weights="gaussian",
        bias="none",
    )
    with warnings.catch_warnings():
        # peft still reads a name that transformers has renamed; nothing a caller could mend.
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*", category=FutureWarning)
        try:
            return get_peft_model(model, config)
        except ValueError as error:
            raise ConfigError(f"adapter.targets {list(adapter.targets)}: {error}") from None


def _asked_settings(config: TrainConfig) -> Settings:
    return Settings(**config.inputs.model_dump())


def _new_settings(config: TrainConfig) -> Settings:
    return _asked_settings(config).over(Settings(prompt_style="qwen2-vl")).over(PUBLISHED)


def _new_processor(config: TrainConfig, start: Scratch) -> QwenVLProcessor:
    if not (start.tokenizer / "tokenizer.json").is_file():
        raise ConfigError(f"scratch.tokenizer: {start.tokenizer} holds no tokenizer.json")
    return QwenVLProcessor.of(Folders(start.tokenizer, None, ()), _new_settings(config))


def _freeze(backbone: TrainableModule, names: Sequence[str]) -> None:
    parts = backbone.parameter_parts()
    if unknown := [name for name in names if name not in parts]:
        raise ConfigError(f"freeze: this model has no part {unknown[0]!r}; it has {', '.join(parts)}")
    backbone.requires_grad_(True)
    for name in names:
        parts[name].requires_grad_(False)
    if not any(parameter.requires_grad for parameter in backbone.parameters()):
        raise ConfigError("'freeze' leaves nothing to train")


def _initial_backbone(config: TrainConfig) -> TrainableModule:
    start, token_dim = config.start, config.loss.token_dim
    if isinstance(start, Scratch):
        backbone = _random_backbone(start, _new_processor(config, start), _new_settings(config))
    else:
        folders = Folders.find(start)
        if folders.kind == "towers":
            if token_dim is not None:
                raise ConfigError(f"loss.token_dim: {start} has no vectors of tokens; leave it out")
            return load_trainable(folders, _asked_settings(config))
        if config.adapter is not None and folders.adapter is not None:
            raise ConfigError(f"init: {start} is an adapter; put a new one on its base, or leave out 'adapter'")
        backbone = load(folders, _asked_settings(config), device="cpu", dtype="float32")
    if token_dim is not None:
        if backbone.token_head is None:
            backbone.add_token_head(token_dim)
        elif (dim := backbone.token_head.out_features) != token_dim:
            raise ConfigError(f"loss.token_dim is {token_dim}, but the head of {start} gives {dim}")
    return backbone


def _random_backbone(shape: Scratch, processor: QwenVLProcessor, settings: Settings) -> QwenVLBackbone:
    from transformers import Qwen2VLConfig, Qwen2VLModel

    visual_ids = processor.tokenizer.visual_ids
    vocabulary = read_json(processor.tokenizer.path)
    size = 1 + max([*vocabulary["model"]["vocab"].values(), *(t["id"] for t in vocabulary["added_tokens"])])
    head_dim = shape.hidden_size // shape.num_heads
    # Time, row and column share the frequencies in Qwen2-VL's proportion of 2 : 3 : 3.
    spatial = head_dim // 2 * 3 // 8
    special = {token["content"]: token["id"] for token in vocabulary["added_tokens"]}
    config = Qwen2VLConfig(
        text_config={
            "hidden_size": shape.hidden_size,
            "num_hidden_layers": shape.num_layers,
            "num_attention_heads": shape.num_heads,
            "num_key_value_heads": shape.num_kv_heads,
            "intermediate_size": shape.intermediate_size,
            "vocab_size": size,
            "bos_token_id": None,
            "eos_token_id": special.get("<|im_end|>"),
            "pad_token_id": special.get("<|endoftext|>"),
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 1_000_000.0,
                "mrope_section": [head_dim // 2 - 2 * spatial, spatial, spatial],
            },
        },
        vision_config={
            "depth": shape.vision_layers,
            "embed_dim": shape.vision_size,
            "num_heads": shape.vision_heads,
            "hidden_size": shape.hidden_size,
        },
        image_token_id=visual_ids["<|image_pad|>"],
        video_token_id=visual_ids["<|video_pad|>"],
        vision_start_token_id=visual_ids["<|vision_start|>"],
        vision_end_token_id=visual_ids["<|vision_end|>"],
    )
    model = Qwen2VLModel(config)
    _balance(model)
    return QwenVLBackbone(model, processor, settings)


def _balance(model: Qwen2VLModel) -> None:
    """Let a token's embedding weigh more at the start than the output of random layers.

    With transformers' initial values a token's embedding is a tenth of one layer's output, so that all vectors start
    out nearly alike and the loss stays at that of guessing for a long time. Layer outputs are scaled as in GPT-2.
    """
    language, visual = model.language_model, model.visual
    with torch.no_grad():
        language.embed_tokens.weight.normal_(std=1.0)
        visual.merger.mlp[2].weight.normal_(std=visual.merger.mlp[2].in_features ** -0.5 * 3)
        for layer in language.layers:
            layer.self_attn.o_proj.weight.mul_((2 * len(language.layers)) ** -0.5)
            layer.mlp.down_proj.weight.mul_((2 * len(language.layers)) ** -0.5)
        for block in visual.blocks:
            block.attn.proj.weight.mul_((2 * len(visual.blocks)) ** -0.5)
            block.mlp.fc2.weight.mul_((2 * len(visual.blocks)) ** -0.5)
