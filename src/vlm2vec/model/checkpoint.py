"""Where a checkpoint lies, what it says of itself in `vlm2vec.json`, and a fingerprint of what it computes."""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlm2vec.documents import load_json
from vlm2vec.errors import ModelError, StyleError
from vlm2vec.model.prompts import KNOWN_CHECKPOINTS, STYLES, prompt_style

if TYPE_CHECKING:
    from collections.abc import Iterable

SETTINGS_FILE = "vlm2vec.json"
BUNDLED = "bundled"
BUNDLED_NAMES = (BUNDLED, "tiny")
"""Names of the model in this package: the default, and what it is."""

BUNDLED_FOLDER = Path(__file__).parents[1] / BUNDLED


@dataclass(frozen=True, slots=True)
class Settings:
    """What a checkpoint's `vlm2vec.json` may say. None: not said, so the default of VLM2Vec-V2 holds.

    Args:
        prompt_style: name of a style in `vlm2vec.model.prompts`.
        pooling: "last" or "mean".
        normalize: whether vectors are scaled to length one.
        min_pixels, max_pixels: of one picture or frame, after resizing.
        max_frame_pixels: of a frame of a video, where that is less: a video has many.
        num_frames: picked from a video.
    """

    prompt_style: str | None = None
    pooling: str | None = None
    normalize: bool | None = None
    min_pixels: int | None = None
    max_pixels: int | None = None
    max_frame_pixels: int | None = None
    num_frames: int | None = None

    def over(self, other: Settings) -> Settings:
        """These settings, with those of `other` where these say nothing."""
        return replace(other, **self.said())

    def said(self) -> dict[str, Any]:
        """What is said, by name."""
        return {key: value for key, value in asdict(self).items() if value is not None}


_TYPES: dict[str, type] = {
    "prompt_style": str,
    "pooling": str,
    "normalize": bool,
    "min_pixels": int,
    "max_pixels": int,
    "max_frame_pixels": int,
    "num_frames": int,
}
# Of config.json and adapter_config.json: who wrote them, where they came from, what only training reads.
_IDLE_KEYS = frozenset(
    {"transformers_version", "_name_or_path", "architectures", "torch_dtype", "dtype", "use_cache", "auto_mapping"}
    | {"base_model_name_or_path", "revision", "inference_mode", "peft_version", "task_type", "lora_dropout"}
)
_READ = frozenset(
    {"config.json", "adapter_config.json", SETTINGS_FILE, "tokenizer.json", "tokenizer_config.json"}
    | {"model.safetensors.index.json"}
)
PUBLISHED = Settings(pooling="last", normalize=True, min_pixels=3136, max_pixels=1_003_520, num_frames=8)
"""VLM2Vec-V2's own; its pixel limits hold whatever the checkpoint's preprocessor file says."""


def read_settings(folder: Path) -> Settings:
    """`vlm2vec.json` of a checkpoint folder; empty settings if there is none.

    Raises:
        ModelError: the file is not a JSON object, or holds an unknown key or a value of the wrong type.
    """
    path = folder / SETTINGS_FILE
    if not path.is_file():
        return Settings()
    try:
        values = load_json(path)
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}; mend its rights, or save it again") from None
    except ValueError as error:
        raise ModelError(f"{path} is not valid JSON: {error}") from None
    if not isinstance(values, dict):
        raise ModelError(f'{path} holds a {type(values).__name__}: it must be an object such as {{"pooling": "last"}}')
    known = [field.name for field in fields(Settings)]
    for key, value in values.items():
        if key not in known:
            raise ModelError(f"{path}: unknown key {key!r}; known are {', '.join(known)}")
        if type(value) is not _TYPES[key]:
            raise ModelError(f"{path}: {key} is {value!r}, it must be of type {_TYPES[key].__name__}")
    return Settings(**values)


def write_settings(folder: Path, settings: Settings) -> None:
    """Write `vlm2vec.json` into a checkpoint folder."""
    (folder / SETTINGS_FILE).write_text(json.dumps(settings.said(), indent=1) + "\n", "utf-8")


def settle_style(settings: Settings, names: Iterable[str]) -> Settings:
    """Settings whose prompt style is settled: as given, else by a known checkpoint name.

    Raises:
        StyleError: no name is known, or the style does not exist; the message lists the styles.
    """
    tried = list(names)
    style = settings.prompt_style or next((KNOWN_CHECKPOINTS[n] for n in tried if n in KNOWN_CHECKPOINTS), None)
    if style is None:
        raise StyleError(
            f"{' + '.join(tried)}: no {SETTINGS_FILE} names a prompt style and the checkpoint is not a known one; "
            f"pass prompt_style= (in a training configuration inputs.prompt_style) or name it in {SETTINGS_FILE}: "
            f"{', '.join(sorted(STYLES))}"
        )
    prompt_style(style)
    return replace(settings, prompt_style=style)


def find_checkpoint(name: str | Path, revision: str | None = None) -> Path:
    """Folder of a checkpoint: "bundled" or "tiny", a folder, or a hub name in the hub's cache or fetched.

    Raises:
        ModelError: there is no such folder, and the hub has no such model or cannot be reached.
    """
    if name in BUNDLED_NAMES:
        if not (BUNDLED_FOLDER / "config.json").is_file():
            raise ModelError(f"the bundled model is missing from {BUNDLED_FOLDER}; install vlm2vec again")
        return BUNDLED_FOLDER
    if not isinstance(name, (str, Path)) or not str(name):
        raise ModelError(f"{name!r} is no checkpoint; pass a folder, a hub name like 'owner/model', or 'bundled'")
    folder = Path(name).expanduser()
    if _is_readable_folder(folder):
        return folder
    hub_name = str(name)
    if isinstance(name, Path) or not re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", hub_name, re.ASCII):
        raise ModelError(f"no checkpoint folder {name}; pass a folder, a hub name like 'owner/model', or 'bundled'")
    return _from_hub(hub_name, revision)


def _is_readable_folder(folder: Path) -> bool:
    """Whether the folder is there.

    Raises:
        ModelError: it, or a file in it that a model consists of, may not be read. Libraries would call it missing.
    """
    at = folder
    try:
        if not stat.S_ISDIR(folder.stat().st_mode):
            return False
        for at in sorted(folder.iterdir()):
            if at.name in _READ or at.suffix == ".safetensors":
                with suppress(FileNotFoundError, IsADirectoryError), at.open("rb"):
                    pass
    except (FileNotFoundError, NotADirectoryError):
        return False
    except PermissionError as error:
        raise ModelError(
            f"{at} may not be read: {error.strerror}; ask its owner, or change its mode (chmod a+r, a+rx for a folder)"
        ) from None
    except OSError as error:
        raise ModelError(f"{at} cannot be read: {error.strerror}") from None
    return True


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file of a checkpoint. Raises ModelError if it is missing or malformed."""
    try:
        values = load_json(path)
    except FileNotFoundError:
        raise ModelError(f"{path.parent} holds no {path.name}, so it is no complete checkpoint") from None
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read: {error}") from None
    if not isinstance(values, dict):
        raise ModelError(f"{path} holds a {type(values).__name__}, not a JSON object")
    return values


def fingerprint(parts: object, folders: Iterable[Path], tokenizer: Path) -> str:
    """32 hex digits of what moves a vector: some parts, the weights and configuration of folders, a tokenizer file."""
    files = [path for folder in folders for path in sorted(folder.glob("*.safetensors"))] + [tokenizer]
    configs = [
        {key: value for key, value in read_json(path).items() if key not in _IDLE_KEYS}
        for folder in folders
        for path in (folder / "config.json", folder / "adapter_config.json")
        # An adapter's folder may hold a copy of its base's configuration, which nothing reads.
        if path.is_file() and (path.name == "adapter_config.json") == (folder / "adapter_config.json").is_file()
    ]
    hashes = [_content_hash(path) for path in files]
    stated = json.dumps([parts, configs, hashes], sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(stated.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def is_cached(name: str) -> bool:
    """Whether a model of the hub, and the base of an adapter, are on this machine as a whole."""
    folder = _cached(name, None)
    if folder is None:
        return False
    adapter = folder / "adapter_config.json"
    base = read_json(adapter).get("base_model_name_or_path") if adapter.is_file() else None
    return not base or Path(base).is_dir() or is_cached(base)


_WANTED = ["*.json", "*.safetensors", "merges.txt"]


def _cached(name: str, revision: str | None) -> Path | None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        folder = Path(snapshot_download(name, revision=revision, allow_patterns=_WANTED, local_files_only=True))
    except (LocalEntryNotFoundError, OSError):
        return None
    # The hub's library takes whatever part of a model is there for the whole.
    return folder if _has_weights(folder) else None


def _from_hub(name: str, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

    cached = _cached(name, revision)
    if cached is not None:
        return cached
    reason = "its weights are missing there"
    try:
        folder = Path(snapshot_download(name, revision=revision, allow_patterns=_WANTED))
        # Offline it may be what the cache has of it.
        if _has_weights(folder):
            return folder
    except RepositoryNotFoundError:
        raise ModelError(f"the hub has no model {name!r} that you may read; check the spelling or log in") from None
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        reason = type(error).__name__
    at = f" --revision {revision}" if revision else ""
    raise ModelError(
        f"{name} is not in the hub cache and could not be fetched ({reason}). On a machine with network run "
        f"'hf download {name}{at}' and copy the cache, or pass the folder of a copy"
    )


def _has_weights(folder: Path) -> bool:
    """Whether all weight files are there: other programs fetch only the configuration, or part of the shards."""
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        return all((folder / name).is_file() for name in set(read_json(index).get("weight_map", {}).values()))
    return any((folder / name).is_file() for name in ("model.safetensors", "adapter_model.safetensors"))


# Numbers behind the path in a key of the remembered hashes.
_STATED = 4


def _content_hash(path: Path) -> str:
    """SHA-256 of a file, remembered so that gigabytes are read once.

    It is remembered by path, size, both times and inode: a file may be replaced under its old size and time of change,
    as `cp -p`, `rsync -t` and archives do, but not under its old inode and time of its status.
    """
    status = path.stat()
    stated = (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
    key = "|".join([str(path.resolve()), *map(str, stated)])
    store = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vlm2vec" / "hashes.json"
    known: dict[str, str] = {}
    try:
        found = load_json(store)
        # Keys of earlier releases lack the inode and say too little. What else may stand there is no hash of ours.
        known = {
            name: digest
            for name, digest in found.items()
            if name.count("|") >= _STATED and re.fullmatch("[0-9a-f]{64}", str(digest))
        }
        if key in known:
            return known[key]
    except (OSError, ValueError, AttributeError):
        pass
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    try:
        store.parent.mkdir(parents=True, exist_ok=True)
        partial = store.with_suffix(f".{os.getpid()}")
        partial.write_text(json.dumps(known | {key: digest}), "utf-8")
        partial.replace(store)
    except OSError:
        pass  # Only a memory: a read-only home costs time, not correctness.
    return digest
