"""`vlm2vec doctor`: check the installation and say what to mend."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vlm2vec.cli.options import IndexPath
from vlm2vec.cli.output import print_json, told
from vlm2vec.cores import WAITING, WAITING_NAMES, usable_cores
from vlm2vec.errors import VLM2VecError
from vlm2vec.search.scan import check_folder
from vlm2vec.text import printable

if TYPE_CHECKING:
    from packaging.requirements import Requirement

# What phones, cameras, browsers and screen recorders write.
_DECODERS = ("h264", "hevc", "vp8", "vp9", "av1", "mpeg4", "mjpeg")

_MOST_PROBLEMS = 20
_FOR_DEVELOPERS = {"test", "check"}


@dataclass(frozen=True, slots=True)
class _Finding:
    """One thing looked at; `advice` says what to do about it, None if it is as it should be."""

    name: str
    value: str
    advice: str | None = None


def doctor(
    folder: Annotated[Path | None, typer.Argument(help="Check the index of this folder instead.")] = None,
    index_path: IndexPath = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """Check the installation: Python, packages, devices, models, video codecs. Exits with 1 if something is wrong.

    With a folder, its index is read from end to end instead, and compared with its checksums.
    """
    of_index = folder is not None or index_path is not None
    findings = list(_examine_index(folder, index_path) if of_index else _examine())
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


def _examine_index(folder: Path | None, index_path: Path | None) -> Iterator[_Finding]:
    """Look at all of an index: that of a folder, or the one at a path."""
    from vlm2vec.search.library import Library
    from vlm2vec.search.store import DEFAULT_NAME

    if folder is not None:
        check_folder(folder)
    yield _Finding("index", str(index_path if index_path is not None else (folder or Path()) / DEFAULT_NAME))
    try:
        with Library.open(folder, index=index_path) as library:
            verdict = library.verify()
            failures = {} if verdict.problems else library.failures()
    except VLM2VecError as error:
        yield _Finding("state", "it cannot be used", told(error))
        return
    yield _Finding("model", verdict.model)
    if not verdict.problems:
        yield _Finding("vectors", f"{verdict.num_units:,} of {verdict.num_files:,} files")
    old = "none yet; the next 'vlm2vec index' writes them"
    yield _Finding("checksums", old if verdict.num_sealed is None else f"{verdict.num_sealed:,} hold")
    for problem in verdict.problems[:_MOST_PROBLEMS]:
        yield _Finding("damage", problem, "'vlm2vec index FOLDER --rebuild' makes the index anew")
    if (rest := len(verdict.problems) - _MOST_PROBLEMS) > 0:
        yield _Finding("damage", f"and {rest:,} more")
    yield _Finding("files not read", f"{len(failures):,}" + ("; 'vlm2vec index' says why" if failures else ""))


def _examine() -> Iterator[_Finding]:
    """Look at everything, most general first."""
    old = sys.version_info < (3, 11)
    yield _Finding("python", platform.python_version(), "install Python 3.11 or newer" if old else None)
    yield _Finding("system", f"{platform.system()} {platform.machine()}")
    try:
        yield _Finding("vlm2vec", importlib.metadata.version("vlm2vec"))
        yield from _examine_packages()
    except importlib.metadata.PackageNotFoundError:
        yield _Finding("vlm2vec", "run from its source without being installed; its packages are not looked at")
    yield from _examine_torch()
    yield from _examine_models()
    yield _examine_codecs()
    yield from _examine_programs()


def _examine_packages(distribution: str = "vlm2vec") -> Iterator[_Finding]:
    """Look for each package that an installed one needs by its own metadata, then for those of its extras."""
    from packaging.requirements import Requirement

    own = importlib.metadata.metadata(distribution)
    requirements = [Requirement(text) for text in own.get_all("Requires-Dist", [])]

    def needed(extra: str) -> list[Requirement]:
        return [one for one in requirements if one.marker is None or one.marker.evaluate({"extra": extra})]

    extras = set(own.get_all("Provides-Extra", [])) - _FOR_DEVELOPERS
    looked_at = {distribution}
    # A package of several extras is told of with the one that brings least besides.
    for extra in ("", *sorted(extras, key=lambda extra: (len(needed(extra)), extra))):
        for package in needed(extra):
            if package.name not in looked_at:
                looked_at.add(package.name)
                yield _examine_package(package, extra)


def _examine_package(package: Requirement, extra: str) -> _Finding:
    wanted = f"'{package.name}{package.specifier}'"
    try:
        version = importlib.metadata.version(package.name)
    except importlib.metadata.PackageNotFoundError:
        if extra:
            return _Finding(package.name, f"not installed; it comes with the extra {extra!r}")
        return _Finding(package.name, "missing", f"install it: pip install {wanted}")
    fits = package.specifier.contains(version, prereleases=True)
    return _Finding(package.name, version, None if fits else f"too old: pip install --upgrade {wanted}")


def _examine_torch() -> Iterator[_Finding]:
    if find_spec("torch") is None:
        yield _Finding("device", "cpu, float32: torch, which comes with 'vlm2vec[models]', is not installed")
        return
    try:
        import torch
    except Exception as error:
        # A torch built for another system fails in many ways, and this command is there to say so.
        yield _Finding("device", f"torch cannot be imported: {error}", "install torch again for this system")
        return
    yield _Finding("CPU threads", f"{torch.get_num_threads()} of {usable_cores()}")
    yield _examine_waiting()
    if not torch.cuda.is_available():
        yield _Finding("CUDA", f"none (torch built for {torch.version.cuda or 'CPU only'})")
        yield _Finding("device", "cpu, float32")
        return
    properties = torch.cuda.get_device_properties(0)
    yield _Finding("CUDA", f"{torch.version.cuda}, {properties.name}, {properties.total_memory / 2**30:.0f} GiB")
    has_bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
    yield _Finding("bfloat16", "yes" if has_bf16 else "emulated: slow on this device; Embedder.load(dtype=...) chooses")
    yield _Finding("device", "cuda:0, bfloat16")


def _examine_waiting() -> _Finding:
    """How torch's threads wait in this command, and in a user's own programs if the environment does not say."""
    chosen = {name: os.environ[name] for name in WAITING_NAMES if name in os.environ}
    value = " ".join(f"{name}={setting}" for name, setting in chosen.items()) or "spinning, OpenMP's default"
    if chosen in ({}, WAITING):
        export = " ".join(f"{name}={setting}" for name, setting in WAITING.items())
        value += f"; for Python programs of your own beside other work, export {export} before they start"
    return _Finding("CPU waiting", value)


def _examine_models() -> Iterator[_Finding]:
    from huggingface_hub.constants import HF_HUB_CACHE, HF_HUB_OFFLINE

    from vlm2vec.model.checkpoint import SHIPPED, is_shipped

    for name, folder in SHIPPED.items():
        there = is_shipped(name)
        yield _Finding(
            f"model {name}",
            str(folder) if there else "missing",
            None if there else f"{folder} is incomplete: install vlm2vec again, or name another model with --model",
        )
    yield _Finding("hub cache", f"{HF_HUB_CACHE}{' (offline)' if HF_HUB_OFFLINE else ''}")


def _examine_codecs() -> _Finding:
    try:
        import av
    except Exception as error:
        return _Finding("video", f"PyAV cannot be imported: {error}", "install it again: pip install av")
    missing = []
    for name in _DECODERS:
        try:
            av.Codec(name, "r")
        except ValueError:
            missing.append(name)
    return _Finding(
        "video",
        f"FFmpeg {av.ffmpeg_version_info}, decodes {', '.join(name for name in _DECODERS if name not in missing)}",
        f"videos in {', '.join(missing)} cannot be read: install PyAV's own build, pip install av" if missing else None,
    )


def _examine_programs() -> Iterator[_Finding]:
    """Look for the programs that draw pages of documents; their words are found without."""
    from vlm2vec.media.documents.render import PROGRAMS, program_path

    for program in sorted(set(PROGRAMS.values())):
        endings = " ".join(sorted(ending for ending, one in PROGRAMS.items() if one == program))
        without = f"not installed; with it, the pages of {endings} can be seen"
        yield _Finding(program, program_path(program) or without)
