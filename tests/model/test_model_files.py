"""Files of a checkpoint that cannot be used as they are: quantised, not to be read, replaced under an old name."""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.golden_cases import GOLDEN, MODEL, load_tiny
from support.train_files import write_config, write_data
from vlm2vec.errors import ModelError
from vlm2vec.model.checkpoint import Folders
from vlm2vec.model.fingerprint import states_of_files
from vlm2vec.training.config import read_config
from vlm2vec.training.loop import train

# --- quantised


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"quant_method": "gptq", "bits": 4}, "is quantised (gptq, 4 bits), and only"),
        ({"quant_method": "awq", "bits": 4, "version": "gemm"}, "is quantised (awq, 4 bits), and only"),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "is quantised (bitsandbytes, 4 bits), and only"),
        ({"load_in_8bit": True}, "is quantised (bitsandbytes, 8 bits), and only"),
        ({"quant_method": "fp8", "activation_scheme": "dynamic"}, "is quantised (fp8), and only"),
        ({"quant_method": "compressed-tensors", "format": "pack-quantized"}, "is quantised (compressed-tensors), and"),
        ({"quant_method": "hqq", "nbits": 3}, "is quantised (hqq, 3 bits), and only"),
        ({"quant_method": "torchao"}, "is quantised (torchao), and only"),
        ({"quant_method": "made-up"}, "is quantised (made-up), and only"),
        ({}, "is quantised (unnamed method), and only"),
        ([4], "quantization_config is [4], it must be an object"),
        ("gptq", "quantization_config is 'gptq', it must be an object"),
    ],
)
@pytest.mark.parametrize("place", ["quantization_config", "compression_config", "vision_config"])
def test_a_quantised_checkpoint_says_of_what_kind_it_is(model_copy: Path, said: object, words: str, place: str) -> None:
    config = json.loads((model_copy / "config.json").read_text())
    if place == "vision_config":
        config["vision_config"]["quantization_config"] = said
    else:
        config[place] = said
    (model_copy / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match=re.escape(words)) as caught:
        load_tiny(model_copy)
    assert str(model_copy) in str(caught.value)


# --- replaced


def _print_of(folder: Path) -> list[object]:
    return states_of_files(Folders(folder, None, ()), folder / "tokenizer.json")


@pytest.mark.parametrize("how", ["in place", "by another file"])
def test_weights_replaced_under_their_size_and_time_are_other_weights(model_copy: Path, how: str) -> None:
    path = model_copy / "model.safetensors"
    before, status = _print_of(model_copy), path.stat()
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    other = path if how == "in place" else path.with_suffix(".new")
    other.write_bytes(content)
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    other.replace(path)
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (status.st_size, status.st_mtime_ns)
    assert _print_of(model_copy) != before


@pytest.mark.parametrize("content", ["", "[]", "7", "{", '{"a|1|2|3|4": 5}', "old"])
def test_a_memory_of_hashes_from_elsewhere_is_not_believed(
    model_copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str
) -> None:
    expected = _print_of(model_copy)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    memory = tmp_path / "cache" / "vlm2vec" / "hashes.json"
    memory.parent.mkdir(parents=True)
    path = model_copy / "model.safetensors"
    old = f"{path.resolve()}|{path.stat().st_size}|{path.stat().st_mtime_ns}"
    memory.write_text(json.dumps({old: "0" * 64}) if content == "old" else content)
    assert _print_of(model_copy) == expected
    kept = json.loads(memory.read_text())
    assert old not in kept
    assert len([key for key in kept if key.startswith(f"{model_copy.resolve()}/")]) == 2
    # What was read is remembered: the file is not opened again.
    memory.write_text(json.dumps(dict.fromkeys(kept, "1" * 64)))
    assert _print_of(model_copy) != expected


# --- may not be read

_AS_NOBODY = """
import os, sys
from vlm2vec.errors import ModelError
from vlm2vec.model.checkpoint import Folders
if os.getuid() == 0:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
for pair in sys.argv[1:]:
    name, _, base = pair.partition("+")
    try:
        Folders.find(name, base or None, None, None)
        print("found")
    except ModelError as error:
        print(error)
"""


def test_a_file_that_may_not_be_read_is_not_called_missing() -> None:
    with tempfile.TemporaryDirectory() as name:
        # The folders of pytest let nobody else in.
        top = Path(name)
        top.chmod(0o755)
        whole = shutil.copytree(MODEL, top / "whole")
        closed: list[Path] = []
        given: list[str] = []
        for file in (
            "config.json",
            "model.safetensors",
            "tokenizer.json",
            "tokenizer_config.json",
            "vlm2vec.json",
            ".",
        ):
            folder = shutil.copytree(MODEL, top / f"no {file}")
            (folder / "vlm2vec.json").write_text("{}")
            closed.append(folder / file)
            given.append(str(folder))
        for file in ("adapter_config.json", "adapter_model.safetensors"):
            folder = shutil.copytree(GOLDEN / "lora", top / f"no {file}")
            closed.append(folder / file)
            given.append(f"{folder}+{whole}")
        inside = shutil.copytree(MODEL, top / "shut" / "model")
        for path in (*closed, inside.parent):
            path.chmod(0)
        command = [sys.executable, "-c", _AS_NOBODY, *given, str(inside), str(whole)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        for path in (*closed, inside.parent):
            path.chmod(0o755)
    may = "may not be read: Permission denied; ask its owner, or change its mode (chmod a+r, a+rx for a folder)"
    assert done.stdout.splitlines() == [*(f"{path} {may}" for path in (*closed, inside)), "found"], done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mask", "changes"),
    [(0o022, {}), (0o027, {"scratch": None, "init": str(MODEL), "adapter": {"rank": 2, "alpha": 4}})],
)
def test_a_trained_model_may_be_read_by_whom_the_umask_lets(
    tmp_path: Path, mask: int, changes: dict[str, object]
) -> None:
    write_data(tmp_path)
    changes |= {"inputs": {"max_pixels": 3136, "num_frames": 2, "prompt_style": "qwen2-vl"}}
    config = write_config(tmp_path, steps=2, save_every=1, data={"words": {"path": "words.jsonl"}}, **changes)
    before = os.umask(mask)
    try:
        train(read_config(config))
    finally:
        os.umask(before)
    weights = list((tmp_path / "out").rglob("*.safetensors"))
    assert {path.parent.name for path in weights} >= {"out", "checkpoint-1"}
    assert {stat.S_IMODE(path.stat().st_mode) for path in weights} == {0o666 & ~mask}


# --- damaged


@pytest.mark.parametrize(
    ("name", "place", "value"),
    [
        ("config.json", "hidden_act", "*"),
        ("config.json", "hidden_size", "x"),
        ("config.json", "num_attention_heads", 2**63),
        ("config.json", "num_attention_heads", 0),
        ("config.json", "num_hidden_layers", -1),
        ("config.json", "rope_theta", None),
        ("config.json", "tie_word_embeddings", {"(": 1}),
        ("config.json", "vision_config", [[]]),
        ("config.json", "vocab_size", 1e300),
        ("tokenizer.json", "added_tokens", ["x" * 99]),
        ("tokenizer.json", "added_tokens", [{"content": "x"}]),
        ("tokenizer.json", "model", None),
        ("tokenizer.json", "pre_tokenizer", {"type": "Sequence"}),
    ],
)
def test_an_absurd_value_in_a_file_of_a_checkpoint_is_an_error_that_names_it(
    model_copy: Path, name: str, place: str, value: object
) -> None:
    path = model_copy / name
    path.write_text(json.dumps(json.loads(path.read_text()) | {place: value}))
    with pytest.raises(ModelError, match=re.escape(str(model_copy))):
        load_tiny(model_copy)


@pytest.mark.parametrize("end", [0, 7, 8, 100, -1])
@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "config.json"])
def test_a_file_of_a_checkpoint_that_ends_early_is_an_error(model_copy: Path, name: str, end: int) -> None:
    path = model_copy / name
    path.write_bytes(path.read_bytes().rstrip()[:end])
    with pytest.raises(ModelError, match=re.escape(str(model_copy))):
        load_tiny(model_copy)


@given(places=st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), min_size=1, max_size=4))
@settings(deadline=None, max_examples=15)
def test_damage_in_the_head_of_weights_is_our_own_error_or_none(places: list[tuple[int, int]]) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "model"
        shutil.copytree(MODEL, folder)
        content = bytearray((folder / "model.safetensors").read_bytes())
        for at, value in places:
            content[at] = value
        (folder / "model.safetensors").write_bytes(content)
        with suppress(ModelError):
            load_tiny(folder)
