"""The model a run starts from, and the folder it leaves: whatever `Embedder.load` needs, and how it was made."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from vlm2vec.errors import ConfigError
from vlm2vec.model.checkpoint import PUBLISHED, Settings, write_settings
from vlm2vec.model.loading import Folders, build_processor, find_folders, load_backbone
from vlm2vec.model.pooling import Pooling, known_pooling
from vlm2vec.model.processor import QwenVLProcessor
from vlm2vec.model.qwen_vl import QwenVLBackbone
from vlm2vec.training.config import Scratch, TrainConfig

if TYPE_CHECKING:
    from transformers import Qwen2VLModel


def initial_backbone(config: TrainConfig) -> tuple[QwenVLBackbone, Settings]:
    """The trainable model of a run, in float32, and its settings.

    Raises:
        ConfigError: the tokenizer of a new model is missing.
        ModelError: the checkpoint to go on from cannot be loaded.
    """
    inputs = Settings(**config.inputs.model_dump())
    if config.init is not None:
        folders = find_folders(config.init, None, None, None)
        backbone, settings = load_backbone(folders, inputs, device=torch.device("cpu"), dtype=torch.float32)
        return backbone.requires_grad_(True), settings
    assert config.scratch is not None
    if not (config.scratch.tokenizer / "tokenizer.json").is_file():
        raise ConfigError(f"scratch.tokenizer: {config.scratch.tokenizer} holds no tokenizer.json")
    settings = inputs.over(Settings(prompt_style="qwen2-vl")).over(PUBLISHED)
    processor = build_processor(Folders(config.scratch.tokenizer, None, ()), settings)
    return _random_backbone(config.scratch, processor, known_pooling(settings.pooling)), settings


def save_checkpoint(folder: Path, backbone: QwenVLBackbone, settings: Settings, config: TrainConfig) -> None:
    """Write weights (float16), tokenizer, `vlm2vec.json` and the run's configuration into a folder.

    Written beside the folder's place first and moved file by file, weights last, so that a checkpoint that has weights
    is complete.
    """
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    model = backbone.model
    state = {name: tensor.to(torch.float16) for name, tensor in model.state_dict().items()}
    model.save_pretrained(str(partial), state_dict=state)
    values = json.loads((partial / "config.json").read_text("utf-8")) | {"dtype": "float16"}
    (partial / "config.json").write_text(json.dumps(values, indent=1) + "\n", "utf-8")
    tokenizer = backbone.processor.tokenizer.path.parent
    for name in ("tokenizer.json", "tokenizer_config.json"):
        if (tokenizer / name).is_file():
            shutil.copyfile(tokenizer / name, partial / name)
    write_settings(partial, settings)
    (partial / "train_config.json").write_text(config.model_dump_json(indent=1) + "\n", "utf-8")
    folder.mkdir(parents=True, exist_ok=True)
    for path in sorted(partial.iterdir(), key=lambda path: (path.suffix == ".safetensors", path.name)):
        path.replace(folder / path.name)
    partial.rmdir()


def _random_backbone(shape: Scratch, processor: QwenVLProcessor, pooling: Pooling) -> QwenVLBackbone:
    from transformers import Qwen2VLConfig, Qwen2VLModel

    visual_ids = processor.tokenizer.visual_ids
    vocabulary = json.loads(processor.tokenizer.path.read_text("utf-8"))
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
    return QwenVLBackbone(model, processor, pooling)


def _balance(model: Qwen2VLModel) -> None:
    """Let what a token is weigh more at the start than what random layers make of it.

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
