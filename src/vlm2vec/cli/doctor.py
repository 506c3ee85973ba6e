"""`vlm2vec doctor`: check the installation and say what to mend."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Annotated

import typer

from vlm2vec.cli.output import print_json
from vlm2vec.search.scan import printable

_PACKAGES = [
    "torch",
    "transformers",
    "tokenizers",
    "huggingface-hub",
    "peft",
    "safetensors",
    "numpy",
    "pillow",
    "av",
    "pypdfium2",
    "lancedb",
    "pyarrow",
    "typer",
    "rich",
    "pydantic",
    "pyyaml",
]
# What phones, cameras, browsers and screen recorders write.
_DECODERS = ("h264", "hevc", "vp8", "vp9", "av1", "mpeg4", "mjpeg")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at; `advice` says what to do about it, None if it is as it should be."""

    name: str
    value: str
    advice: str | None = None


def doctor(as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False) -> None:
    """Check the installation: Python, packages, devices, models, video codecs. Exits with 1 if something is wrong."""
    findings = list(examine())
    wrong = [finding for finding in findings if finding.advice]
    if as_json:
        print_json({"ok": not wrong, "findings": [asdict(finding) for finding in findings]})
    else:
        width = max(len(finding.name) for finding in findings)
        for finding in findings:
            print(f"{'x' if finding.advice else ' '} {finding.name:<{width}}  {printable(finding.value)}")
        print()
        for finding in wrong:
            print(f"{finding.name}: {finding.advice}")
        if not wrong:
            print("Nothing is wrong.")
    if wrong:
        raise typer.Exit(1)


def examine() -> Iterator[Finding]:
    """Look at everything, most general first."""
    old = sys.version_info < (3, 11)
    yield Finding("python", platform.python_version(), "install Python 3.11 or newer" if old else None)
    yield Finding("system", f"{platform.system()} {platform.machine()}")
    try:
        yield Finding("vlm2vec", importlib.metadata.version("vlm2vec"))
    except importlib.metadata.PackageNotFoundError:
        yield Finding("vlm2vec", "run from its source without being installed")
    for package in _PACKAGES:
        try:
            yield Finding(package, importlib.metadata.version(package))
        except importlib.metadata.PackageNotFoundError:
            yield Finding(package, "missing", f"install it: pip install {package}")
    yield from _examine_torch()
    yield from _examine_models()
    yield _examine_codecs()


def _examine_torch() -> Iterator[Finding]:
    try:
        import torch
    except Exception as error:
        # A torch built for another system fails in many ways, and this command is there to say so.
        yield Finding("device", f"torch cannot be imported: {error}", "install torch again for this system")
        return
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    yield Finding("CPU threads", f"{torch.get_num_threads()} of {available}")
    if not torch.cuda.is_available():
        yield Finding("CUDA", f"none (torch built for {torch.version.cuda or 'CPU only'})")
        yield Finding("device", "cpu, float32")
        return
    properties = torch.cuda.get_device_properties(0)
    yield Finding("CUDA", f"{torch.version.cuda}, {properties.name}, {properties.total_memory / 2**30:.0f} GiB")
    has_bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
    yield Finding("bfloat16", "yes" if has_bf16 else "emulated: slow on this device; Embedder.load(dtype=...) chooses")
    yield Finding("device", "cuda:0, bfloat16")


def _examine_models() -> Iterator[Finding]:
    from huggingface_hub.constants import HF_HUB_CACHE, HF_HUB_OFFLINE

    from vlm2vec.model.checkpoint import BUNDLED_FOLDER

    there = any(BUNDLED_FOLDER.glob("*.safetensors")) and (BUNDLED_FOLDER / "config.json").exists()
    yield Finding(
        "bundled model",
        str(BUNDLED_FOLDER) if there else "missing",
        None if there else f"{BUNDLED_FOLDER} is incomplete: install vlm2vec again, or name another model with --model",
    )
    yield Finding("hub cache", f"{HF_HUB_CACHE}{' (offline)' if HF_HUB_OFFLINE else ''}")


def _examine_codecs() -> Finding:
    try:
        import av
    except Exception as error:
        return Finding("video", f"PyAV cannot be imported: {error}", "install it again: pip install av")
    missing = [name for name in _DECODERS if not _can_decode(name)]
    return Finding(
        "video",
        f"FFmpeg {av.ffmpeg_version_info}, decodes {', '.join(name for name in _DECODERS if name not in missing)}",
        f"videos in {', '.join(missing)} cannot be read: install PyAV's own build, pip install av" if missing else None,
    )


def _can_decode(name: str) -> bool:
    import av

    try:
        av.Codec(name, "r")
    except ValueError:
        return False
    return True
