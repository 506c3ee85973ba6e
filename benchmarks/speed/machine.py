"""Which machine was it?"""

from __future__ import annotations

import os
import platform
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
