"""Where do the parts of a checkpoint lie, and which settings hold for it?"""

from __future__ import annotations

import json
import re
import stat
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from pydantic import ConfigDict, StrictBool, StrictInt, StrictStr, TypeAdapter, ValidationError

from vlm2vec.documents import load_json, problems
from vlm2vec.errors import HubError, ModelError, StyleError
from vlm2vec.model.prompts import KNOWN_CHECKPOINTS, STYLES, prompt_style

SETTINGS_FILE = "vlm2vec.json"
BUNDLED = "bundled"
SHIPPED = {name: Path(__file__).parents[1] / name for name in (BUNDLED, "tiny")}
"""The models in this package: the default one, and a small Qwen2-VL for tests and walks through training."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The content of a checkpoint's `vlm2vec.json`. None: not said, so the default of VLM2Vec-V2 holds.

    Args:
        prompt_style: name of a style in `vlm2vec.model.prompts`.
        pooling: "last" or "mean".
        normalize: whether vectors are scaled to length one.
        min_pixels, max_pixels: of one picture or frame, after resizing.
        max_frame_pixels: of a frame of a video, where that is less: a video has many.
        num_frames: picked from a video.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    prompt_style: StrictStr | None = None
    pooling: StrictStr | None = None
    normalize: StrictBool | None = None
    min_pixels: StrictInt | None = None
    max_pixels: StrictInt | None = None
    max_frame_pixels: StrictInt | None = None
    num_frames: StrictInt | None = None

    @classmethod
    def read(cls, folder: Path) -> Settings:
        """Those of a checkpoint folder; empty ones if it has no `vlm2vec.json`.

        Raises:
            ModelError: the file is no JSON object that can be read, or holds an unknown key or a wrong value.
        """
        path = folder / SETTINGS_FILE
        if not path.is_file():
            return cls()
        try:
            return TypeAdapter(cls).validate_python(read_json(path))
        except ValidationError as error:
            known = ", ".join(field.name for field in fields(cls))
            raise ModelError(f"{path}: {'; '.join(problems(error))} (known are {known})") from None

    def write(self, folder: Path) -> None:
        """Write `vlm2vec.json` into a checkpoint folder."""
        (folder / SETTINGS_FILE).write_text(json.dumps(self.said(), indent=1) + "\n", "utf-8")

    def over(self, other: Settings) -> Settings:
        """These settings, with those of `other` where these say nothing."""
        return replace(other, **self.said())

    def said(self) -> dict[str, Any]:
        """Those that are said, by name."""
        return {key: value for key, value in asdict(self).items() if value is not None}


_ONNX = ("image.onnx", "text.onnx")
_WANTED = ["*.json", "*.safetensors", "merges.txt", *_ONNX]
_READ = frozenset(
    {"config.json", "adapter_config.json", SETTINGS_FILE, "tokenizer.json", "tokenizer_config.json"}
    | {"model.safetensors.index.json", *_ONNX}
)
PUBLISHED = Settings(pooling="last", normalize=True, min_pixels=3136, max_pixels=1_003_520, num_frames=8)
"""VLM2Vec-V2's own; its pixel limits hold whatever the checkpoint's preprocessor file says."""


class Folders(NamedTuple):
    """Where the parts of a model lie."""

    base: Path
    adapter: Path | None
    names: tuple[str, ...]

    @classmethod
    def find(
        cls,
        name: str | Path,
        base: str | Path | None = None,
        adapter: str | Path | None = None,
        revision: str | None = None,
    ) -> Folders:
        """Folders of a model given as a whole, as adapter with `base`, or as base with `adapter`.

        Raises:
            ModelError: a part is missing, or base and adapter are given in a way that contradicts itself.
            HubError: the hub has no such model, or cannot be reached.
        """
        folder = _find_checkpoint(name, revision)
        if not _is_adapter(folder):
            if base is not None:
                raise ModelError(f"{name} is a whole model, so base={base} has no meaning; did you mean adapter=?")
            if adapter is None:
                return cls(folder, None, (str(name),))
            adapter_folder = _find_checkpoint(adapter)
            if not _is_adapter(adapter_folder):
                raise ModelError(f"adapter={adapter} holds no adapter_config.json, so it is no adapter")
            return cls(folder, adapter_folder, (str(adapter), str(name)))
        if adapter is not None:
            raise ModelError(f"{name} is itself an adapter, so adapter={adapter} has no meaning; did you mean base=?")
        named = base if base is not None else read_json(folder / "adapter_config.json").get("base_model_name_or_path")
        if not named:
            raise ModelError(
                f"{name} does not name its base model; pass base=, or name it in {folder / 'adapter_config.json'} as "
                "base_model_name_or_path"
            )
        try:
            return cls(_find_checkpoint(named), folder, (str(name), str(named)))
        except (ModelError, HubError) as error:
            raise error.of(f"base model of {name}") from None

    @property
    def kind(self) -> object:
        """The family of models that it is of: `family` of its `vlm2vec.json`, else `model_type` of its config.json.

        Raises:
            ModelError: neither file is there, or one is damaged.
        """
        settings = self.base / SETTINGS_FILE
        family = read_json(settings).get("family") if settings.is_file() else None
        return read_json(self.base / "config.json").get("model_type") if family is None else family

    @property
    def parts(self) -> list[Path]:
        """The folders; what is in the adapter's goes before the same in its base's."""
        return [folder for folder in (self.adapter, self.base) if folder is not None]

    def with_file(self, name: str) -> Path | None:
        """The folder whose file of that name holds; None if there is none."""
        return next((folder for folder in self.parts if (folder / name).is_file()), None)

    def settled(self, wanted: Settings) -> Settings:
        """The settings that hold: wanted, else the checkpoint's own, else published.

        Raises:
            StyleError: none of them names a prompt style, the checkpoint is not a known one, or there is no such style.
            ModelError: a `vlm2vec.json` is damaged.
        """
        for settings in (*map(Settings.read, self.parts), PUBLISHED):
            wanted = wanted.over(settings)
        style = wanted.prompt_style or next((KNOWN_CHECKPOINTS[n] for n in self.names if n in KNOWN_CHECKPOINTS), None)
        if style is None:
            raise StyleError(
                f"{' + '.join(self.names)}: no {SETTINGS_FILE} names a prompt style and the checkpoint is not a known "
                f"one; pass prompt_style= (in a training configuration inputs.prompt_style) or name it in "
                f"{SETTINGS_FILE}: {', '.join(sorted(STYLES))}"
            )
        prompt_style(style)
        return replace(wanted, prompt_style=style)


def _find_checkpoint(name: str | Path, revision: str | None = None) -> Path:
    """Folder of a checkpoint: "bundled" or "tiny", a folder, or a hub name in the hub's cache or fetched."""
    if isinstance(name, str) and name in SHIPPED:
        if not is_shipped(name):
            raise ModelError(f"the model {name!r} is missing from {SHIPPED[name]}; install vlm2vec again")
        return SHIPPED[name]
    if not isinstance(name, (str, Path)) or not str(name):
        raise ModelError(f"{name!r} is no checkpoint; pass a folder, a hub name like 'owner/model', or 'bundled'")
    folder = Path(name).expanduser()
    if _is_readable_folder(folder):
        return folder
    hub_name = str(name)
    if isinstance(name, Path) or not re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", hub_name, re.ASCII):
        raise ModelError(f"no checkpoint folder {name}; pass a folder, a hub name like 'owner/model', or 'bundled'")
    return _from_hub(hub_name, revision)


def is_shipped(name: str) -> bool:
    """Whether a model of this package lies there whole, as far as a look at the names of its files tells."""
    folder = SHIPPED[name]
    weights = any(folder.glob("*.onnx")) or any(folder.glob("*.safetensors"))
    return weights and (folder / SETTINGS_FILE).is_file() and (folder / "tokenizer.json").is_file()


def _is_adapter(folder: Path) -> bool:
    """Whether the folder holds a PEFT adapter rather than a whole model."""
    return (folder / "adapter_config.json").is_file()


def _is_readable_folder(folder: Path) -> bool:
    """Whether the folder is there; a ModelError if it may not be read, which libraries would call missing."""
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


def is_cached(name: str) -> bool:
    """Whether a model of the hub, and the base of an adapter, are on this machine as a whole."""
    folder = _cached(name, None)
    if folder is None:
        return False
    base = read_json(folder / "adapter_config.json").get("base_model_name_or_path") if _is_adapter(folder) else None
    return not base or Path(base).is_dir() or is_cached(base)


def _cached(name: str, revision: str | None) -> Path | None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        folder = Path(snapshot_download(name, revision=revision, allow_patterns=_WANTED, local_files_only=True))
    except (LocalEntryNotFoundError, OSError):
        return None
    # The hub's library takes any part of a model for the whole.
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
        # Offline it may be only the part that the cache has.
        if _has_weights(folder):
            return folder
    except RepositoryNotFoundError:
        raise HubError(f"the hub has no model {name!r} that you may read; check the spelling or log in") from None
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        reason = type(error).__name__
    at = f" --revision {revision}" if revision else ""
    raise HubError(
        f"{name} is not in the hub cache and could not be fetched ({reason}). On a machine with network run "
        f"'hf download {name}{at}' and copy the cache, or pass the folder of a copy"
    )


def _has_weights(folder: Path) -> bool:
    """Whether all weight files are there: other programs fetch only the configuration, or part of the shards."""
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        return all((folder / name).is_file() for name in set(read_json(index).get("weight_map", {}).values()))
    single = ("model.safetensors", "adapter_model.safetensors")
    return any((folder / name).is_file() for name in single) or all((folder / name).is_file() for name in _ONNX)
