"""Has a checkpoint changed? What its files bring into the fingerprint of a model."""

from __future__ import annotations

import hashlib
import json
import os
import re
from contextlib import suppress
from pathlib import Path

from vlm2vec.documents import load_json
from vlm2vec.files import write_atomically
from vlm2vec.model.checkpoint import Folders, read_json

# Keys of config.json and adapter_config.json that only name their origin, or that only training reads.
_IDLE_KEYS = frozenset(
    {"transformers_version", "_name_or_path", "architectures", "torch_dtype", "dtype", "use_cache", "auto_mapping"}
    | {"base_model_name_or_path", "revision", "inference_mode", "peft_version", "task_type", "lora_dropout"}
)


def states_of_files(folders: Folders, tokenizer: Path) -> list[object]:
    """Of a checkpoint: its configurations, and the hashes of its weights and of a tokenizer file."""
    parts = folders.parts[::-1]
    files = [path for folder in parts for path in sorted(folder.glob("*.safetensors"))] + [tokenizer]
    configs = [
        {key: value for key, value in read_json(path).items() if key not in _IDLE_KEYS}
        for folder in parts
        for path in (folder / "config.json", folder / "adapter_config.json")
        # An adapter's folder may hold a copy of its base's configuration, which nothing reads.
        if path.is_file() and (path.name == "adapter_config.json") == (folder / "adapter_config.json").is_file()
    ]
    return [configs, [file_hash(path) for path in files]]


def file_hash(path: Path) -> str:
    """SHA-256 of a file, remembered so that gigabytes are read once.

    It is remembered by path, size, both times and inode: a file may be replaced under its old size and time of change,
    as `cp -p`, `rsync -t` and archives do, but not under its old inode and time of its status.
    """
    status = path.stat()
    stated = (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
    key = "|".join([str(path.resolve()), *map(str, stated)])
    store = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vlm2vec" / "hashes.json"
    known: dict[str, str] = {}
    with suppress(OSError, ValueError, AttributeError):
        # Keys of earlier releases lack the inode and say too little. Other entries are not ours.
        known = {
            name: digest
            for name, digest in load_json(store).items()
            if name.count("|") >= len(stated) and re.fullmatch("[0-9a-f]{64}", str(digest))
        }
    if key in known:
        return known[key]
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    # Only a memory: a read-only home costs time, not correctness.
    with suppress(OSError):
        store.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(store, json.dumps(known | {key: digest}))
    return digest
