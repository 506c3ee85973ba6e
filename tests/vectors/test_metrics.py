"""How good a ranking is, or one in random order: by hand, as published, as trec_eval, and as a slow reference."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.places import DATA
from vlm2vec.errors import InputError
from vlm2vec.vectors.metrics import CUTOFFS, METRICS, chance_metrics, mean_metrics, query_metrics
from vlm2vec.vectors.ranking import rank

GOLDEN = json.loads((DATA / "golden" / "metrics.json").read_text("utf-8"))


def _scores(rankings: Sequence[Sequence[str]], relevant: Sequence[Mapping[str, float]]) -> dict[str, float]:
    names = sorted({name for ranking in rankings for name in ranking})
    places = {name: place for place, name in enumerate(names)}
    table = np.full((len(rankings), max(map(len, rankings), default=0)), -1, dtype=np.int64)
    for row, ranking in enumerate(rankings):
        table[row, : len(ranking)] = [places[name] for name in ranking]
    return mean_metrics(query_metrics(table, names, relevant))


def _binary(labels: Sequence[str]) -> dict[str, float]:
    return dict.fromkeys(labels, 1)


# Published values


def test_forty_rankings_give_the_published_averages() -> None:
    cases = GOLDEN["cases_binary"]
    got = _scores([case["prediction"] for case in cases], [_binary(case["label"]) for case in cases])
    assert list(got) == list(METRICS) == list(GOLDEN["binary"])
    assert got == pytest.approx(GOLDEN["binary"], abs=1e-15)


def test_with_the_first_label_alone_they_give_the_published_averages() -> None:
    cases = GOLDEN["cases_binary"]
    got = _scores([case["prediction"] for case in cases], [_binary(case["label"][:1]) for case in cases])
    assert got == pytest.approx(GOLDEN["single_label_str"], abs=1e-15)


def test_two_candidates_with_one_of_two_labels_first_give_the_published_averages() -> None:
    got = _scores([["a", "b"]], [_binary(["a", "c"])])
    assert got == pytest.approx(GOLDEN["edge_short_pred"], abs=1e-15)


# By hand


def test_graded_labels_by_hand() -> None:
    # Grades at ranks 1 to 4: 1, 0, 3, 0; the label "d" of grade 2 is no candidate.
    got = _scores([["a", "x", "c", "y"]], [{"c": 3, "a": 1, "d": 2}])
    best = 3 + 2 / math.log2(3) + 1 / 2
    best_exponential = 7 + 3 / math.log2(3) + 1 / 2
    assert {key: got[key] for key in got if key.endswith("@5")} == pytest.approx(
        {
            "hit@5": 1,
            "ndcg_linear@5": (1 + 3 / 2) / best,
            "ndcg_exponential@5": (1 + 7 / 2) / best_exponential,
            "precision@5": 2 / 5,
            "recall@5": 2 / 3,
            "f1@5": 1 / 2,
            "map@5": (1 + 2 / 3) / 3,
            "mrr@5": 1,
        }
    )
    assert (got["ndcg_linear@1"], got["ndcg_exponential@1"]) == pytest.approx((1 / 3, 1 / 7))


def test_grades_go_by_id_whatever_the_order_of_the_labels() -> None:
    labels = {"b": 1.0, "a": 3.0, "c": 2.0}
    ranking = [["c", "a", "x", "b"]]
    assert _scores(ranking, [labels]) == _scores(ranking, [dict(sorted(labels.items()))])


def test_without_labels_recall_is_one_and_all_else_nothing() -> None:
    got = _scores([["a", "b"]], [{}])
    assert got == {key: float(key.startswith("recall")) for key in METRICS}


def test_more_than_ten_labels_fill_the_ideal_ranking_only_up_to_the_cutoff() -> None:
    names = [f"c{place:02}" for place in range(12)]
    got = _scores([names], [_binary(names)])
    assert (got["ndcg_linear@10"], got["map@10"], got["recall@10"]) == pytest.approx((1, 1, 10 / 12))


# Against others


@st.composite
def _rankings(draw: st.DrawFn) -> tuple[list[list[str]], list[dict[str, float]]]:
    names = [f"c{number}" for number in range(draw(st.integers(1, 14)))]
    count = draw(st.integers(1, 4))
    rankings = [draw(st.permutations(names))[: draw(st.integers(1, 14))] for _ in range(count)]
    labels = st.dictionaries(st.sampled_from([*names, "not a candidate"]), st.integers(1, 4).map(float), max_size=12)
    return rankings, [draw(labels) for _ in range(count)]


@settings(max_examples=50, deadline=None)
@given(_rankings())
def test_vectorised_metrics_equal_the_formulas_written_out(
    case: tuple[list[list[str]], list[dict[str, float]]],
) -> None:
    rankings, relevant = case
    by_query = [_slow(ranking, labels) for ranking, labels in zip(rankings, relevant, strict=True)]
    expected = {key: sum(one[key] for one in by_query) / len(by_query) for key in METRICS}
    assert _scores(rankings, relevant) == pytest.approx(expected, abs=1e-12)


def _slow(ranking: list[str], labels: dict[str, float]) -> dict[str, float]:
    got = {}
    for k in CUTOFFS:
        found = [name in labels for name in ranking[:k]]
        precision = sum(found) / k
        recall = sum(found) / len(labels) if labels else 1.0
        precisions = [sum(found[: i + 1]) / (i + 1) for i in range(len(found)) if found[i]]
        got[f"hit@{k}"] = float(any(found))
        got[f"precision@{k}"] = precision
        got[f"recall@{k}"] = recall
        got[f"f1@{k}"] = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
        got[f"map@{k}"] = sum(precisions) / min(len(labels), k) if labels else 0.0
        got[f"mrr@{k}"] = 1 / (found.index(True) + 1) if any(found) else 0.0
        for name, base in (("linear", 0), ("exponential", 2)):
            gains = [base**grade - 1 if base else grade for grade in (labels.get(c, 0) for c in ranking[:k])]
            ideal = sorted((base**grade - 1 if base else grade for grade in labels.values()), reverse=True)[:k]
            best = sum(gain / math.log2(i + 2) for i, gain in enumerate(ideal))
            mine = sum(gain / math.log2(i + 2) for i, gain in enumerate(gains))
            got[f"ndcg_{name}@{k}"] = mine / best if best else 0.0
    return got


def test_random_rankings_score_as_in_trec_eval() -> None:
    pytrec_eval = pytest.importorskip("pytrec_eval")
    generator = np.random.default_rng(0)
    names = [f"c{place}" for place in range(60)]
    ranking = np.array([generator.permutation(60)[:30] for _ in range(50)])
    # At most five labels: trec_eval's map_cut divides by all labels, ours by at most k of them.
    relevant = [
        {names[place]: int(generator.integers(1, 4)) for place in generator.choice(60, generator.integers(1, 6))}
        for _ in range(50)
    ]
    theirs = {
        "hit": "success",
        "ndcg_linear": "ndcg_cut",
        "precision": "P",
        "recall": "recall",
        "map": "map_cut",
    }
    measures = {f"{name}.1,5,10" for name in theirs.values()}
    evaluator = pytrec_eval.RelevanceEvaluator({f"q{row}": labels for row, labels in enumerate(relevant)}, measures)
    run = {f"q{row}": {names[c]: float(-place) for place, c in enumerate(order)} for row, order in enumerate(ranking)}
    judged = evaluator.evaluate(run)
    ours = query_metrics(ranking, names, relevant)
    for name, other in theirs.items():
        for k in (5, 10) if name == "map" else CUTOFFS:
            expected = [judged[f"q{row}"][f"{other}_{k}"] for row in range(50)]
            np.testing.assert_allclose(ours[f"{name}@{k}"], expected, rtol=0, atol=1e-12, err_msg=f"{name}@{k}")


# Mistakes


@pytest.mark.parametrize(
    ("ranking", "names", "relevant", "message"),
    [
        ([[0]], ["a"], [], r"a ranking of shape \(1, 1\) does not fit 0 queries"),
        ([[1]], ["a"], [{}], "names a candidate that is not among the 1"),
        ([[0, 1], [1, 1]], ["a", "b"], [{}, {}], "the ranking of query 1 names a candidate twice"),
        ([[0]], ["a", "a"], [{}], "two candidates have the same id"),
        ([[0]], ["a"], [{"a": 0}], "a label of query 0 has a grade that is not a number above 0"),
        ([[0]], ["a"], [{"a": math.nan}], "a label of query 0 has a grade that is not a number above 0"),
    ],
)
def test_what_cannot_be_measured_is_refused(
    ranking: list[list[int]], names: list[str], relevant: list[dict[str, float]], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        query_metrics(np.array(ranking), names, relevant)


def test_a_mean_over_no_queries_is_refused() -> None:
    with pytest.raises(InputError, match="there are no queries to take a mean of"):
        mean_metrics(query_metrics(np.empty((0, 3), np.int64), ["a"], []))


# Random order


@pytest.mark.parametrize(
    ("size", "labels"),
    [(4, {"0": 1.0}), (5, {"0": 3.0, "2": 1.0}), (6, {"1": 2.0, "3": 2.0, "gone": 4.0}), (3, {}), (2, {"gone": 1.0})],
)
def test_chance_is_the_mean_over_all_orders(size: int, labels: dict[str, float]) -> None:
    orders = np.array(list(itertools.permutations(range(size))), dtype=np.int64)
    names = [str(number) for number in range(size)]
    measured = mean_metrics(query_metrics(orders, names, [labels] * len(orders)))
    expected = chance_metrics(names, [labels])
    assert list(expected) == list(METRICS)
    assert expected == pytest.approx(measured, abs=1e-12)


def test_chance_is_averaged_over_queries() -> None:
    names = [str(number) for number in range(10)]
    result = chance_metrics(names, [{"1": 1}, {"1": 1}], [["0", "1"], names])
    assert result["hit@1"] == pytest.approx((1 / 2 + 1 / 10) / 2)
    assert result["hit@10"] == 1


def test_chance_is_that_of_each_querys_own_candidates() -> None:
    pools = [("b", "c", "b"), ("a", "b")]
    assert chance_metrics("abcd", [{"b": 1}, {"gone": 1}], pools)["hit@1"] == (1 / 2 + 0) / 2
    assert chance_metrics("abcd", [{"b": 1, "a": 1}])["hit@1"] == pytest.approx(1 / 2)


def test_chance_without_queries_is_refused() -> None:
    with pytest.raises(InputError, match="there are no queries"):
        chance_metrics(["a"], [])


# From vectors to a score


def test_vectors_of_a_local_task_with_several_labels_to_scores() -> None:
    candidates = np.array([[1, 0], [0.9, 0.1], [0.5, 0.5], [0, 1], [5, 5]], dtype=np.float32)
    queries = np.array([[1, 0], [0, 1]], dtype=np.float32)
    names = ["a", "b", "c", "d", "e"]
    pools = [np.array([0, 1, 2, 3]), np.array([3, 2, 2, 1])]
    order, _ = rank(queries, candidates, 10, query_ids=["0", "1"], candidate_ids=names, pools=pools)
    assert order.tolist() == [[0, 1, 2, 3, -1], [3, 2, 1, -1, -1]]
    got = query_metrics(order, names, [{"b": 1, "c": 1}, {"d": 1}])
    assert got["hit@1"].tolist() == [0, 1]
    assert got["map@5"].tolist() == [(1 / 2 + 2 / 3) / 2, 1]
