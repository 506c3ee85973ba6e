"""The command line lets torch's threads wait without holding their cores, unless the user says how they wait."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from vlm2vec.cli.doctor import _examine
from vlm2vec.cores import WAITING, WAITING_NAMES, share_cores

# torch's own OpenMP says as it is loaded how its threads are to wait.
PROGRAM = """
import ctypes, sys
from contextlib import suppress
from vlm2vec.cli.app import main
sys.argv = ["vlm2vec", "--version"]
with suppress(SystemExit):
    main()
assert "torch" not in sys.modules
ctypes.CDLL({library!r})
"""


@pytest.fixture
def unset(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in WAITING_NAMES:
        monkeypatch.delenv(name, raising=False)


def _openmp() -> Path | None:
    spec = find_spec("torch")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    [folder] = spec.submodule_search_locations
    return next(iter(sorted(Path(folder, "lib").glob("libgomp*.so*"))), None)


@pytest.mark.usefixtures("unset")
@pytest.mark.parametrize(
    ("users", "policy", "spins"),
    [
        ({}, "PASSIVE", WAITING["GOMP_SPINCOUNT"]),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE", "30000000000"),
        ({"GOMP_SPINCOUNT": "77"}, "PASSIVE", "77"),
    ],
)
def test_torchs_threads_wait_as_the_command_line_sets_it_or_as_the_user_does(
    users: dict[str, str], policy: str, spins: str
) -> None:
    library = _openmp()
    if library is None:
        pytest.skip("this build of torch brings no GNU OpenMP")
    told = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(library=str(library))],
        env=os.environ | users | {"OMP_DISPLAY_ENV": "VERBOSE"},
        check=True,
        capture_output=True,
        text=True,
    ).stderr
    assert re.findall(r"(?:GOMP_SPINCOUNT|OMP_WAIT_POLICY) = '(\w+)'", told) == [policy, spins]


@pytest.mark.usefixtures("unset")
@pytest.mark.parametrize("name", [None, *WAITING_NAMES])
def test_any_setting_of_the_user_is_left_alone(name: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    # Set and taken away by monkeypatch, so that it is gone after the test.
    for waiting in WAITING:
        monkeypatch.setenv(waiting, "")
        monkeypatch.delenv(waiting)
    if name is not None:
        monkeypatch.setenv(name, "users")
    share_cores()
    found = {name: os.environ[name] for name in WAITING_NAMES if name in os.environ}
    assert found == (WAITING if name is None else {name: "users"})


OFFER = "; for Python programs of your own beside other work, export {} before they start"


@pytest.mark.usefixtures("unset")
@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({}, "spinning, OpenMP's default" + OFFER),
        (WAITING, "{}" + OFFER),
        ({"OMP_WAIT_POLICY": "ACTIVE", "KMP_BLOCKTIME": "5"}, "OMP_WAIT_POLICY=ACTIVE KMP_BLOCKTIME=5"),
    ],
)
def test_doctor_says_how_threads_wait_and_what_to_export(
    environment: dict[str, str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    [finding] = [finding for finding in _examine() if finding.name == "CPU waiting"]
    [(name, value)] = WAITING.items()
    assert finding.value == said.replace("{}", f"{name}={value}")
    assert finding.advice is None
