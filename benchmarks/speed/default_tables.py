"""The tables of the default model's card and of docs/models.md, from benchmarks/results/default_model*.json."""

from __future__ import annotations

from typing import Any

from vlm2vec.text import markdown

TESTS = ("held", "noto", "clip")
BOTH_WAYS = (*TESTS, *(f"{name}, picture to text" for name in TESTS), "photographs", "word to gloss")
KINDS = ("384", "256", "128", "int8")


def scores(document: dict[str, Any]) -> str:
    """The model beside its yardsticks, hit@1/hit@5."""
    results, rows = document["results"], []
    for test in BOTH_WAYS:
        count = document["questions"][test.partition(",")[0]]
        # Pixels say nothing of a text.
        known = [name for name in ("pixels", "tiny", "untrained") if (name, test) != ("pixels", "word to gloss")]
        others = {name: _whole(results[name][test]) for name in known}
        rows.append(
            [
                *(test, str(count), f"{100 / count:.1f}/{500 / count:.1f}"),
                *(_pair(others[name]) if name in others else "-" for name in ("pixels", "tiny", "untrained")),
                *(_pair(results["bundled"][test][kind]) for kind in KINDS),
            ]
        )
    return markdown([["test", "questions", "chance", "pixels", "tiny", "ConSE", *KINDS], *rows])


def seeds(document: dict[str, Any]) -> str:
    """The recipe by several seeds, and their mean, hit@1/hit@5 at all dimensions."""
    results = document["results"]
    tests = [test for test in BOTH_WAYS if test in results["seed0"]]
    rows = [[name, *(_pair(found[test]["384"]) for test in tests)] for name, found in results.items()]
    means = [
        {hit: sum(found[test]["384"][hit] for found in results.values()) / len(results) for hit in ("hit@1", "hit@5")}
        for test in tests
    ]
    return markdown([["", *tests], *rows, ["mean", *map(_pair, means)]])


def halves(document: dict[str, Any]) -> str:
    """The half of the questions whose md5 is odd, on which nothing was chosen."""
    found = document["results"]["bundled"]
    rows = [[name, *(_pair(found[f"{name}, odd half"][kind]) for kind in KINDS)] for name in (*TESTS, "photographs")]
    return markdown([["the odd half of", *KINDS], *rows])


def films(document: dict[str, Any]) -> str:
    """Long films by shots, frames and pooling; clips by pooling."""
    found: dict[tuple[int, int], dict[str, str]] = {}
    for row in document["long"]:
        found.setdefault((row["shots"], row["frames"]), {})[row["pool"]] = _pair(row)
    rows = [
        [f"{document['film_s']} s in {shots} shots, {frames} frames", pools["mean"], pools["max"]]
        for (shots, frames), pools in found.items()
    ]
    clips = document["clips"]
    rows.append(["video tasks of mmeb-mini, mean score", *(f"{clips[pool]['video']:.1f}" for pool in ("mean", "max"))])
    return markdown([["films, hit@1/hit@5 in %", "mean of frames", "largest numbers"], *rows])


def texts(document: dict[str, Any]) -> str:
    """Ways to read a long text, by the half that has the sentence."""
    asked = ("first half", "second half", "first half, left out", "second half, left out")
    rows = [[row["way"], *(_pair(row[name]) for name in asked)] for row in document["rows"]]
    return markdown([[f"{document['texts']} texts of {document['words']} words, hit@1/hit@5 in %", *asked], *rows])


def drafts(document: dict[str, Any]) -> str:
    """Cosines with vectors of an exact resize, of large JPEGs decoded small and whole; and what becomes of answers."""
    found = {(row["form"], *row["ways"]): row for row in document["cosine"]}
    rows = []
    for form in dict.fromkeys(row["form"] for row in document["cosine"]):
        small, whole = found[form, "small", "exact"], found[form, "whole", "exact"]
        cosines = [f"{row[name]:.4f}" for row in (small, whole) for name in ("mean", "least")]
        rows.append([form, str(small["files"]), *cosines])
    table = markdown(
        [["large JPEGs", "files", "decoded small, mean cosine", "least", "decoded whole, mean cosine", "least"], *rows]
    )
    scores = document["scores"]
    moved = document["answers_at_another_place_than_exact"]
    answers = [[name, _pair(scores[name]), str(moved.get(name, "-"))] for name in ("small", "whole", "exact")]
    head = ["decoded", f"{document['photographs']} captions, hit@1/hit@5 in %", "photographs at another place"]
    return f"{table}\n\n{markdown([head, *answers])}"


def speed(document: dict[str, Any]) -> str:
    """Milliseconds of a picture's parts, photographs a second and core."""
    rows = [
        [
            *(f"{row['photograph']}, {row['mb']} MB", row["decoding"]),
            *(f"{row['prepare_ms']:.1f}", f"{row['tower_ms']:.1f}", f"{row['a_second_and_core']:.0f}"),
        ]
        for row in document["rows"]
    ]
    return markdown([["JPEG", "decoded", "decoding and resizing, ms", "tower, ms", "a second and core"], *rows])


def cold(document: dict[str, Any]) -> str:
    """Seconds of whole processes, and of a running one."""
    warm = document["warm_ms"]
    rows = [[row["what"], f"{row['processor_s']:.3f}", f"{row['s']:.3f}"] for row in document["rows"]]
    rows.append(["a question to an open `Library`", *(f"{warm[name] / 1000:.4f}" for name in ("processor", "time"))])
    return markdown([[f"index of {document['files']:,} pictures", "seconds of processor", "seconds"], *rows])


def exact(document: dict[str, Any]) -> str:
    """Distances from torch, and between an item alone and in company."""
    torch, company = document["torch"], document["company"]
    rows = [
        [f"exported in {name}, {kind}" if name == "float32" else f"{name}, {kind}", *_distances(torch[name][kind])]
        for name in ("float32", "as shipped")
        for kind in ("pictures", "texts")
    ]
    table = markdown([["beside torch", "largest difference of a number", "largest distance in cosine"], *rows])
    return (
        f"{table}\n\nThe largest difference between {company['items']} items alone in one thread and all together in "
        f"three is {company['largest_difference']:g}."
    )


def _distances(found: dict[str, float]) -> tuple[str, str]:
    return f"{found['largest_difference']:.1e}", f"{found['largest_cosine_distance']:.1e}"


def _whole(kinds: dict[str, dict[str, float]]) -> dict[str, float]:
    """Of all dimensions, which come first."""
    return next(iter(kinds.values()))


def _pair(found: dict[str, float]) -> str:
    return f"{found['hit@1']:.1f}/{found['hit@5']:.1f}"
