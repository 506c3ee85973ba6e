"""Unpacks what comes through a named pipe and prints a line for each piece that it reads, so that it can be killed.

Arguments: the pipe, the data root, the prefix, and the wanted paths.
"""

from __future__ import annotations

import sys
from pathlib import Path

from vlm2vec.fetching.archives import unpack

pipe, root, prefix, *wanted = sys.argv[1:]
unpack(
    [Path(pipe)], Path(root), prefix, lambda inner: f"{prefix}/{inner}", wanted, lambda count: print(count, flush=True)
)
