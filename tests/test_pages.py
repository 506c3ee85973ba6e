"""Pages from templates: every value is shown as text, and none is forgotten."""

from __future__ import annotations

from pathlib import Path

import pytest
from jinja2 import UndefinedError

from vlm2vec.pages import page


def test_a_value_cannot_become_markup_and_is_printable_text(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text("{% macro bold(text) %}<b>{{ text }}\n</b>{% endmacro %}{{ bold(name) }}")
    assert page(tmp_path, "a.html", name="<i>\udcff\x1b") == "<b>&lt;i&gt;\ufffd\ufffd\n</b>"


def test_a_value_that_nobody_gives_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text("{{ name }}")
    with pytest.raises(UndefinedError, match="'name' is undefined"):
        page(tmp_path, "a.html", other="x")


def test_a_page_extends_the_base(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text(
        '{% extends "base.html" %}{% block style %}i { color: var(--soft); }{% endblock %}'
        "{% block body %}<i>{{ title }}</i>{% endblock %}"
    )
    made = page(tmp_path, "a.html", title="one & two")
    assert made.startswith("<!DOCTYPE html>\n")
    assert "<title>one &amp; two</title>" in made
    assert "i { color: var(--soft); }" in made
    assert made.endswith("<i>one &amp; two</i></body>\n</html>")
