"""What `vlm2vec report` prints and writes."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from support.pages import Page, opened
from vlm2vec.cli.app import app
from vlm2vec.evaluation.rendering import report_page
from vlm2vec.evaluation.report import build_report, published_entries
from vlm2vec.evaluation.scores import write_scores
from vlm2vec.vectors.metrics import METRICS


def _run(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["report", *(str(argument) for argument in arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


def _document(model: str = "mine", /, **scores: float) -> dict[str, Any]:
    """A score file: every metric of a dataset is the same number."""
    modality = {"MSVD": "video", "YouCook2": "video", "ViDoSeek-doc": "visdoc"}
    metrics: dict[str, Any] = {}
    for name, score in scores.items():
        values = dict.fromkeys(METRICS, score) | {"num_pred": 4, "num_data": 4}
        metrics.setdefault(modality.get(name, "image"), {})[name] = values
    return {"metadata": {"model_name": model, "report_generated_date": "2026-01-02"}, "metrics": metrics}


def _file(path: Path, document: dict[str, Any] | list[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=4) + "\n", "utf-8")
    return path


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    scores = {"OK-VQA": 0.5, "GQA": 0.25, "MSVD": 1.0, "ViDoSeek-doc": 0.125, "Own": 0.75}
    return _file(tmp_path / "run" / "scores.json", _document(**scores))


# The terminal


def test_the_table_stars_partial_means_and_names_what_is_missing(mine: Path) -> None:
    code, out, err = _run(mine)
    assert (code, err) == (0, "")
    assert out == (
        "mmeb-v2  datasets  overall   image    video  visdoc\n"
        "mine         4/78   46.88*  37.50*  100.00*  12.50*\n"
        "\n"
        "          I      I    I   I    V   V       V   V         VD         VD      VD     VD\n"
        "groups  CLS     QA  RET  VG  CLS  QA     RET  MR  Vidore-V1  Vidore-V2  VisRAG    OOD\n"
        "mine      -  37.5*    -   -    -   -  100.0*   -          -          -       -  12.5*\n"
        "\n"
        "* without all 10 of I-CLS, all 12 of I-RET, all 4 of I-VG, A-OKVQA, DocVQA, InfographicsVQA, ChartQA, "
        "Visual7W, ScienceQA, VizWiz, TextVQA, all 5 of V-CLS, all 5 of V-QA, all 3 of V-MR, DiDeMo, MSR-VTT, VATEX, "
        "YouCook2, all 10 of VD-Vidore-V1, all 4 of VD-Vidore-V2, all 6 of VD-VisRAG, ViDoSeek-page, MMLongBench-page, "
        "MMLongBench-doc: mine\n"
        "not counted, for mmeb-v2 has no such dataset: Own (mine)\n"
    )


def test_a_folder_stands_for_its_scores_or_for_all_its_files(mine: Path, tmp_path: Path) -> None:
    (mine.parent / "other.json").write_text("not looked at")
    _file(tmp_path / "all" / "b.json", _document("b", GQA=0.5))
    _file(tmp_path / "all" / "a.json", _document("a", GQA=0.5))
    _, out, _ = _run(mine.parent, tmp_path / "all")
    assert re.findall(r"^(\w+) +\d+/78", out, re.MULTILINE) == ["mine", "a", "b"]


def test_models_of_one_name_are_told_apart(mine: Path, tmp_path: Path) -> None:
    again = _file(tmp_path / "second" / "x.json", _document(GQA=0.5))
    third = _file(tmp_path / "second" / "y.json", _document(GQA=0.5))
    _, out, _ = _run(mine, again, third)
    assert re.findall(r"^(mine.*?) +\d+/78", out, re.MULTILINE) == ["mine (run)", "mine (second) 1", "mine (second) 2"]


def test_names_that_would_steer_a_terminal_are_shown_harmless(tmp_path: Path) -> None:
    _, out, _ = _run(_file(tmp_path / "s.json", _document("\x1b[31mred", **{"\x1b]0;x": 0.5, "GQA": 0.5})))
    assert "\x1b" not in out
    assert "\ufffd[31mred" in out


def test_against_adds_the_published_models_after_ones_own(mine: Path) -> None:
    code, out, err = _run(mine, "--against", "published")
    assert code == 0
    first = re.findall(r"^(\S+) +(\d+)/78 +(\S+)", out, re.MULTILINE)
    assert [row[0] for row in first] == [
        "mine",
        "LamRA-Ret-Qwen2.5VL-7b",
        "LamRA-Ret",
        "VLM2Vec-V1-Qwen2VL-2B",
        "VLM2Vec-V1-Qwen2VL-7B",
        "VLM2Vec-V2.0-Qwen2VL-2B",
        "colpali-v1.3",
        "gme-Qwen2-VL-2B-Instruct",
        "gme-Qwen2-VL-7B-Instruct",
    ]
    assert first[5][1:] == ("78", "59.07")
    assert err == "published: v2.1, with ViDoSeek-doc and MMLongBench-doc, which it lacks, from v2.0.1\n"
    _, out, err = _run(mine, "--against", "published:v2.0.0")
    assert re.findall(r"^VLM2Vec-V2\.0-Qwen2VL-2B +78/78 +(\S+)", out, re.MULTILINE) == ["58.02"]
    assert err == ""


def test_a_mean_of_too_few_datasets_to_compare_is_not_shown(tmp_path: Path) -> None:
    names = ["OK-VQA", "GQA", "DocVQA", "MSVD"]
    first = _file(tmp_path / "a.json", _document("first", **dict.fromkeys(names, 0.25)))
    half = _file(tmp_path / "b.json", _document("half", **dict.fromkeys(names[:2], 0.5)))
    few = _file(tmp_path / "c.json", _document("few", VizWiz=0.75, MSVD=0.75, YouCook2=0.25))
    _, out, _ = _run(first, half, few)
    assert re.findall(r"^(\w+) +\d/78 +(.*)$", out, re.MULTILINE) == [
        ("first", "25.00*  25.00*  25.00*       -"),
        ("half", "50.00*  50.00*       -       -"),
        # Of the first one's three of images it has none, of videos the only one.
        ("few", "-       -  50.00*       -"),
    ]
    assert "\n- where more than half of the datasets of first are missing: few\n" in out


def test_a_note_in_a_score_file_is_shown_and_kept(tmp_path: Path) -> None:
    document = _document(GQA=0.5)
    document["metadata"]["note"] = "half of it\x1b[31m"
    path = _file(tmp_path / "a.json", document)
    _, out, _ = _run(path, "--json", tmp_path / "out.json", "--html", tmp_path / "out.html")
    assert out.endswith("\nmine: half of it\ufffd[31m\n")
    assert "mine: half of it" in (tmp_path / "out.html").read_text("utf-8")
    assert json.loads((tmp_path / "out.json").read_text("utf-8")) == document
    document["metadata"]["note"] = 3
    assert _run(_file(path, document))[0] == 2


def test_datasets_of_which_not_the_same_was_asked_are_named(tmp_path: Path) -> None:
    documents = [_document(name, GQA=0.5, MSVD=0.5) for name in ("a", "b", "c")]
    documents[1]["metrics"]["video"]["MSVD"] |= {"num_pred": 1602, "num_data": 1602}
    # What a limit does is told of beside.
    documents[2]["metadata"]["limit"] = 2
    documents[2]["metrics"]["image"]["GQA"] |= {"num_pred": 2, "num_data": 2}
    _, out, _ = _run(*(_file(tmp_path / f"{number}.json", one) for number, one in enumerate(documents)))
    assert out.split("\n\n")[-1].splitlines()[-2:] == [
        "only the first 2 queries of each dataset, and of candidates that come with queries only theirs, so not to be "
        "compared with whole datasets: c",
        "MSVD was not asked alike, so scores are of different queries: 4 to a; 1,602 to b",
    ]


def _captions(model: str, *hits: float) -> dict[str, Any]:
    """A score file of Flickr30K in both directions, found among the first 1, 5 and 10 so often."""
    document = _document(model, Flickr30K_t2i=0.5, Flickr30K_i2t=0.5)
    document["metadata"]["benchmark"] = "retrieval"
    document["metrics"]["image"]["Flickr30K_t2i"] |= dict(zip(("hit@1", "hit@5", "hit@10"), hits, strict=True))
    return document


def test_retrieval_shows_recall_at_1_5_and_10_everywhere(tmp_path: Path) -> None:
    one = _file(tmp_path / "1.json", _captions("one", 0.25, 0.5, 0.75))
    two = _file(tmp_path / "2.json", _captions("two", 0.125, 0.375, 1))
    _, out, _ = _run(one, two, "--markdown", tmp_path / "out.md", "--html", tmp_path / "out.html")
    assert out.split("\n\n")[-1] == (
        "                            one                   two\n"
        "dataset            group  hit@1  hit@5  hit@10  hit@1  hit@5  hit@10\n"
        "Flickr30K_t2i  Flickr30K   25.0   50.0    75.0   12.5   37.5   100.0\n"
        "Flickr30K_i2t  Flickr30K   50.0   50.0    50.0   50.0   50.0    50.0\n"
    )
    markdown = (tmp_path / "out.md").read_text("utf-8")
    heads = [f"{model} {metric}" for model in ("one", "two") for metric in ("hit@1", "hit@5", "hit@10")]
    assert f"| dataset | group | metric | {' | '.join(heads)} |" in markdown
    assert "| Flickr30K_t2i | Flickr30K | hit@1 | 25.0 | 50.0 | 75.0 | 12.5 | 37.5 | 100.0 |" in markdown
    page = (tmp_path / "out.html").read_text("utf-8")
    assert all(f"<button>{head}</button>" in page for head in heads)
    row = re.findall(r'<th scope="row">Flickr30K_t2i</th>(.*?)</tr>', page, re.DOTALL)[0]
    assert re.sub("<[^>]+>", " ", row).split()[2:] == ["25.0", "50.0", "75.0", "12.5", "37.5", "100.0"]


# Mistakes


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["absent.json"], "cannot read absent.json: no such file or directory; give a score file or a folder of them"),
        (["empty"], "there is no .json file in empty; give the folder of an evaluation or a score file"),
        (
            ["begun"],
            "begun holds an evaluation of which no task has a score yet; 'vlm2vec evaluate --out begun', with the "
            "options that it was begun with, continues it",
        ),
        (
            ["good.json", "--against", "v2"],
            "nothing named 'v2' to compare with; there are published, published:v2.0.0, published:v2.0.1, "
            "published:v2.1",
        ),
        (
            ["good.json", "mini.json"],
            "a report compares models on one benchmark; the scores are from: mmeb-mini, mmeb-v2",
        ),
        (["good.json", "--markdown", "no/x.md"], "cannot write no/x.md: no such file or directory; give another path"),
    ],
)
def test_a_mistake_is_one_line_and_exit_2(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    _file(tmp_path / "begun" / "run.json", {})
    _file(Path("good.json"), _document(GQA=0.5))
    mini = _document(GQA=0.5)
    mini["metadata"]["benchmark"] = "mmeb-mini"
    _file(Path("mini.json"), mini)
    code, _, err = _run(*arguments)
    assert (code, err) == (2, f"error: {message}\n")


# Files


def test_json_is_the_submission_itself(mine: Path, tmp_path: Path) -> None:
    _, _, err = _run(mine, "--against", "published", "--json", tmp_path / "out.json")
    assert json.loads((tmp_path / "out.json").read_text("utf-8")) == json.loads(mine.read_text("utf-8"))
    assert err.endswith(f"wrote {tmp_path / 'out.json'}\n")
    other = _file(tmp_path / "o.json", _document("other", GQA=0.5))
    _run(mine, other, "--json", tmp_path / "out.json")
    models = json.loads((tmp_path / "out.json").read_text("utf-8"))
    assert [one["metadata"]["model_name"] for one in models] == ["mine", "other"]
    _, out, _ = _run(tmp_path / "out.json")
    assert re.findall(r"^(\w+) +\d+/78", out, re.MULTILINE) == ["mine", "other"]
    models[1]["metrics"] = {}
    code, _, err = _run(_file(tmp_path / "out.json", models))
    assert (code, err) == (
        2,
        f"error: {tmp_path / 'out.json'}, entry 2 of 2 is no score file: metrics holds no dataset with scores\n",
    )


def test_a_published_file_passes_through_unchanged(tmp_path: Path) -> None:
    scores = published_entries("published:v2.0.0")[4].scores
    write_scores(tmp_path / "a.json", scores)
    _run(tmp_path / "a.json", "--json", tmp_path / "b.json")
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()


def test_markdown_holds_all_means_and_every_dataset(mine: Path, tmp_path: Path) -> None:
    _run(mine, _file(tmp_path / "o.json", _document("a|b", GQA=0.5)), "--markdown", tmp_path / "out.md")
    parts = (tmp_path / "out.md").read_text("utf-8").split("\n\n")
    assert parts[0:2] == ["# mmeb-v2", "Scores times 100. Overall is the mean over all 78 datasets."]
    assert parts[2].splitlines()[2:] == [
        "| mine | 4 | 46.88* | 37.50* | 100.00* | 12.50* "
        "| - | 37.5* | - | - | - | - | 100.0* | - | - | - | - | 12.5* |",
        # It lacks three of the first one's four datasets, and one of its two of images.
        "| a\\|b | 1 | - | 50.00* | - | - | - | 50.0* | - | - | - | - | - | - | - | - | - | - |",
    ]
    assert parts[3].startswith("- \\* without all 10 of I-CLS, all 12 of I-RET, ")
    assert parts[4] == "## Datasets"
    table = parts[5].splitlines()
    assert table[0] == "| dataset | group | metric | mine | a\\|b |"
    assert len(table) == 2 + 78
    assert "| GQA | I-QA | hit@1 | 25.0 | 50.0 |" in table
    assert "| ViDoSeek-doc | VD-OOD | ndcg_linear@5 | 12.5 | - |" in table


# The page


@pytest.fixture(scope="module")
def page() -> str:
    return report_page(build_report(published_entries("published:v2.1")))


def test_the_page_is_whole_and_asks_for_nothing(page: str) -> None:
    parsed = Page(page)
    assert parsed.open == []
    asking = {"src", "href", "xlink:href", "srcset", "data", "action", "poster"}
    assert [tag for tag, attributes in parsed.tags if asking & set(attributes)] == []
    assert re.findall(r"https?:|url\(|@import|fetch|XMLHttp", page) == []


def test_the_page_shows_every_mean_and_every_difference(page: str) -> None:
    parsed = Page(page)
    kinds = [attributes.get("class") for tag, attributes in parsed.tags if tag == "rect"]
    # 16 means of 8 models; 7 comparisons over the 76 datasets of this edition.
    assert (kinds.count("first"), kinds.count("other")) == (16, 16 * 7)
    assert kinds.count("better") + kinds.count("worse") == 7 * 76
    assert [tag for tag, _ in parsed.tags].count("details") == 7
    assert "* without ViDoSeek-doc, MMLongBench-doc: every model" in page


def test_differences_are_sorted_and_drawn_to_their_side(tmp_path: Path) -> None:
    one = _document("one", GQA=0.5, **{"OK-VQA": 0.75, "DocVQA": 0.5})
    two = _document("two", GQA=0.75, **{"OK-VQA": 0.25, "VizWiz": 0.5})
    _run(_file(tmp_path / "1.json", one), _file(tmp_path / "2.json", two), "--html", tmp_path / "r.html")
    page = (tmp_path / "r.html").read_text("utf-8")
    assert "one less two: better on 1, worse on 1 of 2" in page
    drawn = re.findall(r'<title>([^<]+)</title></text>\s*<rect class="(better|worse)" x="([\d.]+)" y="(\d+)"', page)
    # The line for zero is at 390; a difference of 50 points is 104 long.
    assert drawn == [("OK-VQA", "better", "390.0", "4"), ("GQA", "worse", "338.0", "24")]
    assert re.findall(r">([+-][\d.]+)</text>", page) == ["+50.0", "-25.0"]


def test_one_model_alone_has_no_differences(mine: Path, tmp_path: Path) -> None:
    _run(mine, "--html", tmp_path / "r.html")
    page = (tmp_path / "r.html").read_text("utf-8")
    assert "<h1>mmeb-v2: 1 model</h1>" in page
    assert "<details" not in page


def test_names_cannot_become_markup(tmp_path: Path) -> None:
    hostile = _document("<script>alert(1)</script>", GQA=0.5, **{"<b>": 0.5})
    _run(_file(tmp_path / "s.json", hostile), "--html", tmp_path / "r.html")
    page = (tmp_path / "r.html").read_text("utf-8")
    assert "<script>alert" not in page
    assert "<b>" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page


def test_a_browser_opens_the_page_without_errors_and_sorts_its_tables(page: str, tmp_path: Path) -> None:
    # Pressing "overall" twice sorts it the other way round.
    press = "<script>for (const i of [0, 0]) document.querySelectorAll('th button')[i].click()</script>"
    shown = opened(page.replace("</body>", f"{press}</body>"), tmp_path)
    table = shown.split("<tbody>")[1].split("</tbody>")[0]
    assert re.findall(r'scope="row">([^<]+)<', table) == [
        "LamRA-Ret",
        "VLM2Vec-V1-Qwen2VL-2B",
        "colpali-v1.3",
        "LamRA-Ret-Qwen2.5VL-7b",
        "VLM2Vec-V1-Qwen2VL-7B",
        "gme-Qwen2-VL-2B-Instruct",
        "gme-Qwen2-VL-7B-Instruct",
        "VLM2Vec-V2.0-Qwen2VL-2B",
    ]
    assert 'aria-sort="ascending"' in shown
