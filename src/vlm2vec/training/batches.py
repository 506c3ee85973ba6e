"""How do a run's rows become packed batches, read ahead by worker processes?"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial

import torch
from torch.utils.data import DataLoader

from vlm2vec.data.collate import PairBatch, PairSteps, Rows
from vlm2vec.data.mixture import Schedule
from vlm2vec.errors import VLM2VecError
from vlm2vec.model.backbone import plan_packs
from vlm2vec.model.families.qwen_inputs import PackedBatch, QwenVLInput, QwenVLProcessor
from vlm2vec.training.config import TrainConfig
from vlm2vec.training.distillation import TeacherVectors
from vlm2vec.training.plan import RowInputs
from vlm2vec.vectors.keys import uninstructed_key, written_key


def batches_from(
    first_step: int,
    config: TrainConfig,
    schedule: Schedule,
    rows: Mapping[str, Rows],
    processor: QwenVLProcessor,
    teachers: Sequence[TeacherVectors],
    *,
    rank: int,
    world: int,
) -> Iterator[PairBatch[PackedBatch]]:
    """The batches of this process from a step to the last.

    Raises:
        VLM2VecError: no row of a source can be read.
    """
    inputs = RowInputs(config, processor)
    dataset: PairSteps[QwenVLInput, PackedBatch] = PairSteps(
        schedule,
        rows,
        inputs.query,
        inputs.document,
        partial(plan_packs, budget=config.token_budget or 2**62),
        PackedBatch.of,
        # Files are read for their content only where the loss compares contents.
        key=uninstructed_key if teachers or config.loss.mask_same_content else written_key,
        teachers=teachers,
        rank=rank,
        world=world,
    )
    if config.loader_workers:
        _allow_open_files()
    loader: DataLoader[PairBatch[PackedBatch] | VLM2VecError] = DataLoader(
        dataset,
        sampler=range(first_step, config.steps),
        batch_size=None,
        num_workers=config.loader_workers,
        # A prepared batch of pages may take a gigabyte.
        prefetch_factor=max(1, 4 // config.loader_workers) if config.loader_workers else None,
        worker_init_fn=_one_thread,
    )
    for batch in loader:
        if isinstance(batch, VLM2VecError):
            raise batch
        yield batch


def _one_thread(worker: int) -> None:
    # Two processes with several threads each on few cores take turns at slowing each other down.
    torch.set_num_threads(1)


def _allow_open_files() -> None:
    """Let this process hold as many files open as the system allows: each tensor from a worker is one until it is used.

    Four batches of some hundred packs pass the usual 1,024, and the loader would wait without end for a worker that
    cannot send.
    """
    if sys.platform != "win32":
        import resource

        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
