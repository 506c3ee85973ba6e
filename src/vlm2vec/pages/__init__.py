"""How is a page written that needs nothing but itself?"""

from __future__ import annotations

from pathlib import Path

from vlm2vec.text import printable


def page(folder: Path, template: str, /, **values: object) -> str:
    """A page from a template, which may extend `base.html`: its colours are light or dark as the reader's system is.

    Every value is escaped, and shown as `printable` shows it. A value that the template names and nobody gives is an
    error.

    Args:
        folder: where the template and what it includes lie.
        template: its name there.
        values: its values by name.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader([folder, Path(__file__).parent]),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(values)


def _shown(value: object) -> object:
    # A text that knows its own markup was made by the template.
    return printable(value) if isinstance(value, str) and not hasattr(value, "__html__") else value
