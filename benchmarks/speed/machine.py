"""Which machine was it, and how much memory did a run take?"""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path


def describe() -> dict[str, object]:
    """Processor, cores, and the versions that matter."""
    info = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    names = [line.split(":")[1].strip() for line in info.splitlines() if line.startswith("model name")]
    features = next((line.split(":")[1].split() for line in info.splitlines() if line.startswith("flags")), [])
    packages = ("torch", "transformers", "lancedb", "numpy", "pillow")
    return {
        "cpu": names[0] if names else platform.processor(),
        "cores": os.cpu_count(),
        "bfloat16": [name for name in ("avx512_bf16", "amx_bf16") if name in features],
        "python": platform.python_version(),
        "versions": {name: version(name) for name in packages},
    }


def peak_mb(run: Callable[[], object]) -> int:
    """MB that the peak of a run lies above what the process held before it (Linux)."""
    # The highest mark is set to what is held now.
    Path("/proc/self/clear_refs").write_text("5")
    before = _status_kib("VmRSS")
    run()
    return round((_status_kib("VmHWM") - before) * 1024 / 1e6)


def _status_kib(name: str) -> int:
    found = re.search(rf"^{name}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1])
