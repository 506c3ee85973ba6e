"""Which negatives are found for which rows, and what the mined file says."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Generator, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from typer.testing import CliRunner

from support.golden_cases import GOLDEN, MODEL
from support.places import ROOT
from vlm2vec.cli.app import app
from vlm2vec.data.records import Pair, read_pairs
from vlm2vec.errors import ConfigError, DataError, MediaError, VLM2VecError
from vlm2vec.items import Item, ItemLike
from vlm2vec.model.backbone import Ask, Vectors
from vlm2vec.model.embedder import Embedder
from vlm2vec.training.mining import MiningReport, _numbered, _select_negatives, _write_mined, mine, mine_file
from vlm2vec.vectors.store import VectorStore


class Cosines:
    """A model in which each document is a number: its cosine to every query."""

    fingerprint = "cosines"
    dim = 2

    def stream(
        self,
        items: Iterable[ItemLike],
        ask: Ask = Ask(),
        **options: object,
    ) -> Generator[tuple[int, Vectors | VLM2VecError], None, None]:
        for position, item in enumerate(items):
            assert isinstance(item, Item)
            cosine = 1.0 if ask.role == "query" else float(item.text)
            yield position, np.array([cosine, math.sqrt(1 - cosine**2)], dtype=np.float32) * 3


def _pairs(
    *positives: str,
    queries: Sequence[str] | None = None,
    labels: Sequence[str | None] | None = None,
    negatives: Sequence[Sequence[str]] | None = None,
) -> list[Pair]:
    count = len(positives)
    queries = queries or [f"q{row}" for row in range(count)]
    columns = zip(queries, positives, labels or [None] * count, negatives or [[]] * count, strict=True)
    return [
        Pair(Item(query), Item(positive), label, f"rows:{row}", tuple(map(Item, of_row)))
        for row, (query, positive, label, of_row) in enumerate(columns, 1)
    ]


def _mine(pairs: list[Pair], folder: Path, **settings: float) -> tuple[MiningReport, list[list[str]]]:
    """The report, and the texts of each row's negatives."""
    report, negatives = mine(pairs, Cosines(), VectorStore.open(folder, 2), **settings)  # type: ignore[arg-type]
    return report, [[pairs[row].positive.text for row in of_row] for of_row in negatives]


# What is chosen


def test_the_best_below_the_margin_are_taken(tmp_path: Path) -> None:
    report, negatives = _mine(_pairs("0.8", "0.96", "0.6", "0.28", "0.76"), tmp_path, num_negatives=2)
    # Row 1 may take up to 0.75, so neither 0.96 nor 0.76; row 4 nothing, as all score above 0.23.
    assert negatives == [["0.6", "0.28"], ["0.8", "0.76"], ["0.28"], [], ["0.6", "0.28"]]
    assert asdict(report) == {
        "rows": 5,
        "candidates": 5,
        "negatives": 7,
        "short_rows": 2,
        "dropped_by_label": 0,
        "dropped_by_margin": 2 + 0 + 3 + 4 + 2,
        "positive_similarity": pytest.approx((0.8 + 0.96 + 0.6 + 0.28 + 0.76) / 5),
        "negative_similarity": pytest.approx((0.6 + 0.28 + 0.8 + 0.76 + 0.28 + 0.6 + 0.28) / 7),
    }


def test_a_margin_of_zero_allows_what_scores_like_the_positive_and_not_above(tmp_path: Path) -> None:
    _, negatives = _mine(_pairs("0.5", "-0.5", "0.75"), tmp_path, num_negatives=3, margin=0.0)
    assert negatives == [["-0.5"], [], ["0.5", "-0.5"]]


def test_only_the_first_ranks_of_the_pool_are_looked_at(tmp_path: Path) -> None:
    report, negatives = _mine(_pairs("0.8", "0.96", "0.6", "0.28", "0.76"), tmp_path, num_negatives=2, pool=2)
    assert negatives == [[], ["0.8", "0.76"], [], [], []]
    assert (report.short_rows, report.dropped_by_margin) == (4, 2 + 0 + 2 + 2 + 2)


def test_positives_of_the_same_label_are_never_negatives_and_take_no_rank(tmp_path: Path) -> None:
    pairs = _pairs("0.9", "0.8", "0.7", "0.1", labels=["x", "x", None, "y"])
    report, negatives = _mine(pairs, tmp_path, num_negatives=1, pool=1)
    # The one rank of rows 1 and 2 falls to 0.7; that of rows 3 and 4 to 0.9, which is above their own.
    assert negatives == [["0.7"], ["0.7"], [], []]
    assert (report.dropped_by_label, report.dropped_by_margin) == (2, 2)


def test_positives_of_the_same_query_are_never_negatives(tmp_path: Path) -> None:
    pairs = _pairs("0.9", "0.5", "0.4", queries=["same", "same", "other"], labels=[None, "x", "x"])
    report, negatives = _mine(pairs, tmp_path, num_negatives=3)
    assert negatives == [["0.4"], [], []]
    assert report.dropped_by_label == 1 + 2 + 1


def test_a_positive_of_several_rows_is_one_candidate_and_not_the_negative_of_its_own(tmp_path: Path) -> None:
    report, negatives = _mine(_pairs("0.9", "0.9", "0.1", "0.1"), tmp_path)
    assert negatives == [["0.1"], ["0.1"], [], []]
    assert (report.rows, report.candidates, report.negatives) == (4, 2, 2)


def test_negatives_that_a_row_has_are_not_found_again(tmp_path: Path) -> None:
    pairs = _pairs("0.9", "0.5", "0.4", "0.3", negatives=[["0.5", "nowhere"], [], [], []])
    report, negatives = _mine(pairs, tmp_path, num_negatives=2)
    assert negatives[0] == ["0.4", "0.3"]
    assert report.short_rows == 2


def test_selection_takes_the_first_that_are_there_and_not_too_close() -> None:
    ranked = np.array([[7, -1, 3, 2, 1], [4, 5, 6, -1, -1]])
    scores = np.array([[0.9, 0.8, 0.5, 0.4, 0.3], [0.9, 0.8, 0.7, -np.inf, -np.inf]], dtype=np.float32)
    chosen, too_close = _select_negatives(
        ranked, scores, np.array([0.75, 0.5], np.float32), num_negatives=2, margin=0.25
    )
    assert chosen.tolist() == [[False, False, True, True, False], [False] * 5]
    assert too_close.tolist() == [[True, False, False, False, False], [True, True, True, False, False]]


@pytest.mark.parametrize("settings", [{"num_negatives": 0}, {"pool": 0}, {"margin": math.nan}])
def test_settings_out_of_range_are_refused(tmp_path: Path, settings: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="cannot mine"):
        _mine(_pairs("0.1", "0.2"), tmp_path, **settings)


def test_one_positive_alone_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot mine negatives among 1 different positives"):
        _mine(_pairs("0.1", "0.1"), tmp_path)


def test_keys_are_numbered_in_the_order_of_their_first_appearance() -> None:
    of_each, first = _numbered([b"c", b"a", b"c", b"b", b"a"])
    assert (of_each.tolist(), first.tolist()) == ([0, 1, 0, 2, 1], [0, 1, 3])


# Files


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """A file of five rows over pictures and a folder of frames, in a folder of its own."""
    folder = tmp_path / "data"
    (folder / "media" / "clip").mkdir(parents=True)
    for name in ("red", "green", "blue"):
        PIL.Image.new("RGB", (28, 28), name).save(folder / "media" / f"{name}.png")
    PIL.Image.new("RGB", (28, 28), "white").save(folder / "media" / "clip" / "0.png")
    absolute = str(GOLDEN / "inputs" / "img_28.png")
    values: list[dict[str, object]] = [
        {"query": "röd", "positive": {"image": "media/red.png", "instruction": "Look."}, "label": "r"},
        {"query": {"text": "green"}, "positive": {"image": "media/green.png"}, "negatives": ["grün"]},
        {"positive": {"image": ["media/blue.png"]}, "query": {"text": "blue", "image": "./media/red.png"}},
        {"query": "a clip", "positive": {"video": "media/clip"}},
        {"query": "28", "positive": {"image": absolute}},
    ]
    path = folder / "pairs.jsonl"
    path.write_text("\n\n".join(json.dumps(value, ensure_ascii=False) for value in values) + "\n", "utf-8")
    return path


def _values(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines() if line]


def test_a_mined_file_holds_the_rows_unchanged_and_the_others_positives_verbatim(own: Embedder, rows: Path) -> None:
    out = rows.with_name("mined.jsonl")
    # With this margin nothing is too close.
    report = mine_file(rows, out, own, vectors=rows.with_name("vectors"), num_negatives=2, margin=-3)
    before, after = _values(rows), _values(out)
    assert (report.negatives, report.short_rows) == (10, 0)
    positives = [value["positive"] for value in before]
    for old, new in zip(before, after, strict=True):
        negatives = new.pop("negatives")
        had = old.pop("negatives", [])
        assert new == old
        assert list(new) == list(old)
        assert negatives[: len(had)] == had
        found = negatives[len(had) :]
        assert len(found) == 2
        assert all(value in positives and value != old["positive"] for value in found)
    assert [len(pair.negatives) for pair in read_pairs(out)] == [2, 3, 2, 2, 2]
    assert "röd" in out.read_text("utf-8")


def test_the_negatives_are_the_embedders_nearest(own: Embedder, rows: Path) -> None:
    out = rows.with_name("mined.jsonl")
    mine_file(rows, out, own, vectors=rows.with_name("vectors"), num_negatives=4, margin=-3)
    pairs = read_pairs(out)
    documents = own.encode_document([pair.positive for pair in pairs])
    targets = ["image", "image", "image", "video", "image"]
    for row, (pair, target) in enumerate(zip(pairs, targets, strict=True)):
        scores = documents @ own.encode_query(pair.query, target=target)  # type: ignore[arg-type]
        order = [int(i) for i in np.argsort(-scores) if i != row]
        found = pair.negatives[-4:]
        assert [item.media for item in found] == [pairs[i].positive.media for i in order]


def test_media_paths_hold_from_the_output_folder(own: Embedder, rows: Path, tmp_path: Path) -> None:
    out = tmp_path / "elsewhere" / "deep" / "mined.jsonl"
    out.parent.mkdir(parents=True)
    mine_file(rows, out, own, vectors=tmp_path / "vectors", num_negatives=4, margin=-3)
    values = _values(out)
    assert values[0]["positive"] == {"image": "../../data/media/red.png", "instruction": "Look."}
    assert values[1]["negatives"][0] == "grün"
    assert values[2]["positive"] == {"image": ["../../data/media/blue.png"]}
    assert values[2]["query"] == {"text": "blue", "image": "../../data/./media/red.png"}
    assert values[3]["positive"] == {"video": "../../data/media/clip"}
    assert values[4]["positive"] == {"image": str(GOLDEN / "inputs" / "img_28.png")}
    in_place = rows.with_name("mined.jsonl")
    mine_file(rows, in_place, own, vectors=tmp_path / "vectors", num_negatives=4, margin=-3)
    for moved, stayed in zip(read_pairs(out), read_pairs(in_place), strict=True):
        one, other = (own.encode_document([pair.positive, *pair.negatives]) for pair in (moved, stayed))
        np.testing.assert_allclose(one, other, rtol=0, atol=2e-6)


def test_paths_hold_when_the_output_folder_is_a_link(own: Embedder, rows: Path, tmp_path: Path) -> None:
    (tmp_path / "far" / "away").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "far" / "away")
    mine_file(rows, tmp_path / "link" / "mined.jsonl", own, vectors=tmp_path / "vectors")
    assert _values(tmp_path / "link" / "mined.jsonl")[3]["positive"] == {"video": "../../data/media/clip"}
    assert read_pairs(tmp_path / "link" / "mined.jsonl")[3].positive.media[0].source.is_dir()  # type: ignore[union-attr]


def test_what_utf_8_cannot_hold_stays_an_escape(tmp_path: Path) -> None:
    path, out = tmp_path / "pairs.jsonl", tmp_path / "mined.jsonl"
    path.write_text('{"query": "a", "positive": "b", "label": "\\ud83d"}\n{"query": "c", "positive": "\\u00e4"}\n')
    _write_mined(path, out, [np.array([1]), np.array([], int)])
    assert out.read_text("utf-8") == (
        '{"query": "a", "positive": "b", "label": "\\ud83d", "negatives": ["ä"]}\n{"query": "c", "positive": "ä"}\n'
    )


def test_a_file_with_a_byte_order_mark_is_mined_as_one_without(tmp_path: Path) -> None:
    rows = [{"query": f"q{n}", "positive": f"0.{n}"} for n in (5, 4)]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)), "utf-8-sig")
    assert [pair.query.text for pair in read_pairs(tmp_path / "rows.jsonl")] == ["q5", "q4"]
    negatives = [np.array([1]), np.array([], dtype=np.int64)]
    _write_mined(tmp_path / "rows.jsonl", tmp_path / "mined.jsonl", negatives)
    assert _values(tmp_path / "mined.jsonl") == [rows[0] | {"negatives": ["0.4"]}, rows[1]]


def test_a_file_that_has_changed_since_it_was_read_is_not_written(tmp_path: Path) -> None:
    path, out = tmp_path / "pairs.jsonl", tmp_path / "mined.jsonl"
    path.write_text('{"query": "a", "positive": "b"}\n')
    with pytest.raises(DataError, match="has 1 rows now and had 2: it was changed"):
        _write_mined(path, out, [np.array([0]), np.array([0])])
    assert not out.exists()


def test_a_second_run_encodes_nothing_and_writes_the_same(own: Embedder, rows: Path) -> None:
    out, vectors = rows.with_name("mined.jsonl"), rows.with_name("vectors")
    first = mine_file(rows, out, own, vectors=vectors)
    text, shards = out.read_bytes(), sorted(vectors.iterdir())
    assert len(VectorStore.open(vectors, own.dim)) == 10
    assert mine_file(rows, out, own, vectors=vectors) == first
    assert (out.read_bytes(), sorted(vectors.iterdir())) == (text, shards)


def test_a_row_that_cannot_be_read_is_named(own: Embedder, rows: Path) -> None:
    (rows.parent / "media" / "blue.png").unlink()
    out = rows.with_name("mined.jsonl")
    with pytest.raises(MediaError, match=re.escape(f"{rows}:5: {rows.parent / 'media' / 'blue.png'} cannot be read")):
        mine_file(rows, out, own, vectors=rows.with_name("vectors"))
    assert not out.exists()


# The command


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny golden model, with the file that names its prompt style."""
    folder = tmp_path_factory.mktemp("checkpoint") / "tiny"
    folder.mkdir()
    for file in MODEL.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    (folder / "vlm2vec.json").write_text(json.dumps({"prompt_style": "qwen2-vl"}))
    return folder


def _run(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["mine", *map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


def test_the_command_prints_the_report_and_the_path(rows: Path, model: Path) -> None:
    out = rows.with_name("mined.jsonl")
    code, stdout, stderr = _run(rows, "--out", out, "--model", model, "--negatives", 2, "--margin", -3)
    assert (code, stdout) == (0, f"{out}\n")
    similarity = r"mean similarity to positives -?\d\.\d{3}, to negatives -?\d\.\d{3}"
    assert re.fullmatch(
        "5 rows, 5 different positives: 10 negatives found, 0 rows got fewer than wanted\n"
        f"left out: 0 of the same label or query, 0 too close to the positive\n{similarity}\n",
        stderr,
    )
    assert (rows.parent / "mined.jsonl.vectors").is_dir()


def test_the_report_can_be_json(rows: Path, model: Path, tmp_path: Path) -> None:
    out, cache = tmp_path / "mined.jsonl", tmp_path / "cache"
    code, stdout, stderr = _run(rows, "--out", out, "--model", model, "--pool", 1, "--cache", cache, "--json")
    report = json.loads(stdout)
    assert (code, stderr, report["out"], report["rows"], report["candidates"]) == (0, "", str(out), 5, 5)
    assert report["negatives"] + report["dropped_by_margin"] == 5
    assert cache.is_dir()


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("pairs.jsonl", "is the file that is read: give another one"),
        ("media", "it is a folder; give the name of a file"),
        ("nowhere/mined.jsonl", "there is no folder"),
    ],
)
def test_an_output_that_cannot_be_written_is_refused_before_the_model_is_loaded(
    rows: Path, out: str, message: str
) -> None:
    before = rows.read_bytes()
    code, stdout, stderr = _run(rows, "--out", rows.parent / out, "--model", "no/such-model")
    assert (code, stdout) == (2, "")
    assert message in stderr
    assert rows.read_bytes() == before


def test_a_file_of_one_positive_is_an_error_of_one_line(rows: Path, model: Path) -> None:
    rows.write_text('{"query": "a", "positive": "b"}\n{"query": "c", "positive": "b"}\n')
    code, _, stderr = _run(rows, "--out", rows.with_name("mined.jsonl"), "--model", model)
    assert code == 2
    assert stderr.startswith("error: cannot mine negatives among 1 different positives: ")


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
