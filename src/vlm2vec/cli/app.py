"""Which commands does `vlm2vec` have, and what becomes of their errors?"""

from __future__ import annotations

import gc
import importlib
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from vlm2vec.cli.output import fail, told
from vlm2vec.cores import share_cores
from vlm2vec.errors import VLM2VecError
from vlm2vec.processes import Launch, leave

_COMMANDS: dict[str, tuple[str, str]] = {
    "index": ("search", "Make or update the search index of a folder."),
    "search": ("search", "Find images, videos and pages by text, image, video or page."),
    "watch": ("watch", "Keep the index of a folder up to date."),
    "duplicates": ("duplicates", "List files that are equal, and pictures that are the same."),
    "embed": ("embed", "Print or save the vectors of files and texts."),
    "models": ("lists", "List the models that are known by name."),
    "train": ("train", "Train a model from a YAML configuration."),
    "ablate": ("train", "Train with sub-batches of several sizes and compare."),
    "mine": ("train", "Find hard negatives for training pairs."),
    "teach": ("train", "Cache what a larger model says of training pairs."),
    "evaluate": ("evaluate", "Measure a model on a benchmark."),
    "tasks": ("lists", "List the tasks of a benchmark."),
    "data": ("data", "Fetch a benchmark's data, or check that they are all there."),
    "report": ("evaluate", "Compare models on a benchmark by their scores."),
    "doctor": ("doctor", "Check the installation and say what to mend."),
}
"""For each command the file that holds its function, and its line in `vlm2vec --help`."""


class _LazyGroup(TyperGroup):
    """Imports a command's module only when that command runs, and turns a user's mistake into one line."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        # Enough for `--help`, which lists all commands.
        return TyperCommand(cmd_name, help=_COMMANDS[cmd_name][1]) if cmd_name in _COMMANDS else None

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and args[0] in _COMMANDS:
            return args[0], _load(args[0]), args[1:]
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except VLM2VecError as error:
            if ctx.params.get("debug"):
                raise
            fail(told(error))
            raise typer.Exit(2) from None


app = typer.Typer(cls=_LazyGroup, add_completion=False, pretty_exceptions_enable=False, no_args_is_help=True)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import PackageNotFoundError, version

        try:
            print(f"vlm2vec {version('vlm2vec')}")
        except PackageNotFoundError:
            print("vlm2vec, run from its source without being installed")
        raise typer.Exit


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Search your own images, videos and PDFs; embed, train and check models."""


def main() -> None:
    """Run the command line."""
    # Before a command imports torch.
    share_cores()
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            # File names and captions hold letters that a terminal's encoding may lack.
            stream.reconfigure(errors="replace")
    if hasattr(sys.stdin, "reconfigure"):
        # A line that is no text fails by itself, where it is embedded.
        sys.stdin.reconfigure(errors="surrogateescape")
    try:
        app(prog_name="vlm2vec")
    except SystemExit as ending:
        if Launch.own().size > 1:
            leave(ending.code)
        raise
    finally:
        # The interpreter would look once more through everything that torch has made, which takes a second.
        gc.freeze()


def _load(name: str) -> Any:
    module = importlib.import_module(f"vlm2vec.cli.{_COMMANDS[name][0]}")
    single = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    single.command(name)(getattr(module, name))
    return typer.main.get_command(single)
