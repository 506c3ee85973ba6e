"""The best and worst queries of a task, as a page and the command show them."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from support.media_files import picture
from support.pages import Page, opened
from vlm2vec.cli.app import app
from vlm2vec.evaluation.rendering import report_page
from vlm2vec.evaluation.report import Entry, Report, build_report
from vlm2vec.evaluation.run_folder import Example, _Shown, _write_examples
from vlm2vec.evaluation.scores import DatasetScores, ModelScores, write_scores
from vlm2vec.vectors.metrics import METRICS


def _show(text: str, picture: str | None = None) -> _Shown:
    return _Shown(text=text, picture=picture)


def _example(rank: int | None = 1, **changed: Any) -> Example:
    made: dict[str, Any] = {
        "query_id": "q",
        "query": _show("what is it", None),
        "right": _show("a cat", None),
        "rank": rank,
        "top": _show("a cat" if rank == 1 else "a dog", None),
        "margin": 0.25 if rank == 1 else -0.25,
    }
    return Example(**(made | changed))


def _jpeg(width: int = 8, height: int = 6) -> str:
    stream = io.BytesIO()
    picture(width, height).save(stream, "JPEG")
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode()


def _scores(model: str = "mine") -> ModelScores:
    datasets = {"GQA": DatasetScores(dict.fromkeys(METRICS, 0.5), 4)}
    return ModelScores(model, "2026-01-02", {"image": datasets, "video": {}, "visdoc": {}})


def _report() -> Report:
    return build_report([Entry(_scores(), "run"), Entry(_scores("other"), "run")])


# The page


def test_the_page_folds_the_examples_of_each_dataset_in_the_order_of_the_table() -> None:
    examples = {name: [_example()] for name in ("ViDoSeek-doc", "GQA", "Unlisted", "OK-VQA")}
    page = report_page(_report(), examples | {"DocVQA": []})
    part = page[page.index("<h2>Best and worst queries of mine</h2>") :]
    folds = re.findall(r"<details( open)?><summary>([^<]+) <span>([^<]+)</span>", part)
    # The model has a score for one of them only.
    assert folds == [("", "OK-VQA", "hit@1 -"), ("", "GQA", "hit@1 50.0"), ("", "ViDoSeek-doc", "ndcg_linear@5 -")]


def test_the_page_says_whose_examples_these_are_and_needs_none() -> None:
    assert "<h2>Best and worst queries of other</h2>" in report_page(_report(), {"GQA": [_example()]}, examples_of=1)
    for other in ({}, {"Unlisted": [_example()]}, {"GQA": list[Example]()}):
        assert "Best and worst" not in report_page(_report(), other)
    assert "Best and worst" not in report_page(_report())


def test_a_card_shows_query_right_answer_and_what_came_first_instead() -> None:
    examples = [
        _example(query=_show("q", _jpeg())),
        _example(rank=3, query_id="q7"),
        _example(rank=None),
        _example(rank=None, right=None, top=_show("", None)),
    ]
    page = report_page(_report(), {"GQA": examples})
    cards = page.split('<div class="examples">')[1].split('<div class="example')[1:]
    heads = [re.sub("<[^>]+>", "", re.findall("<h4>(.*)</h4>", card)[0]) for card in cards]
    assert heads == [
        "Rank 1 query q, margin +0.250",
        "Rank 3 query q7, margin -0.250",
        "Not found query q, margin -0.250",
        "No right answer to find query q, margin -0.250",
    ]
    parts = [
        re.findall(r"<dt>([^<]+)</dt><dd>(?:<img [^>]+>)?<(?:span dir=\"auto\"|i)>([^<]+)<", card) for card in cards
    ]
    assert parts == [
        [("query", "q"), ("right answer, which came first", "a cat")],
        [("query", "what is it"), ("right answer", "a cat"), ("came first instead", "a dog")],
        [("query", "what is it"), ("right answer", "a cat"), ("came first instead", "a dog")],
        [("query", "what is it"), ("came first instead", "nothing to show")],
    ]


def test_a_page_with_examples_is_whole_and_loads_nothing() -> None:
    hostile = _show('<script>alert(1)</script> "\udcff', _jpeg())
    page = report_page(_report(), {"GQA": [_example(rank=2, query=hostile, top=hostile, query_id="<b>\udcff")]})
    page.encode("utf-8")
    parsed = Page(page)
    assert parsed.open == []
    sources = [attributes["src"] for tag, attributes in parsed.tags if "src" in attributes]
    assert sources == [_jpeg()] * 2
    assert re.findall(r"https?:|url\(|@import|fetch|XMLHttp|<script>alert|<b>", page) == []


_MEASURE = """<script>
const luminance = colour => {
  const parts = colour.match(/[0-9.]+/g).slice(0, 3).map(value => value / 255);
  const [r, g, b] = parts.map(part => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
for (const fold of document.querySelectorAll("details")) fold.open = true;
onload = () => {
  const page = document.documentElement, card = document.querySelector("details:has(.examples)");
  const dark = luminance(getComputedStyle(card).backgroundColor);
  let contrast = 99;
  for (const text of document.querySelectorAll(".example h4, .example h4 span, .example dt, .example dd span")) {
    const light = luminance(getComputedStyle(text).color);
    contrast = Math.min(contrast, (Math.max(light, dark) + 0.05) / (Math.min(light, dark) + 0.05));
  }
  const cut = [...document.querySelectorAll(".example, .example *")].filter(one => one.scrollWidth > one.clientWidth
    && one.clientWidth > 0 && getComputedStyle(one).display !== "inline").length;
  const lost = [...document.images].filter(image => image.naturalWidth === 0).length;
  page.dataset.measured = [page.scrollWidth - page.clientWidth, cut, lost, document.images.length, dark < 0.5 ? "dark" :
    "light", contrast >= 4.5 ? "readable" : contrast].join(" ");
};
</script>"""


# Colours do not depend on the width, so each is looked at once.
@pytest.mark.parametrize(("width", "scheme", "setting"), [(500, "dark", 0), (1250, "light", 1)])
def test_a_browser_shows_examples_without_overflow_and_readable(
    tmp_path: Path, width: int, scheme: str, setting: int
) -> None:
    long = _show("W" * 200, _jpeg(128, 96))
    words = _show("many words " * 18, _jpeg(30, 128))
    examples = [
        _example(rank=4, query=long, right=words, top=long, query_id="path/" * 60),
        _example(query=words, top=long),
        _example(rank=2),
    ]
    page = report_page(_report(), {"GQA": examples, "OK-VQA": examples})
    shown = opened(
        page.replace("</body>", f"{_MEASURE}</body>"),
        tmp_path,
        f"--window-size={width},900",
        f"--blink-settings=preferredColorScheme={setting}",
    )
    # Beyond the edge, cut off, pictures not shown, pictures.
    assert re.findall('data-measured="([^"]+)"', shown) == [f"0 0 0 10 {scheme} readable"]


# The command


def _run(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["report", *(str(argument) for argument in arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stderr


def test_the_report_shows_the_examples_of_the_first_evaluation_that_has_some(tmp_path: Path) -> None:
    for model in ("one", "two", "three"):
        write_scores(tmp_path / model / "scores.json", _scores(model))
    for model in ("two", "three"):
        _write_examples(tmp_path / model, "GQA", [_example(query=_show(f"query of {model}", None))])
    # A folder of score files is no evaluation, whatever lies beside them.
    write_scores(tmp_path / "many" / "a.json", _scores("a"))
    write_scores(tmp_path / "many" / "b.json", _scores("b"))
    _write_examples(tmp_path / "many", "GQA", [_example(query=_show("query of many", None))])
    page = tmp_path / "page.html"
    for two in (tmp_path / "two", tmp_path / "two" / "scores.json"):
        assert _run(tmp_path / "many", tmp_path / "one", two, tmp_path / "three", "--html", page)[0] == 0
        text = page.read_text("utf-8")
        assert "<h2>Best and worst queries of two</h2>" in text
        assert re.findall("query of [a-z]+", text) == ["query of two"]
    _run(tmp_path / "many", "--html", page)
    assert "Best and worst" not in page.read_text("utf-8")


def test_a_report_with_damaged_examples_is_an_error_of_one_line(tmp_path: Path) -> None:
    write_scores(tmp_path / "scores.json", _scores())
    _write_examples(tmp_path, "GQA", [])
    file = tmp_path / "examples" / "GQA.json"
    file.write_text("{", "utf-8")
    code, err = _run(tmp_path, "--html", tmp_path / "page.html")
    assert code == 2
    assert err.startswith(f"error: {file} does not hold examples: ")
    assert not (tmp_path / "page.html").exists()
