"""What to do after an error, in the words of the command line."""

from __future__ import annotations

from collections.abc import Mapping

from vlm2vec.errors import Action, VLM2VecError

ON_COMMAND_LINE: Mapping[Action, str] = {
    "make_index": "'vlm2vec index FOLDER' makes one",
    "rebuild": "'vlm2vec index FOLDER --rebuild' makes it anew",
    "rebuild_with": "'vlm2vec index FOLDER --rebuild --model {about!r}' makes it anew",
    "other_index": "give another folder with --index",
    "other_model": "or name the first model with --model {about!r}",
    "other_out": "give another folder with --out",
    "other_data": "give another folder with --data",
    "other_path": "give another path",
    "resume": "continue it with --resume",
    "no_resume": "leave out --resume",
    "single_vectors": "or rank single vectors: leave out --late-interaction",
    "evaluate": "'vlm2vec evaluate --out {about}', with the options that it was begun with, continues it",
    "download": "'vlm2vec data download {about} --data FOLDER' fetches it",
    "allow_outside": "allow other places with --allow-outside",
    "list_tasks": "'vlm2vec tasks --benchmark {about}' lists all",
    "teach": "'vlm2vec teach' makes them",
    "processes": "start with 'vlm2vec train' or 'torchrun --nproc-per-node {about} -m vlm2vec train' ('accelerate "
    "launch' starts one process on a machine without GPU), or change 'processes'",
    "doctor": "'vlm2vec doctor' lists what this machine has",
    "extra": "install it: pip install 'vlm2vec[{about}]'",
}
"""What a hint means to a user of the command line; `{about}` stands for what it is about."""


def told(error: VLM2VecError) -> str:
    """What happened and what to do next, as a command prints it."""
    return error.worded(ON_COMMAND_LINE)
