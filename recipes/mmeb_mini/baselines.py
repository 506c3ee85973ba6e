"""What do those score on mmeb-mini who know nothing? Chance, twelve by twelve pixels, and the model before training.

    python recipes/mmeb_mini/baselines.py      writes src/vlm2vec/mmeb_mini/baselines/   (two minutes on two cores)

- chance: the expected score of a random order, worked out exactly (`vlm2vec.vectors.metrics.chance_metrics`).
- 12x12 pixels: a medium is its picture, or the mean of its frames, drawn 12 pixels wide and high in colour; vectors are
  centred and compared by cosine. Texts have no pixels, so tasks with a text on either side alone are left out.
- untrained: the shape of `tiny` with transformers' initial values (seed 0), its tokenizer and its settings.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Generator, Iterable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from transformers import AutoConfig
from transformers.models.qwen2_vl.modeling_qwen2_vl import Qwen2VLModel

from vlm2vec.errors import VLM2VecError
from vlm2vec.evaluation.runner import evaluate
from vlm2vec.evaluation.scores import MODALITIES, DatasetScores, ModelScores, write_scores
from vlm2vec.items import ItemLike, as_item
from vlm2vec.media import load_frames
from vlm2vec.model.backbone import Ask, Vectors
from vlm2vec.model.embedder import Embedder
from vlm2vec.tasks.data import TaskData, TaskSpec
from vlm2vec.tasks.registry import get_tasks, packaged_root, parse_task
from vlm2vec.vectors.metrics import chance_metrics

BENCHMARK = "mmeb-mini"
SIDE_PX = 12
PIXELS_NOTE = "texts have no pixels, so it has scores only where queries and candidates are pictures or clips"
TINY = Path(__file__).parents[2] / "src" / "vlm2vec" / "tiny"


class Pixels:
    """A model that sees twelve by twelve pixels."""

    name, dim, fingerprint = "12x12 pixels", SIDE_PX * SIDE_PX * 3, "pixels 12x12, 1"

    def stream(
        self, items: Iterable[ItemLike], ask: Ask = Ask(), **options: object
    ) -> Generator[tuple[int, Vectors | VLM2VecError], None, None]:
        """One vector an item."""
        for position, item in enumerate(items):
            frames = load_frames(as_item(item).media[0], num_frames=8).images
            small = [np.asarray(frame.convert("RGB").resize((SIDE_PX, SIDE_PX)), np.float32) for frame in frames]
            vector = np.mean(small, axis=0).ravel()
            vector -= vector.mean()
            yield position, vector / max(float(np.linalg.norm(vector)), 1e-6)


def main() -> None:
    """Measure and write."""
    root = packaged_root(BENCHMARK)
    assert root is not None
    tasks = get_tasks(BENCHMARK)
    data = {task.name: parse_task(task, root) for task in tasks}
    folder = root / "baselines"
    _write(folder / "chance.json", "chance", None, tasks, {t.name: _chance(data[t.name]) for t in tasks})
    with tempfile.TemporaryDirectory() as work:
        seen = [task for task in tasks if _only_media(data[task.name])]
        for name, model, note, chosen in (
            ("pixels", Pixels(), PIXELS_NOTE, seen),
            ("untrained", _untrained(Path(work) / "model"), None, tasks),
        ):
            found = evaluate(model, chosen, out=Path(work) / name)
            if found.failures:
                sys.exit(f"{name}: {found.failures}")
            by_name = {task: one for datasets in found.scores.datasets.values() for task, one in datasets.items()}
            _write(folder / f"{name}.json", model.name, note, tasks, by_name)


def _chance(data: TaskData) -> DatasetScores:
    relevant = [data.relevant[query] for query in data.query_ids]
    return DatasetScores(chance_metrics(data.candidate_names, relevant, data.pools), len(relevant))


def _only_media(data: TaskData) -> bool:
    return all(item.media for item in (*data.queries, *data.candidates))


def _untrained(folder: Path) -> Embedder:
    torch.manual_seed(0)
    Qwen2VLModel(AutoConfig.from_pretrained(TINY)).save_pretrained(folder)
    for path in TINY.iterdir():
        if path.suffix == ".json" and not (folder / path.name).exists():
            shutil.copy(path, folder)
    embedder = Embedder.load(folder)
    embedder.name = "untrained"
    return embedder


def _write(path: Path, model: str, note: str | None, tasks: list[TaskSpec], scores: dict[str, DatasetScores]) -> None:
    by_modality: dict[str, dict[str, DatasetScores]] = {
        modality: {task.name: scores[task.name] for task in tasks if task.modality == modality and task.name in scores}
        for modality in MODALITIES
    }
    today = datetime.now(UTC).date().isoformat()
    write_scores(path, ModelScores(model, today, by_modality, benchmark=BENCHMARK, note=note))
    print(f"{path}: {len(scores)} datasets")


if __name__ == "__main__":
    main()
