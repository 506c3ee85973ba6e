"""The example of docs/mining.md, as it stands there."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from support.places import ROOT
from vlm2vec.cli.app import app


def test_the_example_prints_what_the_docs_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [line.removeprefix("    ") for line in (ROOT / "docs" / "mining.md").read_text("utf-8").splitlines()]
    begin, end = lines.index("cat > pairs.jsonl <<'END'"), lines.index("END")
    (tmp_path / "pairs.jsonl").write_text("\n".join(lines[begin + 1 : end]) + "\n", "utf-8")
    (tmp_path / "samples").symlink_to(ROOT / "samples")
    monkeypatch.chdir(tmp_path)
    command = lines[end + 1].split()
    assert command[:2] == ["vlm2vec", "mine"]
    result = CliRunner().invoke(app, command[1:])
    assert (result.exit_code, result.stdout) == (0, "mined.jsonl\n")
    said = lines[lines.index("mined.jsonl") - 3 : lines.index("mined.jsonl")]
    found = result.stderr.splitlines()[-3:]
    # The last digits of a similarity depend on the processor.
    assert [re.sub(r"0\.\d+", "_", line) for line in found] == [re.sub(r"0\.\d+", "_", line) for line in said]
    numbers = [[float(number) for number in re.findall(r"0\.\d+", line[-1])] for line in (found, said)]
    assert numbers[0] == pytest.approx(numbers[1], abs=0.01)
    shown = next(line for line in lines if line.startswith('{"query": "a red apple"') and "negatives" in line)
    assert json.loads((tmp_path / "mined.jsonl").read_text().splitlines()[0]) == json.loads(shown)
