"""Processes that share a run end in order."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

END = r"""
import sys
from torch import distributed
from vlm2vec.processes import Processes, among_processes, leave

with among_processes():
    processes = Processes.joined()
    kept = distributed.group.WORLD
    # Long enough that gloo's threads have not freed their tensors when the interpreter ends.
    sys.setswitchinterval(5)
    for step in range(3):
        processes.gather(step)
sys.stdout.write("done\n")
leave(int(sys.argv[1]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("code", [0, 3])
def test_processes_leave_with_their_code_while_the_threads_of_gloo_still_run(tmp_path: Path, code: int) -> None:
    script = tmp_path / "end.py"
    script.write_text(END)
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "4", str(script), str(code)]
    run = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert run.stdout == "done\n" * 4
    assert "terminate called" not in run.stderr
    assert run.returncode == (1 if code else 0)
