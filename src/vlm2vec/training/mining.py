"""Which documents of a training file look like an answer to a query without being one? Hard negatives, by a model."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from vlm2vec.data.records import Pair, read_pairs
from vlm2vec.data.tables import JsonLines
from vlm2vec.errors import ConfigError, DataError, VLM2VecError
from vlm2vec.files import atomic_writer, writing
from vlm2vec.model.backbone import Ask, Vectors
from vlm2vec.vectors.job import EmbedJob, Encoder, Work
from vlm2vec.vectors.keys import content_key, item_key
from vlm2vec.vectors.ranking import top_k
from vlm2vec.vectors.store import VectorStore

Numbers: TypeAlias = NDArray[np.int64]
_OnProgress: TypeAlias = Callable[[int, int], None]
_Group = TypeVar("_Group", str, bytes)

# Queries ranked together; each holds `pool` numbers and scores.
_ROWS_AT_ONCE = 1024


@dataclass(frozen=True, slots=True)
class MiningReport:
    """The result of mining. Similarities are cosines.

    Args:
        candidates: different positives of the file.
        negatives: found, over all rows; those that rows had before are not counted.
        short_rows: rows for which fewer were found than wanted.
        dropped_by_label: (row, candidate) left out because another row of the same label, or with the same query, has
            the candidate as its positive.
        dropped_by_margin: (row, candidate) left out within the pool because the candidate scores too close to the
            row's own positive, or above it.
        positive_similarity: mean of the queries to their positives.
        negative_similarity: mean of the queries to the negatives found; None if none was.
    """

    rows: int
    candidates: int
    negatives: int
    short_rows: int
    dropped_by_label: int
    dropped_by_margin: int
    positive_similarity: float
    negative_similarity: float | None


def mine_file(
    path: Path,
    out: Path,
    embedder: Encoder,
    *,
    vectors: Path,
    num_negatives: int = 4,
    margin: float = 0.05,
    pool: int = 100,
    on_progress: _OnProgress = lambda done, total: None,
) -> MiningReport:
    """Write a JSONL file of pairs once more, with the hard negatives that `mine` finds among its positives.

    Args:
        path: the pairs, as `read_pairs` takes them.
        out: where the rows go, whole or not at all; media paths are rewritten so that they hold from there.
        vectors: folder of a `VectorStore`, where a second run finds the vectors of the first.
        num_negatives, margin, pool, on_progress: see `mine`.

    Raises:
        VLM2VecError: as `mine`, `read_pairs` and `check_output`. StorageError: the output cannot be written.
    """
    check_output(path, out)
    pairs = read_pairs(path)
    store = VectorStore.open(vectors, embedder.dim)
    report, negatives = mine(
        pairs, embedder, store, num_negatives=num_negatives, margin=margin, pool=pool, on_progress=on_progress
    )
    _write_mined(path, out, negatives)
    return report


def mine(
    pairs: Sequence[Pair],
    embedder: Encoder,
    store: VectorStore,
    *,
    num_negatives: int = 4,
    margin: float = 0.05,
    pool: int = 100,
    on_progress: _OnProgress = lambda done, total: None,
) -> tuple[MiningReport, list[Numbers]]:
    """Find for each row the positives of other rows that score best against its query without being an answer to it.

    Candidates are the different positives of all rows by content. The positives of all rows with the same label or the
    same query are left out: they certainly answer the query. Of the rest the first `pool` ranks are looked at, less the
    negatives that the row has already, and less candidates that score above the row's own positive minus `margin`,
    which may well be answers. The best `num_negatives` that remain are taken; if fewer remain, these.

    Args:
        embedder: whose vectors are compared, by cosine.
        store: of its vectors, read and filled.
        on_progress: called with (items embedded, all items).

    Returns:
        The report, and for each row the rows (int64) whose positives are its negatives, best first.

    Raises:
        ConfigError: a setting is out of range, or the store cannot be used.
        DataError: there are fewer than two different positives.
        InputError, MediaError: an item cannot be embedded; the message begins with file and line.
    """
    if num_negatives < 1 or pool < 1 or not math.isfinite(margin):
        raise ConfigError(
            f"cannot mine {num_negatives} negatives in a pool of {pool} with margin {margin}: "
            "the first two must be at least 1, the margin a number (0.05 is usual)"
        )
    search = _Search(list(pairs), embedder, store, on_progress)
    for start in range(0, len(pairs), _ROWS_AT_ONCE):
        search.look(range(start, min(start + _ROWS_AT_ONCE, len(pairs))), num_negatives, margin, pool)
    return search.report(num_negatives), search.negatives


class _Search:
    """The queries of all rows, the candidates among which they search, and the negatives found so far.

    Attributes:
        negatives: for each row that has been looked at, the rows whose positives are its negatives.
    """

    def __init__(self, pairs: Sequence[Pair], embedder: Encoder, store: VectorStore, on_progress: _OnProgress) -> None:
        queries, positives, present = _contents(pairs)
        of_row, self._first_row = _numbered(positives)
        if len(self._first_row) < 2:
            raise DataError(
                f"cannot mine negatives among {len(self._first_row)} different positives: "
                "a query's negatives are positives of other rows, so there must be at least two"
            )
        self._answers = _Answers([pair.label for pair in pairs], queries, of_row)
        number_of = {positives[row]: candidate for candidate, row in enumerate(self._first_row)}
        self._present = [[number_of[key] for key in keys if key in number_of] for keys in present]
        self._queries_RD, positives_RD = _encode_all(pairs, embedder, store, on_progress)
        self._candidates_CD = positives_RD[self._first_row]
        cosines_R = np.einsum("rd,rd->r", self._queries_RD, positives_RD, dtype=np.float64)
        self._positive_R = cosines_R.astype(np.float32)
        self.negatives: list[Numbers] = []
        self._scores: list[Vectors] = []
        self._dropped_by_label = self._dropped_by_margin = 0

    def look(self, rows: range, num_negatives: int, margin: float, pool: int) -> None:
        """Find the negatives of the next rows."""
        exclude = [self._answers.of(row) for row in rows]
        ranked_RK, scores_RK = top_k(self._queries_RD[rows], self._candidates_CD, pool, exclude=exclude)
        for ranked, row in zip(ranked_RK, rows, strict=True):
            ranked[np.isin(ranked, self._present[row])] = -1
        chosen_RK, too_close_RK = _select_negatives(
            ranked_RK, scores_RK, self._positive_R[rows], num_negatives=num_negatives, margin=margin
        )
        self.negatives += [self._first_row[ranked[chosen]] for ranked, chosen in zip(ranked_RK, chosen_RK, strict=True)]
        self._scores.append(scores_RK[chosen_RK])
        self._dropped_by_label += sum(len(of_query) - 1 for of_query in exclude)
        self._dropped_by_margin += int(too_close_RK.sum())

    def report(self, num_negatives: int) -> MiningReport:
        scores = np.concatenate(self._scores)
        return MiningReport(
            rows=len(self._positive_R),
            candidates=len(self._first_row),
            negatives=len(scores),
            short_rows=sum(len(sources) < num_negatives for sources in self.negatives),
            dropped_by_label=self._dropped_by_label,
            dropped_by_margin=self._dropped_by_margin,
            positive_similarity=float(self._positive_R.mean(dtype=np.float64)),
            negative_similarity=float(scores.mean(dtype=np.float64)) if len(scores) else None,
        )


def _select_negatives(
    ranked_RK: Numbers, scores_RK: Vectors, positive_R: Vectors, *, num_negatives: int, margin: float
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Choose the first `num_negatives` ranked candidates of each row that do not score above `positive_R - margin`.

    Args:
        ranked_RK: candidates, best first; -1 for none.
        scores_RK: theirs.
        positive_R: score of each row's own positive.

    Returns:
        bool [R, K] each: which candidates become negatives, and which score too close to the positive.
    """
    there = ranked_RK >= 0
    too_close = there & (scores_RK > positive_R.astype(np.float64)[:, None] - margin)
    left = there & ~too_close
    return left & (left.cumsum(axis=1) <= num_negatives), too_close


def check_output(path: Path, out: Path) -> None:
    """Refuse an output that cannot be written, or that is the input, before any work is done.

    Raises:
        ConfigError: either of these.
    """
    if not out.absolute().parent.is_dir():
        raise ConfigError(f"cannot write {out}: there is no folder {out.absolute().parent}; make it first")
    if out.is_dir():
        raise ConfigError(f"cannot write {out}: it is a folder; give the name of a file")
    if out.exists() and path.exists() and out.samefile(path):
        raise ConfigError(f"{out} is the file that is read: give another one, so that the rows as they were are kept")


def _write_mined(path: Path, out: Path, negatives: Sequence[Numbers]) -> None:
    """Write the rows of `path`, with negatives added behind those that they have.

    Args:
        negatives: for each row the rows whose positives are its negatives.

    Raises:
        StorageError: the output cannot be written. DataError: the input has changed since it was read.
    """
    rows = JsonLines.open(path)
    if len(rows) != len(negatives):
        raise DataError(f"{path} has {len(rows)} rows now and had {len(negatives)}: it was changed; mine it again")
    prefix = _way(path, out)
    with writing(out), atomic_writer(out) as stream:
        for number, sources in enumerate(negatives):
            row: dict[str, Any] = rows[number]
            if len(sources):
                row["negatives"] = (row.get("negatives") or []) + [rows[i]["positive"] for i in sources.tolist()]
            if prefix != ".":
                row |= {key: _moved(row[key], prefix) for key in ("query", "positive", "negatives") if key in row}
            text = json.dumps(row, ensure_ascii=False)
            # Halves of a surrogate pair, which UTF-8 cannot hold, come out as JSON's own escape.
            stream.write(f"{text}\n".encode("utf-8", "backslashreplace"))


def _contents(pairs: Sequence[Pair]) -> tuple[list[bytes], list[bytes], list[list[bytes]]]:
    """Keys of each row's query, as it is asked, and of its positive and present negatives, by their content."""
    queries, positives, present = [], [], []
    for pair in pairs:
        try:
            queries.append(item_key(pair.query, fingerprint=""))
            positives.append(content_key(pair.positive))
            present.append([content_key(negative) for negative in pair.negatives])
        except VLM2VecError as error:
            raise error.of(pair.origin) from error
    return queries, positives, present


def _numbered(keys: Sequence[bytes]) -> tuple[Numbers, Numbers]:
    """The number of each key [N], in the order of first appearance, and where each number first appears [U]."""
    numbers: dict[bytes, int] = {}
    of_each = np.fromiter((numbers.setdefault(key, len(numbers)) for key in keys), np.int64, len(keys))
    return of_each, np.unique(of_each, return_index=True)[1].astype(np.int64)


class _Answers:
    """Which candidates certainly answer the query of a row: positives of rows of its label, or with its query."""

    def __init__(self, labels: Sequence[str | None], queries: Sequence[bytes], candidate_of: Numbers) -> None:
        self._labels = labels
        self._queries = queries
        self._by_label = _members(labels, candidate_of)
        self._by_query = _members(queries, candidate_of)

    def of(self, row: int) -> Numbers:
        """Candidates in rising order, the row's own positive among them."""
        label = self._labels[row]
        of_query = self._by_query[self._queries[row]]
        of_label = of_query if label is None else self._by_label[label]
        # A query of one row adds nothing to its label; the array is shared then, because labels may be large.
        return of_label if len(of_query) == 1 else np.union1d(of_label, of_query)


def _members(groups: Sequence[_Group | None], candidate_of: Numbers) -> dict[_Group, Numbers]:
    members: dict[_Group, set[int]] = {}
    for group, candidate in zip(groups, candidate_of.tolist(), strict=True):
        if group is not None:
            members.setdefault(group, set()).add(candidate)
    return {group: np.array(sorted(candidates), dtype=np.int64) for group, candidates in members.items()}


def _encode_all(
    pairs: Sequence[Pair], embedder: Encoder, store: VectorStore, on_progress: _OnProgress
) -> tuple[Vectors, Vectors]:
    """Queries and positives, [R, D] each, of length one."""
    asked = [(pair.query, Ask("query", pair.target), pair.origin) for pair in pairs]
    asked += [(pair.positive, Ask("document"), pair.origin) for pair in pairs]
    work = [
        Work(item_key(item, fingerprint=embedder.fingerprint, ask=ask), item, origin, ask)
        for item, ask, origin in asked
    ]
    EmbedJob(embedder, store).run(work, on_progress=lambda done, _: on_progress(done, len(work)), on_failure=Work.fail)
    vectors = store.get([one.key for one in work])[1]
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors /= np.where(lengths == 0, np.float32(1), lengths)
    return vectors[: len(pairs)], vectors[len(pairs) :]


def _way(path: Path, out: Path) -> str:
    """From the folder of `out` to that of `path`, along real folders, so that ".." leads where it seems to."""
    here, there = os.path.realpath(path.parent), os.path.realpath(out.parent)
    try:
        return Path(os.path.relpath(here, there)).as_posix()
    except ValueError:
        return here  # On another drive.


def _moved(part: object, prefix: str, *, is_path: bool = False) -> object:
    """An item of a row, or several, with the paths of its media as they hold from another folder."""
    if isinstance(part, dict):
        return {key: _moved(inner, prefix, is_path=key in ("image", "video")) for key, inner in part.items()}
    if isinstance(part, list):
        return [_moved(inner, prefix, is_path=is_path) for inner in part]
    return f"{prefix}/{part}" if is_path and isinstance(part, str) and not Path(part).is_absolute() else part
